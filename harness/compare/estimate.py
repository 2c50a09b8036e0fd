"""Means and paired differences with their intervals, all metrics of a comparison in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.compare.corpus import CorpusFunction, Term, corpus_pivot, corpus_value, unit_differences
from harness.compare.exact import (
    agreeing,
    common_value,
    few_bounds,
    few_share,
    hardly_differ,
    rounded,
    sign_flip_p,
    towards_ends,
)
from harness.compare.paired import bonett_price, group_flips, mcnemar_exact, wilson
from harness.compare.power import FEWEST, detectable_mcnemar, detectable_mean
from harness.compare.resample import ALPHA, Floats, Pivot, Resampler, mean_pivots
from harness.compare.seeds import SeededPivot
from harness.compare.table import Cells, Mask, by_unit
from harness.runs.summary import Effect

_Z_POWER = 0.8416
"""The 80 % quantile of the standard normal."""


@dataclass(frozen=True)
class Quantity:
    """What is to be estimated: a mean (one side) or a paired difference (two sides, second minus first)."""

    values: Floats
    """By unit (a task, or a group of near-duplicates), the mean over its tasks, samples and trainings; for a
    difference the second side's less the first's."""
    floor: float
    ceiling: float
    """The range that the estimate cannot leave."""
    yes_no: bool = False
    """Every task has one yes or no on each side: counts of yes, or of flips, say all."""
    difference: bool = False
    by_seed: tuple[Floats, ...] = ()
    terms: tuple[Term, ...] = ()
    function: CorpusFunction | None = None
    tasks: int = 0
    """How many tasks the units hold."""
    sides: tuple[float, float] | None = None
    """Of a difference: both sides' estimates over the same units."""
    by_training: Floats | None = None
    """Of a difference in which a side was trained several times: of each training (of the second side's, where both
    were) to the other side's estimate."""

    @property
    def grouped(self) -> bool:
        """Whether some unit holds several tasks."""
        return self.tasks > len(self.values)


@dataclass(frozen=True)
class Estimated:
    """The estimate, its 95 % interval, and for differences a p-value, an effect size and what could have been shown.

    For a difference p ≤ 0.05 exactly where the interval leaves 0 out.
    """

    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect: Effect | None = None
    detectable: float | None = None
    method: str = ""


def mean_of(cells: Cells, scale: str, function: CorpusFunction | None, unit: NDArray[np.int64]) -> Quantity:
    """Return the mean of one model's metric over the units that have a number; `unit` numbers each task's."""
    keep = cells.scored
    values = by_unit(cells.values[keep], unit[keep])
    terms, by_seed = _corpus_terms([(1.0, cells)], keep, function, unit)
    if not terms and values.shape[1] > 1:
        by_seed = (values.mean(axis=0),) if len(values) else ()
    ceiling = 100.0 if scale == "percent" else 1.0
    yes_no = scale == "binary" and cells.single
    of_units = values.mean(axis=1)
    used = function if terms else None
    return Quantity(of_units, 0.0, ceiling, yes_no, False, by_seed, terms, used, int(keep.sum()))


def difference_of(
    first: Cells,
    second: Cells,
    scale: str,
    function: CorpusFunction | None,
    unit: NDArray[np.int64],
    only: Mask | None = None,
) -> Quantity:
    """Return second − first over the units with a number on both sides; `only` is a mask of tasks, for parts."""
    keep = first.scored & second.scored
    if only is not None:
        keep = keep & only
    left, right = (by_unit(side.values[keep], unit[keep]) for side in (first, second))
    terms, by_seed = _corpus_terms([(-1.0, first), (1.0, second)], keep, function, unit)
    sides = by_training = None
    if len(left):
        if not terms:
            by_seed = tuple(side.mean(axis=0) for side in (left, right) if side.shape[1] > 1)
            sides = float(left.mean()), float(right.mean())
        else:
            assert function is not None
            lower, upper = ([term for term in terms if np.sign(term[0]) == sign] for sign in (-1, 1))
            sides = -corpus_value(lower, function), corpus_value(upper, function)
        if by_seed:
            by_training = by_seed[-1] - sides[0] if right.shape[1] > 1 else sides[1] - by_seed[-1]
    span = 100.0 if scale == "percent" else 1.0
    yes_no = scale == "binary" and first.single and second.single
    values = right.mean(axis=1) - left.mean(axis=1)
    used = function if terms else None
    return Quantity(values, -span, span, yes_no, True, by_seed, terms, used, int(keep.sum()), sides, by_training)


def _corpus_terms(
    sides: Sequence[tuple[float, Cells]], keep: Mask, function: CorpusFunction | None, unit: NDArray[np.int64]
) -> tuple[tuple[Term, ...], tuple[Floats, ...]]:
    """Return the terms of a corpus metric, each training's share apart, and each side's value by training."""
    if function is None or not keep.any() or any(cells.counts is None for _, cells in sides):
        return (), ()
    terms: list[Term] = []
    by_seed: list[Floats] = []
    for sign, cells in sides:
        counts = by_unit(cells.mean_counts[keep], unit[keep])
        seeds = counts.shape[1]
        terms += [(sign / seeds, counts[:, seed]) for seed in range(seeds)]
        if seeds > 1:
            by_seed.append(np.array([corpus_value([(1.0, counts[:, seed])], function) for seed in range(seeds)]))
    return tuple(terms), tuple(by_seed)


def estimate_all(quantities: Sequence[Quantity], resampler: Resampler) -> list[Estimated]:
    """Estimate every quantity; those over equally many units share one resampling."""
    plain = [q for q in quantities if len(q.values) and not _counted(q) and not q.terms]
    pivots = dict(zip(map(id, plain), mean_pivots([q.values for q in plain], resampler), strict=True))
    return [_estimate(q, pivots.get(id(q)), resampler) for q in quantities]


def _counted(quantity: Quantity) -> bool:
    """Whether counts of yes or of flips say all; the mean of groups of tasks is resampled instead."""
    return quantity.yes_no and (quantity.difference or not quantity.grouped)


def _estimate(quantity: Quantity, pivot: Pivot | None, resampler: Resampler) -> Estimated:
    n = len(quantity.values)
    if n == 0:
        return Estimated(0)
    if _counted(quantity):
        if not quantity.difference:
            return _share(quantity.values)
        return _group_flips(quantity.values) if quantity.grouped else _flips(quantity.values)
    if quantity.function is not None:
        pivot = corpus_pivot(quantity.terms, quantity.function, resampler)
    assert pivot is not None
    span = quantity.ceiling - quantity.floor
    spread = rounded(quantity.values if pivot.influence is None else pivot.influence * n, span)
    few = hardly_differ(spread)
    bounds, method = pivot.bounds(), "studentised bootstrap over tasks"
    unseen = 0.0
    nothing_seen = (few and common_value(spread)[1] == 0) or pivot.se == 0 or bounds[0] == bounds[1]
    if nothing_seen or not np.isfinite(bounds[1]):
        if not few and pivot.shifts is not None and pivot.shifts.any():
            bounds, method = _tailed(quantity, pivot, n), "bootstrap over tasks, Clopper-Pearson over those not seen"
        else:
            bounds, method = _few(quantity, pivot, spread), "Clopper-Pearson over the tasks that differ at all"
        unseen = (bounds[1] - bounds[0]) / 2
    whole = SeededPivot(pivot, quantity.by_seed) if quantity.by_seed else pivot
    low, high = whole.bounds(of_tasks=bounds) if isinstance(whole, SeededPivot) else bounds
    method += ", t over trainings" if quantity.by_seed else ""
    low, high = max(low, quantity.floor), min(high, quantity.ceiling)
    if not quantity.difference:
        return Estimated(n, pivot.estimate, low, high, method=method)
    p = _exact_p(quantity, pivot, span) if few else None
    if p is None:
        p = whole.p_value()
    else:
        method += ", exact sign-flip test"
        p = whole.exact_p(p) if isinstance(whole, SeededPivot) else p
    # the widest of what the sample could not see: known before the test cuts the interval off at 0
    detectable = _detectable(whole, n, unseen)
    low, high = agreeing(pivot.estimate, low, high, p)
    sd = pivot.se * n**0.5
    dz = pivot.estimate / sd if sd > 1e-9 * abs(pivot.estimate) else None
    effect = Effect(name="cohen_dz", value=dz) if dz is not None else None
    return Estimated(n, pivot.estimate, low, high, p, effect, detectable, method)


def _few(quantity: Quantity, pivot: Pivot, spread: Floats) -> tuple[float, float]:
    """The interval where no spread is known; for a corpus its units weigh alike, to first order."""
    if pivot.influence is None:
        return few_bounds(spread, quantity.floor, quantity.ceiling)
    return towards_ends(pivot.estimate, few_share(spread), quantity.floor, quantity.ceiling)


def _tailed(quantity: Quantity, pivot: Pivot, n: int) -> tuple[float, float]:
    """The interval where all units differ, but by so little in many resamples that these have no standard error.

    So the BLEU of a model that writes next to nothing, which its brevity makes some thousandths: what the resamples
    show, and at least what a kind of unit that none of `n` is could move, were it at the end of the range.
    """
    assert pivot.shifts is not None
    shown = pivot.estimate + np.quantile(pivot.shifts, (ALPHA / 2, 1 - ALPHA / 2))
    low, high = towards_ends(pivot.estimate, few_share(np.zeros(n)), quantity.floor, quantity.ceiling)
    return min(float(shown[0]), low), max(float(shown[1]), high)


def _exact_p(quantity: Quantity, pivot: Pivot, span: float) -> float | None:
    """Return the exact p where hardly any unit differs from the others; None where it cannot be had."""
    if quantity.function is None:
        return sign_flip_p(rounded(quantity.values, span))
    values = rounded(unit_differences(quantity.terms, quantity.function), span)
    if float(values.sum()) * pivot.estimate < 0:
        return 1.0  # units taken one by one point the other way: nothing is shown
    return sign_flip_p(values)


def _detectable(pivot: Pivot | SeededPivot, n: int, unseen: float) -> float | None:
    """Return the smallest difference found with 80 % power; over trainings, half the interval plus z(0.8) · se."""
    if unseen:
        # no spread was seen: what the units not seen may hold is all that is known
        return unseen + (_Z_POWER * pivot.se if isinstance(pivot, SeededPivot) else 0.0)
    if isinstance(pivot, Pivot):
        if n < FEWEST:
            return None
        found = pivot.detectable() if pivot.errors is not None else detectable_mean(pivot.se * n**0.5, n)
        return found if np.isfinite(found) else None
    low, high = pivot.bounds()
    return (high - low) / 2 + _Z_POWER * pivot.se


def _share(values: Floats) -> Estimated:
    n, yes = len(values), int(values.sum())
    low, high = wilson(yes, n)
    return Estimated(n, yes / n, low, high, method="Wilson")


def _flips(values: Floats) -> Estimated:
    n, gained, lost = len(values), int((values > 0).sum()), int((values < 0).sum())
    estimate, p = (gained - lost) / n, mcnemar_exact(gained, lost)
    low, high = agreeing(estimate, *bonett_price(gained, lost, n), p)
    effect = Effect(name="cohen_g", value=gained / (gained + lost) - 0.5) if gained + lost else None
    detectable = detectable_mcnemar((gained + lost) / n, n)
    reach = detectable if detectable <= 1 else None
    return Estimated(n, estimate, low, high, p, effect, reach, "Bonett-Price, exact McNemar")


def _group_flips(values: Floats) -> Estimated:
    """Flips of a yes/no metric whose units are groups of tasks: each group weighs as one."""
    n = len(values)
    estimate = float(values.mean())
    p = sign_flip_p(rounded(values, 2.0))
    low, high = group_flips(values)
    if p is None:
        from scipy.stats import ttest_1samp

        p = float(ttest_1samp(values, 0.0).pvalue)
    low, high = agreeing(estimate, low, high, p)
    sd = float(np.concatenate([values, [1.0, -1.0]]).std(ddof=1))
    reach = detectable_mean(sd, n)
    gained, lost = int((values > 0).sum()), int((values < 0).sum())
    effect = Effect(name="cohen_g", value=gained / (gained + lost) - 0.5) if gained + lost else None
    method = "Bonett-Price over groups, exact sign-flip test"
    return Estimated(n, estimate, low, high, p, effect, reach if reach <= 1 else None, method)
