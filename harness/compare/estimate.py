"""Means and paired differences with their intervals, all metrics of a comparison in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.compare.corpus import CorpusFunction, Term, corpus_pivot, corpus_value
from harness.compare.paired import bonett_price, mcnemar_exact, wilson
from harness.compare.power import FEWEST, detectable_mcnemar, detectable_mean
from harness.compare.resample import ALPHA, Floats, Pivot, Resampler, mean_pivots
from harness.compare.seeds import SeededPivot
from harness.compare.table import Cells

_Z_POWER = 0.8416
"""The 80 % quantile of the standard normal."""


@dataclass(frozen=True)
class Quantity:
    """What is to be estimated: a mean (one side) or a paired difference (two sides, second minus first)."""

    values: Floats
    """By task, the mean over samples and trainings; for a difference the second side's less the first's."""
    floor: float
    ceiling: float
    """The range that the estimate cannot leave."""
    yes_no: bool = False
    """Every task has one yes or no on each side: counts of yes, or of flips, say all."""
    difference: bool = False
    by_seed: tuple[Floats, ...] = ()
    terms: tuple[Term, ...] = ()
    function: CorpusFunction | None = None


@dataclass(frozen=True)
class Estimated:
    """The estimate, its 95 % interval, and for differences a p-value, an effect size and what could have been shown."""

    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    effect: dict[str, object] | None = None
    detectable: float | None = None
    method: str = ""


def mean_of(cells: Cells, scale: str, function: CorpusFunction | None) -> Quantity:
    """Return the mean of one model's metric over the tasks that have a number."""
    keep = cells.scored
    values = cells.values[keep]
    terms, by_seed = _corpus_terms([(1.0, cells)], keep, function)
    if not terms and values.shape[1] > 1:
        by_seed = (values.mean(axis=0),) if len(values) else ()
    ceiling = 100.0 if scale == "percent" else 1.0
    yes_no = scale == "binary" and cells.single
    return Quantity(values.mean(axis=1), 0.0, ceiling, yes_no, False, by_seed, terms, function if terms else None)


def difference_of(
    first: Cells, second: Cells, scale: str, function: CorpusFunction | None, only: Floats | None = None
) -> tuple[Quantity, int]:
    """Return second − first over the tasks with a number on both sides, and how many tasks one side lacks.

    `only` is a mask of tasks, for parts of a suite.
    """
    asked = first.applies | second.applies
    keep = first.scored & second.scored
    if only is not None:
        asked, keep = asked & (only > 0), keep & (only > 0)
    left, right = first.values[keep], second.values[keep]
    terms, by_seed = _corpus_terms([(-1.0, first), (1.0, second)], keep, function)
    if not terms and len(left):
        by_seed = tuple(side.mean(axis=0) for side in (left, right) if side.shape[1] > 1)
    span = 100.0 if scale == "percent" else 1.0
    yes_no = scale == "binary" and first.single and second.single
    values = right.mean(axis=1) - left.mean(axis=1)
    quantity = Quantity(values, -span, span, yes_no, True, by_seed, terms, function if terms else None)
    return quantity, int((asked & ~keep).sum())


def _corpus_terms(
    sides: Sequence[tuple[float, Cells]], keep: np.ndarray, function: CorpusFunction | None
) -> tuple[tuple[Term, ...], tuple[Floats, ...]]:
    """Return the terms of a corpus metric, each training's share apart, and each side's value by training."""
    if function is None or not keep.any() or any(cells.counts is None for _, cells in sides):
        return (), ()
    terms: list[Term] = []
    by_seed: list[Floats] = []
    for sign, cells in sides:
        assert cells.counts is not None
        counts = cells.counts[keep]
        seeds = counts.shape[1]
        terms += [(sign / seeds, counts[:, seed]) for seed in range(seeds)]
        if seeds > 1:
            by_seed.append(np.array([corpus_value([(1.0, counts[:, seed])], function) for seed in range(seeds)]))
    return tuple(terms), tuple(by_seed)


def estimate_all(quantities: Sequence[Quantity], resampler: Resampler) -> list[Estimated]:
    """Estimate every quantity; those over equally many tasks share one resampling."""
    plain = [q for q in quantities if len(q.values) and not q.yes_no and not q.terms]
    pivots = dict(zip(map(id, plain), mean_pivots([q.values for q in plain], resampler), strict=True))
    return [_estimate(q, pivots.get(id(q)), resampler) for q in quantities]


def _estimate(quantity: Quantity, pivot: Pivot | None, resampler: Resampler) -> Estimated:
    n = len(quantity.values)
    if n == 0:
        return Estimated(0)
    if quantity.yes_no:
        return _flips(quantity.values) if quantity.difference else _share(quantity.values)
    if quantity.function is not None:
        pivot = corpus_pivot(quantity.terms, quantity.function, resampler)
    assert pivot is not None
    whole = SeededPivot(pivot, quantity.by_seed) if quantity.by_seed else pivot
    low, high = whole.bounds()
    method = "studentised bootstrap over tasks" + (", t over trainings" if quantity.by_seed else "")
    unseen = 0.0
    if not quantity.terms and (pivot.se == 0 or not np.isfinite(high)):
        low, high = few_bounds(quantity.values, quantity.floor, quantity.ceiling)
        unseen = (high - low) / 2
        method = "Clopper-Pearson over the tasks that differ at all"
    low, high = max(low, quantity.floor), min(high, quantity.ceiling)
    if not quantity.difference:
        return Estimated(n, pivot.estimate, low, high, method=method)
    sd = pivot.se * n**0.5
    dz = pivot.estimate / sd if sd else None
    effect = {"name": "cohen_dz", "value": dz} if dz is not None else None
    detectable = _detectable(whole, n, unseen)
    p = 1.0 if pivot.se == 0 else whole.p_value()
    return Estimated(n, pivot.estimate, low, high, p, effect, detectable, method)


def few_bounds(values: Floats, floor: float, ceiling: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return an interval of the mean where hardly any task leaves the commonest value, so that no spread is known.

    At most a share U of all tasks leaves it (Clopper and Pearson's upper limit), each at most to the end of the range:
    wide, but true whatever the rare values are.
    """
    from statsmodels.stats.proportion import proportion_confint

    distinct, counts = np.unique(values, return_counts=True)
    common = float(distinct[counts.argmax()])
    share = float(proportion_confint(len(values) - counts.max(), len(values), alpha=alpha, method="beta")[1])
    return common - (common - floor) * share, common + (ceiling - common) * share


def _detectable(pivot: Pivot | SeededPivot, n: int, unseen: float) -> float | None:
    """Return the smallest difference found with 80 % power; over trainings, half the interval plus z(0.8) · se."""
    if isinstance(pivot, Pivot):
        if pivot.se == 0 or n < FEWEST:
            return unseen if pivot.se == 0 else None
        found = pivot.detectable() if pivot.errors is not None else detectable_mean(pivot.se * n**0.5, n)
        return found if np.isfinite(found) else unseen or None
    low, high = pivot.bounds()
    if pivot.se == 0:
        return unseen
    return (high - low) / 2 + _Z_POWER * pivot.se


def _share(values: Floats) -> Estimated:
    n, yes = len(values), int(values.sum())
    low, high = wilson(yes, n)
    return Estimated(n, yes / n, low, high, method="Wilson")


def _flips(values: Floats) -> Estimated:
    n, gained, lost = len(values), int((values > 0).sum()), int((values < 0).sum())
    low, high = bonett_price(gained, lost, n)
    effect = {"name": "cohen_g", "value": gained / (gained + lost) - 0.5} if gained + lost else None
    detectable = detectable_mcnemar((gained + lost) / n, n)
    return Estimated(
        n,
        (gained - lost) / n,
        low,
        high,
        mcnemar_exact(gained, lost),
        effect,
        detectable if detectable <= 1 else None,
        "Bonett-Price, exact McNemar",
    )
