"""One suite's part of summary.json: means, paired differences, flips, parts, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.compare import flips as flip
from harness.compare.corpus import CorpusFunction
from harness.compare.estimate import Estimated, Quantity, difference_of, estimate_all, mean_of
from harness.compare.missing import Missing, as_failures, at_worst, missing_of
from harness.compare.multiplicity import holm
from harness.compare.resample import ALPHA, Resampler
from harness.compare.seeds import spread
from harness.compare.table import Table, Tasks
from harness.runs.manifest import ScorerEntry
from harness.runs.pairs import Pair
from harness.runs.samples import TaskKey
from harness.runs.summary import (
    CleanNumbers,
    DifferenceEntry,
    Flips,
    MeanEntry,
    MetricMeans,
    MissingEntry,
    PairDifferences,
    Section,
    SectionDifference,
    SuiteSummary,
    WorstCase,
)

MIN_SECTION = 5
"""A category or difficulty with fewer tasks gets counts of flips, but no interval and no words."""

Scorers = Mapping[str, ScorerEntry]
SectionDifferences = dict[Section, dict[str, dict[str, SectionDifference]]]
"""Category or difficulty → its name → metric."""


@dataclass(frozen=True)
class CountedFailures:
    """A primary difference with pages that could not be measured counted as failures."""

    entry: DifferenceEntry
    overran: tuple[int, int]
    """How many such pages each model has."""
    others_missing: bool
    """Whether answers are missing that no page could be measured of."""


@dataclass
class SuiteNumbers:
    """What stays the same over all suites of one summary."""

    scorers: Scorers
    functions: Mapping[str, CorpusFunction]
    primary: Sequence[str]
    tasks: Tasks | None
    pairs: Sequence[Pair]
    resampler: Resampler

    def suite(
        self,
        table: Table,
        metrics: MetricMeans,
        pairs: PairDifferences,
        leaked: Sequence[str],
        clean: CleanNumbers | None,
    ) -> SuiteSummary:
        """Return one suite's part of the summary, without verdicts."""
        return SuiteSummary(
            tasks=len(table.tasks),
            units=table.units,
            metrics=metrics,
            pairs=pairs,
            flips=self._flips(table),
            parts=self._sections(table),
            outcomes={model: dict(sorted(count.items())) for model, count in table.outcomes.items()},
            finish_reasons={model: dict(sorted(count.items())) for model, count in table.finish_reasons.items()},
            leaked=tuple(leaked),
            clean=clean,
        )

    def numbers(self, table: Table) -> tuple[MetricMeans, PairDifferences]:
        """Return means and paired differences, with what the missing answers could do to them at worst."""
        means: list[tuple[str, str, Quantity]] = []
        differences: list[tuple[Pair, str, Quantity]] = []
        for metric, scorer in self.scorers.items():
            scale, function = scorer.scale, self.functions.get(metric)
            for model in table.models:
                cells = table.cells.get((model, metric))
                if cells is not None:
                    means.append((metric, model, mean_of(cells, scale, function, table.unit)))
            for pair in self.pairs:
                if metric in self.primary:  # behind the means: a model that was not asked has none
                    table.fill(metric, pair)
                left, right = table.cells.get((pair.first, metric)), table.cells.get((pair.second, metric))
                if left is not None and right is not None:
                    differences.append((pair, metric, difference_of(left, right, scale, function, table.unit)))
        quantities = [quantity for _, _, quantity in means] + [quantity for _, _, quantity in differences]
        results = estimate_all(quantities, self.resampler)
        by_metric: MetricMeans = {}
        by_pair: PairDifferences = {pair: {} for pair in self.pairs}
        for (metric, model, quantity), result in zip(means, results, strict=False):
            cells = table.cells[model, metric]
            by_metric.setdefault(metric, {})[model] = MeanEntry(
                mean=result.value,
                low=result.low,
                high=result.high,
                n=result.n,
                unscored=cells.unscored,
                method=result.method,
                pass_at=(flip.pass_at_k(cells, table.unit) if self._binary(metric) else {}) or None,
                seeds=spread(quantity.by_seed[-1]) if quantity.by_seed else None,
            )
        for (pair, metric, quantity), result in zip(differences, results[len(means) :], strict=True):
            missing, primary = missing_of(table, metric, *pair), metric in self.primary
            worst = None
            if primary and missing.any and result.value is not None:
                worst = self._worst_case(table, metric, pair, result.value)
            by_pair[pair][metric] = _difference(result, quantity, missing, primary, worst)
        return by_metric, by_pair

    def _worst_case(self, table: Table, metric: str, pair: Pair, value: float) -> WorstCase:
        """Return between which bounds the difference lies whatever the missing answers are, and whether it holds."""
        scale, function = self.scorers[metric].scale, self.functions.get(metric)
        best = 100.0 if scale == "percent" else 1.0
        sides = at_worst(table, metric, *pair, best)
        low, high = estimate_all(
            [difference_of(left, right, scale, function, table.unit) for left, right in sides], self.resampler
        )
        against = low if value > 0 else high
        assert low.value is not None and high.value is not None
        assert against.value is not None and against.p is not None
        holds = bool(against.p <= ALPHA and against.value * value > 0)
        return WorstCase(low=low.value, high=high.value, p=against.p, holds=holds)

    def as_failures(self, table: Table) -> dict[Pair, dict[str, CountedFailures]]:
        """Return, by pair, the primary differences with pages that could not be measured counted as failures.

        Only for pairs in which such pages differ in number between the models.
        """
        out: dict[Pair, dict[str, CountedFailures]] = {}
        for pair in self.pairs:
            both = [m for m in self.primary if {(model, m) for model in pair} <= table.cells.keys()]
            missing = {metric: missing_of(table, metric, *pair) for metric in both}
            if not any(found.overran_differ for found in missing.values()):
                continue
            quantities = []
            for metric in both:
                scale, function = self.scorers[metric].scale, self.functions.get(metric)
                left, right = as_failures(table, metric, *pair)
                quantities.append(difference_of(left, right, scale, function, table.unit))
            results = estimate_all(quantities, self.resampler)
            out[pair] = {
                metric: CountedFailures(
                    _difference(result, quantity, missing[metric], True).with_(missing=MissingEntry(), seeds=None),
                    (missing[metric].overran_first, missing[metric].overran_second),
                    missing[metric].others,
                )
                for metric, quantity, result in zip(both, quantities, results, strict=True)
            }
        return out

    def _binary(self, metric: str) -> bool:
        return self.scorers[metric].scale == "binary"

    def _labels(self, table: Table) -> dict[Section, list[str]]:
        known = [(self.tasks or {}).get(TaskKey(table.suite, task)) for task in table.tasks]
        return {section: [task.section(section) if task else "" for task in known] for section in flip.SECTIONS}

    def _flips(self, table: Table) -> dict[Pair, dict[str, Flips]]:
        labels = self._labels(table)
        out: dict[Pair, dict[str, Flips]] = {}
        for pair in self.pairs:
            found = out.setdefault(pair, {})
            for metric, scorer in self.scorers.items():
                left, right = table.cells.get((pair.first, metric)), table.cells.get((pair.second, metric))
                if left is None or right is None or not (self._binary(metric) or metric in self.primary):
                    continue
                found[metric] = flip.flips(left, right, scorer.scale, table.tasks, labels)
        return out

    def _sections(self, table: Table) -> dict[Pair, SectionDifferences]:
        """Return differences of the primary metrics by category and by difficulty; exploratory."""
        wanted: list[tuple[tuple[Pair, Section, str, str], Quantity]] = []
        for section, names in self._labels(table).items():
            labels = np.array(names)
            for name in sorted(set(names) - {""}):
                only = labels == name
                if only.sum() < MIN_SECTION:
                    continue
                for pair in self.pairs:
                    for metric in self.primary:
                        left, right = table.cells.get((pair.first, metric)), table.cells.get((pair.second, metric))
                        if left is None or right is None:
                            continue
                        scale, function = self.scorers[metric].scale, self.functions.get(metric)
                        quantity = difference_of(left, right, scale, function, table.unit, only)
                        wanted.append(((pair, section, name, metric), quantity))
        results = estimate_all([quantity for _, quantity in wanted], self.resampler)
        out: dict[Pair, SectionDifferences] = {p: {section: {} for section in flip.SECTIONS} for p in self.pairs}
        for pair, by_section in out.items():
            for section in by_section:
                own = [(k, r) for (k, _), r in zip(wanted, results, strict=True) if k[:2] == (pair, section)]
                adjusted = holm([result.p for _, result in own])
                for ((_, _, name, metric), result), p in zip(own, adjusted, strict=True):
                    by_section[section].setdefault(name, {})[metric] = SectionDifference(
                        difference=result.value, low=result.low, high=result.high, p=result.p, p_adjusted=p, n=result.n
                    )
        return out


def _difference(
    result: Estimated, quantity: Quantity, missing: Missing, primary: bool, worst_case: WorstCase | None = None
) -> DifferenceEntry:
    return DifferenceEntry(
        difference=result.value,
        low=result.low,
        high=result.high,
        p=result.p,
        n=result.n,
        dropped=missing.dropped,
        primary=primary,
        effect=result.effect,
        detectable=result.detectable,
        method=result.method,
        tasks=quantity.tasks,
        sides=quantity.sides,
        missing=MissingEntry(asked=missing.asked, first=missing.first, second=missing.second, notable=missing.notable),
        worst_case=worst_case,
        seeds=None if quantity.by_training is None else spread(quantity.by_training),
    )
