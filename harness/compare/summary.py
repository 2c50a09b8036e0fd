"""The whole content of summary.json from the rows of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.compare.corpus import corpus_function
from harness.compare.multiplicity import adjust_for_primaries
from harness.compare.resample import ALPHA, Resampler
from harness.compare.suite_numbers import CountedFailures, Scorers, SuiteNumbers
from harness.compare.table import Tasks, build_table
from harness.compare.verdict import Setting, findings_of, points, verdict
from harness.compare.wording import against_fewshot, caveats_of_suites, joined, plain
from harness.runs.manifest import CONTROL, ModelEntry, SuiteEntry
from harness.runs.model_name import family
from harness.runs.pairs import Pair, described, kinds_of, pairs_to_compare
from harness.runs.samples import SampleRecord, TaskKey
from harness.runs.summary import (
    CleanNumbers,
    DifferenceEntry,
    MainVerdict,
    Method,
    SectionDifference,
    SuiteSummary,
    Summary,
    Verdict,
)
from harness.runs.trained_on import trained_elsewhere

_SEED = 0
"""Of the resampling: the same rows give the same intervals."""


@dataclass(frozen=True)
class Described:
    """What a run's manifest says of what was measured."""

    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    """A model's kind decides the words."""
    suites: Mapping[str, SuiteEntry] = field(default_factory=dict)
    """A suite's `shift` and `reach` are said."""
    leaked: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The flagged held-out tasks by suite, for a second computation without them."""
    void: Mapping[TaskKey, Collection[str]] = field(default_factory=dict)
    """Metrics whose numbers on a task do not count, since the sides were not measured alike."""


def summarise(
    rows: Sequence[SampleRecord],
    scorers: Scorers,
    *,
    tasks: Tasks | None = None,
    pairs: Sequence[Pair] | None = None,
    replicates: int = 10_000,
    about: Described | None = None,
) -> Summary:
    """Return the content of summary.json: means, paired differences, flips and the verdict.

    `rows` are rows of samples.jsonl; `scorers` the manifest's mapping of this name; `tasks` gives category, difficulty
    and group of near-duplicates by (suite, task), `pairs` which models to hold against each other (first, second;
    trainings of one model by their family's name), `about` what else the manifest says of models and suites. The same
    arguments give the same result, bit for bit, in whatever order the rows come.
    """
    about = about or Described()
    rows = sorted(rows, key=lambda row: row.key)
    names = list(dict.fromkeys(family(row.model) for row in rows))
    kinds = kinds_of(described(names, about.models)) | kinds_of(about.models)
    chosen = pairs if pairs is not None else pairs_to_compare(about.models or described(names, {}))
    chosen = [pair for pair in chosen if {*pair} <= {*names}]
    primary = primary_metrics(rows, scorers)
    functions = {m: corpus_function(m) for m, s in scorers.items() if s.corpus and _has_counts(rows, m)}
    work = SuiteNumbers(scorers, functions, primary, tasks, chosen, Resampler(_SEED, replicates))
    tables = {
        suite: build_table(suite, rows, scorers, tasks_file=tasks, void=about.void)
        for suite in sorted({row.suite for row in rows})
    }
    trainings = dict.fromkeys(names, 1)
    for model, of_model in (item for table in tables.values() for item in table.trainings.items()):
        trainings[model] = max(trainings[model], len(of_model))
    numbers = {suite: work.numbers(table) for suite, table in tables.items()}
    adjust_for_primaries([differences for _, differences in numbers.values()])
    flagged = {suite: sorted(set(about.leaked.get(suite, ())) & set(table.tasks)) for suite, table in tables.items()}
    clean = {
        suite: work.numbers(
            build_table(suite, rows, scorers, without=flagged[suite], tasks_file=tasks, void=about.void)
        )
        for suite, table in tables.items()
        if 0 < len(flagged[suite]) < len(table.tasks)
    }
    adjust_for_primaries([differences for _, differences in clean.values()])
    without = {
        suite: CleanNumbers(metrics=metrics, pairs=differences) for suite, (metrics, differences) in clean.items()
    }
    found = {
        suite: work.suite(table, *numbers[suite], leaked=flagged[suite], clean=without.get(suite))
        for suite, table in tables.items()
    }
    failures = {suite: work.as_failures(table) for suite, table in tables.items()}
    verdicts = _Verdicts(found, failures, scorers, kinds, trainings, about)
    main = {pair: verdicts.of(pair, list(found)) for pair in chosen}
    return Summary(
        method=Method(
            alpha=ALPHA,
            seed=_SEED,
            replicates=replicates,
            correction="Holm over the primary metrics of all suites, by pair; all other metrics are exploratory",
        ),
        primary=tuple(primary),
        models=tuple(names),
        trainings=trainings,
        pairs=tuple(chosen),
        suites={
            suite: content.with_(verdicts={pair: verdicts.of(pair, [suite]) for pair in chosen})
            for suite, content in found.items()
        },
        verdicts=main,
        verdict=_main_verdict(main, chosen, kinds),
    )


def primary_metrics(rows: Sequence[SampleRecord], scorers: Scorers) -> list[str]:
    """Return the metrics that verdict and gate rest on: those marked so.

    Where no row has a number for `conforming` (the Nu Html Checker is not installed), `well_formed` takes its place.
    """
    marked = [metric for metric, scorer in scorers.items() if scorer.primary]
    if "conforming" in marked and "well_formed" in scorers and "well_formed" not in marked:
        measured = any(row.scores.get("conforming") is not None for row in rows)
        marked = marked if measured else ["well_formed" if m == "conforming" else m for m in marked]
    return marked


def _has_counts(rows: Sequence[SampleRecord], metric: str) -> bool:
    return any(row.counts.get(metric) is not None for row in rows)


@dataclass(frozen=True)
class _Verdicts:
    """The verdicts of one summary: what they need beside the differences."""

    suites: Mapping[str, SuiteSummary]
    failures: Mapping[str, Mapping[Pair, Mapping[str, CountedFailures]]]
    scorers: Scorers
    kinds: Mapping[str, str]
    trainings: Mapping[str, int]
    about: Described

    def of(self, pair: Pair, suites: Sequence[str]) -> Verdict:
        """Return the verdict on a pair over some suites."""
        differences = {suite: self.suites[suite].pairs[pair] for suite in suites}
        weak = [name for suite in suites for name in _worse_at(self.suites[suite].parts[pair]["category"])]
        entries = {suite: self.about.suites.get(suite, SuiteEntry()) for suite in suites}
        setting = Setting(
            kinds=(self.kinds[pair.first], self.kinds[pair.second]),
            trainings=(self.trainings[pair.first], self.trainings[pair.second]),
            worse_at=list(dict.fromkeys(weak)),
            transfer={
                suite: entry.shift.differs_in
                for suite, entry in entries.items()
                if entry.shift and entry.shift.told_apart
            },
            unmeasured=self._unmeasured(differences),
        )
        caveats = [
            *self._as_failures(pair, suites, setting),
            *trained_elsewhere(self.about.models, suites, pair),
            *caveats_of_suites(entries),
            *self._controls_above(pair, suites),
        ]
        return verdict(pair, findings_of(differences, self.scorers), replace(setting, caveats=caveats))

    def _label(self, metric: str) -> str:
        return self.scorers[metric].label or metric

    def _unmeasured(self, differences: Mapping[str, Mapping[str, DifferenceEntry]]) -> list[str]:
        """Name primary metrics that apply to a suite's tasks and have no number on both sides for any of them."""
        return [
            self._label(metric) + (f" on {suite}" if len(differences) > 1 else "")
            for suite, entries in differences.items()
            for metric, entry in entries.items()
            if entry.primary and entry.n == 0 and entry.missing.asked
        ]

    def _as_failures(self, pair: Pair, suites: Sequence[str], setting: Setting) -> list[str]:
        """Return the verdict as it were with the pages that could not be measured counted as failures."""
        counted = {suite: self.failures[suite][pair] for suite in suites if pair in self.failures[suite]}
        if not counted:
            return []
        differences: dict[str, dict[str, DifferenceEntry]] = {}
        for suite in suites:
            before = self.suites[suite].pairs[pair]
            if suite not in counted:
                differences[suite] = dict(before)
                continue
            differences[suite] = {
                # answers that never came stay missing, with the bounds that they had
                metric: failed.entry.with_(missing=before[metric].missing, worst_case=before[metric].worst_case)
                if failed.others_missing
                else failed.entry
                for metric, failed in counted[suite].items()
            }
        adjust_for_primaries([{pair: entries} for entries in differences.values()])
        failed = [one for metrics in counted.values() for one in metrics.values()]
        pages = [max(one.overran[side] for one in failed) for side in (0, 1)]
        said = verdict(pair, findings_of(differences, self.scorers), setting).sentence
        return [
            f"Pages that could not be measured: {pages[0]} of {pair.first}, {pages[1]} of {pair.second}. "
            f"Counted as failures: {said}"
        ]

    def _controls_above(self, pair: Pair, suites: Sequence[str]) -> list[str]:
        """Name the controls whose mean stands above both models' on a primary metric; the reference always does."""
        out = []
        for suite in suites:
            above: dict[str, list[str]] = {}
            for metric, entry in self.suites[suite].pairs[pair].items():
                if not entry.primary or entry.sides is None:
                    continue
                by = points(self.scorers[metric].scale)
                for model, of_model in self.suites[suite].metrics[metric].items():
                    if self.kinds[model] != CONTROL or model == "reference" or model in pair:
                        continue
                    if of_model.mean is not None and of_model.mean > max(entry.sides) + 1e-9:
                        sides = " and ".join(plain(side * by) for side in entry.sides)
                        above.setdefault(model, []).append(
                            f"{self._label(metric)} ({plain(of_model.mean * by)} against {sides})"
                        )
            if above:
                said = "; ".join(f"{model} in {joined(metrics)}" for model, metrics in above.items())
                where = f" on {suite}" if len(suites) > 1 else ""
                out.append(f"Pages that no model wrote for the task stand above both models{where}: {said}.")
        return out


def _worse_at(categories: Mapping[str, Mapping[str, SectionDifference]]) -> list[str]:
    """Return the categories where a primary metric is lower, after Holm over all categories and primary metrics."""

    def worse(entry: SectionDifference) -> bool:
        return entry.p_adjusted is not None and entry.p_adjusted <= ALPHA and (entry.difference or 0.0) < 0

    return [name for name, metrics in categories.items() if any(worse(entry) for entry in metrics.values())]


def _main_verdict(
    verdicts: Mapping[Pair, Verdict], pairs: Sequence[Pair], kinds: Mapping[str, str]
) -> MainVerdict | None:
    if not pairs:
        return None
    return MainVerdict(**dict(verdicts[pairs[0]]), fewshot=against_fewshot(verdicts, pairs[0].second, kinds))


__all__ = ["Described", "primary_metrics", "summarise"]
