"""The table so far: the untuned models against each other, printed once they are measured and a tuned one is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.pipeline.model_under_test import ModelUnderTest
from harness.pipeline.suite_records import task_records
from harness.progress.schedule import Schedule
from harness.runs.manifest import TUNED, Manifest
from harness.runs.run import Run
from harness.runs.samples import SampleRecord

_SOON = 10.0
"""Seconds: with less than that to go, the whole answer is waited for."""


@dataclass
class EarlyTable:
    """Says of each suite once what is known before the tuned models' rows are there; nothing of it is written.

    A shard says nothing: its tasks are a part of those that the answer is about.

    Args:
        plan: What is measured.
        candidates: The models.
        manifest: The run's, as it begins.
        folder: The run's.
        schedule: How long the run still takes.
        console: Where to print.
    """

    plan: RunPlan
    candidates: Sequence[ModelUnderTest]
    manifest: Manifest
    folder: Path
    schedule: Schedule
    console: Console
    _looked_at: set[str] = field(default_factory=set)

    def look(self, part: MeasuredSuite, rows: Sequence[SampleRecord]) -> None:
        """Look at the rows of a suite that there are so far, and print their table if it is time."""
        untuned = [one for one in self.candidates if one.spec.kind != TUNED]
        tuned = [one for one in self.candidates if one.spec.kind == TUNED]
        if part.shard is not None or len(untuned) < 2 or part.suite.name in self._looked_at:
            return
        there = Counter(row.model for row in rows)

        def lacking(models: Sequence[ModelUnderTest]) -> list[str]:
            count = len(part.own)
            found = (one.spec.name for one in models if there[one.generator.name] < count * one.generator.samples)
            return [*dict.fromkeys(found)]

        missing = lacking(tuned)
        if lacking(untuned) or not missing:
            return
        self._looked_at.add(part.suite.name)
        left = self.schedule.left()
        if left is None or left.unknown or left.seconds >= _SOON:
            names = {one.generator.name for one in untuned}
            self._print(part, [row for row in rows if row.model in names], missing)

    def _print(self, part: MeasuredSuite, rows: Sequence[SampleRecord], missing: Sequence[str]) -> None:
        from harness.compare import Described, primary_metrics, summarise
        from harness.report import print_interim
        from harness.runs.pairs import pairs_to_compare

        known = {row.model for row in rows}
        models = {name: entry for name, entry in self.manifest.models.items() if name in known}
        primary = primary_metrics(rows, self.manifest.scorers)
        scorers = {name: self.manifest.scorers[name].with_(primary=True) for name in primary}
        tasks = {task.key: task for task in task_records([part])}
        about = Described(models, self.manifest.suites, self.manifest.flagged)
        summary = summarise(rows, scorers, tasks=tasks, pairs=pairs_to_compare(models), about=about)
        manifest = self.manifest.with_(models=models, scorers=scorers)
        run = Run(self.folder, manifest, list(rows), tasks, summary)
        print_interim(run, part.suite.name, " and ".join(missing), self.console)
