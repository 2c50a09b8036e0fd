"""A run as its files tell it: what the comparison, the report and the votes rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.runs.manifest import Manifest, ModelEntry, ScorerEntry
from harness.runs.model_name import family
from harness.runs.pairs import Pair, described, pairs_to_compare
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord
from harness.runs.summary import DifferenceEntry, SuiteSummary, Summary
from harness.runs.votes import Agreement
from harness.types import CONTROL_NAMES

_ORDER = ("base", "base-fewshot", "tuned")
_MAIN = Pair("base", "tuned")
KINDS = {
    "form": "Form",
    "content": "Content",
    "similarity": "Likeness to the reference",
    "render": "In the browser",
    "other": "Other",
}
"""Kinds of metrics with their titles, in the order in which they are shown."""


@dataclass(frozen=True)
class Run:
    """What `reports/<run>/` holds, as it was written; nothing is recomputed."""

    path: Path
    """Its folder, or a file of frozen scores."""
    manifest: Manifest
    rows: list[SampleRecord] = field(default_factory=list)
    tasks: dict[TaskKey, TaskRecord] = field(default_factory=dict)
    summary: Summary = field(default_factory=Summary)
    agreement: Agreement = field(default_factory=Agreement)

    @cached_property
    def name(self) -> str:
        """The run's name: from its manifest, else its folder's."""
        return self.manifest.run or (self.path.stem if self.path.is_file() else self.path.name)

    @cached_property
    def families(self) -> list[str]:
        """The models that answered, trainings of one model under one name."""
        return list(dict.fromkeys(family(row.model) for row in self.rows))

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of models that the run's verdicts speak of, the most important first."""
        known = self.manifest.models or self.about_families
        return [pair for pair in pairs_to_compare(known) if {*pair} <= {*self.families}]

    @property
    def about_families(self) -> dict[str, ModelEntry]:
        """By the name under which a model is compared, its entry in the manifest, of several trainings the first's."""
        entries: dict[str, ModelEntry] = {}
        for name, entry in self.manifest.models.items():
            entries.setdefault(entry.family or family(name), entry)
        return described(self.families, entries)

    @cached_property
    def suites(self) -> list[str]:
        """Names of the measured suites, in the order of the summary."""
        names = list(self.summary.suites)
        return names + sorted({key.suite for key in self.tasks} - set(names))

    @cached_property
    def models(self) -> list[str]:
        """Names of all models: base, few-shot base, tuned, then others as they come, controls last."""
        seen = dict.fromkeys(self.manifest.models)
        for row in self.rows:
            seen.setdefault(row.model)
        for suite in self.suites:
            for models in self.suite(suite).metrics.values():
                seen.update(dict.fromkeys(models))
        names = list(seen)

        def place(name: str) -> tuple[int, int]:
            if name in _ORDER:
                return 0, _ORDER.index(name)
            if self.manifest.is_control(name):
                return 2, CONTROL_NAMES.index(name) if name in CONTROL_NAMES else len(CONTROL_NAMES)
            return 1, names.index(name)

        return sorted(names, key=place)

    @cached_property
    def metrics(self) -> dict[str, ScorerEntry]:
        """The metrics as they are shown, by kind, else in the scorers' order; each with a label and a known kind."""
        unknown = ScorerEntry(kind="other", scale="percent")
        known = dict(self.manifest.scorers)
        for suite in self.suites:
            for name in self.suite(suite).metrics:
                known.setdefault(name, unknown)
            for metrics in self.suite(suite).pairs.values():
                known |= {name: unknown for name in metrics if name not in known}
        primary = self.summary.primary
        found = {
            name: entry.with_(
                label=entry.label or name,
                kind=entry.kind if entry.kind in KINDS else "other",
                # The comparison has the last word: it puts another metric in the place of one that no tool measured.
                primary=entry.primary if primary is None else name in primary,
            )
            for name, entry in known.items()
        }
        return dict(sorted(found.items(), key=lambda item: list(KINDS).index(item[1].kind)))

    def suite(self, name: str) -> SuiteSummary:
        """The summary of one suite, empty where there is none."""
        return self.summary.suites.get(name) or SuiteSummary()

    def pair(self, suite: str) -> Pair | None:
        """The pair that the suite's verdict speaks of, base and tuned where there is one; None without any pair."""
        pairs = self.suite(suite).pairs
        named = self.summary.verdict.pair if self.summary.verdict else None
        if named in pairs:
            return named
        return _MAIN if _MAIN in pairs else next(iter(pairs), None)

    def differences(self, suite: str) -> dict[str, DifferenceEntry]:
        """The differences of the suite's pair by metric; none without a pair."""
        pair = self.pair(suite)
        return {} if pair is None else self.suite(suite).pairs.get(pair, {})
