"""The table so far: the untuned models against each other, printed once they are measured and a tuned one is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from harness.pipeline.config import MeasuredSuite
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
        manifest: The run's, as it begins.
        samples: By model, how many answers each task gets of it.
        schedule: How long the run still takes.
        folder: The run's.
        console: Where to print.
    """

    manifest: Manifest
    samples: Mapping[str, int]
    schedule: Schedule
    folder: Path
    console: Console
    _looked_at: set[str] = field(default_factory=set)

    def look(self, part: MeasuredSuite, rows: Sequence[SampleRecord]) -> None:
        """Look at the rows of a suite that there are so far, and print their table if it is time."""
        tuned = [name for name in self.samples if self.manifest.models[name].kind == TUNED]
        untuned = [name for name in self.samples if name not in tuned]
        if part.shard is not None or len(untuned) < 2 or part.suite.name in self._looked_at:
            return
        there = Counter(row.model for row in rows)

        def lacking(models: Iterable[str]) -> list[str]:
            return [name for name in models if there[name] < len(part.own) * self.samples[name]]

        missing = lacking(tuned)
        if lacking(untuned) or not missing:
            return
        self._looked_at.add(part.suite.name)
        left = self.schedule.left()
        if left is None or left.unknown or left.seconds >= _SOON:
            self._print(part, [row for row in rows if row.model in untuned], missing)

    def _print(self, part: MeasuredSuite, rows: Sequence[SampleRecord], missing: Sequence[str]) -> None:
        from harness.compare import Described, primary_metrics, summarise
        from harness.report import print_interim
        from harness.runs.pairs import pairs_to_compare

        models = {name: self.manifest.models[name] for name in dict.fromkeys(row.model for row in rows)}
        primary = primary_metrics(rows, self.manifest.scorers)
        scorers = {name: self.manifest.scorers[name].with_(primary=True) for name in primary}
        tasks = {task.key: task for task in task_records([part])}
        about = Described(models, self.manifest.suites, self.manifest.flagged)
        summary = summarise(rows, scorers, tasks=tasks, pairs=pairs_to_compare(models), about=about)
        so_far = self.manifest.with_(models=models, scorers=scorers)
        families = dict.fromkeys(self.manifest.models[name].family or name for name in missing)
        print_interim(
            Run(self.folder, so_far, list(rows), tasks, summary), part.suite.name, " and ".join(families), self.console
        )
