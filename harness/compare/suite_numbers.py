"""One suite's part of summary.json: means, paired differences, flips, parts, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.compare import flips as flip
from harness.compare.corpus import CorpusFunction
from harness.compare.estimate import Estimated, Quantity, difference_of, estimate_all, mean_of
from harness.compare.missing import Missing, as_failures, at_worst, missing_of
from harness.compare.multiplicity import holm
from harness.compare.resample import ALPHA, Resampler
from harness.compare.seeds import spread
from harness.compare.table import Table, Tasks

MIN_PART = 5
"""A category or difficulty with fewer tasks gets counts of flips, but no interval and no words."""

Scorers = Mapping[str, Mapping[str, Any]]
Pair = tuple[str, str]


@dataclass
class SuiteNumbers:
    """What stays the same over all suites of one summary."""

    scorers: Scorers
    functions: Mapping[str, CorpusFunction]
    primary: Sequence[str]
    tasks: Tasks | None
    pairs: Sequence[Pair]
    resampler: Resampler

    def suite(self, table: Table) -> dict[str, Any]:
        """Return one suite's part of the summary."""
        return {
            "tasks": len(table.tasks),
            "units": table.units,
            **self.numbers(table),
            "flips": self._flips(table),
            "parts": self._parts(table),
            "outcomes": {model: dict(sorted(count.items())) for model, count in table.outcomes.items()},
            "finish_reasons": {model: dict(sorted(count.items())) for model, count in table.finish_reasons.items()},
        }

    def numbers(self, table: Table) -> dict[str, Any]:
        """Return means and paired differences, with what the missing answers could do to them at worst."""
        means: list[tuple[str, str, Quantity]] = []
        differences: list[tuple[Pair, str, Quantity]] = []
        for metric, scorer in self.scorers.items():
            scale, function = str(scorer["scale"]), self.functions.get(metric)
            for model in table.models:
                cells = table.cells.get((model, metric))
                if cells is not None:
                    means.append((metric, model, mean_of(cells, scale, function, table.unit)))
            for first, second in self.pairs:
                left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                if left is not None and right is not None:
                    quantity = difference_of(left, right, scale, function, table.unit)
                    differences.append(((first, second), metric, quantity))
        quantities = [quantity for _, _, quantity in means] + [quantity for _, _, quantity in differences]
        results = estimate_all(quantities, self.resampler)
        out: dict[str, Any] = {"metrics": {}, "pairs": {f"{a}:{b}": {} for a, b in self.pairs}}
        for (metric, model, quantity), result in zip(means, results, strict=False):
            cells = table.cells[model, metric]
            entry = _mean_entry(result, cells.unscored)
            shares = flip.pass_at_k(cells, table.unit) if self._binary(metric) else {}
            entry |= {"pass_at": shares} if shares else {}
            entry |= {"seeds": spread(quantity.by_seed[-1])} if quantity.by_seed else {}
            out["metrics"].setdefault(metric, {})[model] = entry
        for (pair, metric, quantity), result in zip(differences, results[len(means) :], strict=True):
            missing = missing_of(table, metric, *pair)
            entry = _difference_entry(result, quantity, missing, metric in self.primary)
            entry |= {"seeds": spread(quantity.by_seed[-1])} if quantity.by_seed else {}
            if metric in self.primary and missing.any and result.value is not None:
                entry["worst_case"] = self._worst_case(table, metric, pair, result.value)
            out["pairs"][":".join(pair)][metric] = entry
        return out

    def _worst_case(self, table: Table, metric: str, pair: Pair, value: float) -> dict[str, Any]:
        """Return between which bounds the difference lies whatever the missing answers are, and whether it holds."""
        scale, function = str(self.scorers[metric]["scale"]), self.functions.get(metric)
        best = 100.0 if scale == "percent" else 1.0
        sides = at_worst(table, metric, *pair, best)
        low, high = estimate_all(
            [difference_of(left, right, scale, function, table.unit) for left, right in sides], self.resampler
        )
        against = low if value > 0 else high
        assert low.value is not None and high.value is not None
        assert against.value is not None and against.p is not None
        return {
            "low": low.value,
            "high": high.value,
            "p": against.p,
            "holds": against.p <= ALPHA and against.value * value > 0,
        }

    def as_failures(self, table: Table) -> dict[str, dict[str, Any]]:
        """Return, by pair, the primary differences with pages that could not be measured counted as failures.

        Only for pairs in which such pages differ in number between the models.
        """
        out: dict[str, dict[str, Any]] = {}
        for pair in self.pairs:
            both = [m for m in self.primary if {(model, m) for model in pair} <= table.cells.keys()]
            missing = {metric: missing_of(table, metric, *pair) for metric in both}
            if not any(found.overran_differ for found in missing.values()):
                continue
            quantities = []
            for metric in both:
                scale, function = str(self.scorers[metric]["scale"]), self.functions.get(metric)
                left, right = as_failures(table, metric, *pair)
                quantities.append(difference_of(left, right, scale, function, table.unit))
            results = estimate_all(quantities, self.resampler)
            out[":".join(pair)] = {
                metric: {
                    **_difference_entry(result, quantity, missing[metric], True),
                    "missing": {},
                    "overran": [missing[metric].overran_first, missing[metric].overran_second],
                    "others_missing": missing[metric].others,
                }
                for metric, quantity, result in zip(both, quantities, results, strict=True)
            }
        return out

    def _binary(self, metric: str) -> bool:
        return bool(self.scorers[metric]["scale"] == "binary")

    def _labels(self, table: Table) -> dict[str, list[str]]:
        return {part: [flip.part_of(table.suite, t, part, self.tasks) for t in table.tasks] for part in flip.PARTS}

    def _flips(self, table: Table) -> dict[str, Any]:
        labels = self._labels(table)
        out: dict[str, Any] = {}
        for first, second in self.pairs:
            found = out.setdefault(f"{first}:{second}", {})
            for metric, scorer in self.scorers.items():
                left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                if left is None or right is None or not (self._binary(metric) or metric in self.primary):
                    continue
                found[metric] = flip.flips(left, right, str(scorer["scale"]), table.tasks, labels)
        return out

    def _parts(self, table: Table) -> dict[str, Any]:
        """Return differences of the primary metrics by category and by difficulty; exploratory."""
        wanted: list[tuple[tuple[str, str, str, str], Quantity]] = []
        for part, names in self._labels(table).items():
            labels = np.array(names)
            for name in sorted(set(names) - {""}):
                only = labels == name
                if only.sum() < MIN_PART:
                    continue
                for first, second in self.pairs:
                    for metric in self.primary:
                        left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                        if left is None or right is None:
                            continue
                        scale, function = str(self.scorers[metric]["scale"]), self.functions.get(metric)
                        quantity = difference_of(left, right, scale, function, table.unit, only)
                        wanted.append(((f"{first}:{second}", part, name, metric), quantity))
        results = estimate_all([quantity for _, quantity in wanted], self.resampler)
        out: dict[str, Any] = {f"{a}:{b}": {part: {} for part in flip.PARTS} for a, b in self.pairs}
        for ((pair, part, name, metric), _), result in zip(wanted, results, strict=True):
            entry = {
                "difference": result.value,
                "low": result.low,
                "high": result.high,
                "p": result.p,
                "p_adjusted": None,
                "n": result.n,
            }
            out[pair][part].setdefault(name, {})[metric] = entry
        for by_part in out.values():
            for names in by_part.values():
                holm([entry for metrics in names.values() for entry in metrics.values()])
        return out


def _mean_entry(result: Estimated, unscored: int) -> dict[str, Any]:
    return {
        "mean": result.value,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "unscored": unscored,
        "method": result.method,
    }


def _difference_entry(result: Estimated, quantity: Quantity, missing: Missing, primary: bool) -> dict[str, Any]:
    return {
        "difference": result.value,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "p_adjusted": None,
        "n": result.n,
        "dropped": missing.dropped,
        "primary": primary,
        "effect": result.effect,
        "detectable": result.detectable,
        "method": result.method,
        "tasks": quantity.tasks,
        "sides": None if quantity.sides is None else list(quantity.sides),
        "missing": {
            "asked": missing.asked,
            "first": missing.first,
            "second": missing.second,
            "notable": missing.notable,
        },
    }
