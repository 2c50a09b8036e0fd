"""Exact tests and intervals for differences that have hardly any spread, where a bootstrap has nothing to resample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from harness.compare.resample import ALPHA, Floats

MISSED = 1e-4
"""Tasks hardly differ where a resample that holds none of those that leave the commonest value is likelier than this:
with 10,000 replicates at least one is then without any spread."""
_EQUAL = 1e-9
"""Values that differ by less than this share of the range are equal: rounding of means tells no tasks apart."""
_MOST_SUMS = 4_000_000
_MOST_STEPS = 1_000_000_000
_FINEST = 360
"""The largest denominator that is looked for: groups of up to 10 tasks have 2,520ths, of which each is one of these."""
_INSIDE = 1e-6


def rounded(values: Floats, span: float) -> Floats:
    """Return values with the noise of floating point taken off; `span` is the width of the range they may take."""
    largest = float(np.abs(values).max(initial=0.0))
    step = _EQUAL * (span if np.isfinite(span) else largest)
    return np.asarray(np.round(values / step) * step) if step else values


def common_value(values: Floats) -> tuple[float, int]:
    """Return the commonest of some `rounded` values and how many differ from it."""
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[counts.argmax()]), int(len(values) - counts.max())


def hardly_differ(values: Floats) -> bool:
    """Whether so few of the `rounded` values leave the commonest one that resamples often hold none of these."""
    n = len(values)
    return bool((1 - common_value(values)[1] / n) ** n > MISSED)


def sign_flip_p(differences: Floats) -> float | None:
    """Return the exact two-sided p of a mean difference when neither model is better (Fisher's randomisation test).

    Which model wrote which answer is then as good as tossed by a coin for each unit: p is the share of all 2^n
    assignments of signs whose mean is as far from 0. For differences of one size this is the sign test, for flips of a
    yes/no exact McNemar. None where the sums are too many to be enumerated.
    """

    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    observed = abs(float(differences.sum()))
    tolerance = _EQUAL * float(sizes.sum())
    if observed >= float(sizes.sum()) - tolerance:
        return max(float(np.exp2(1.0 - len(sizes))), float(np.finfo(float).tiny))
    counted = [(float(size), int(number)) for size, number in zip(*np.unique(sizes, return_counts=True), strict=True)]
    p = _on_a_lattice(counted, observed)
    p = _of_all_sums(counted, observed, tolerance) if p is None else p
    return None if p is None else float(min(1.0, max(p, np.finfo(float).tiny)))


def _on_a_lattice(counted: Sequence[tuple[float, int]], observed: float) -> float | None:
    """Return the p of sizes that are whole multiples of one fraction, as shares of groups are; None where they are not.

    The sum of the signed sizes is twice the sum C of those with a plus, less all of them: C is built up size by size.
    """
    from scipy.stats import binom

    denominators = [Fraction(size).limit_denominator(_FINEST).denominator for size, _ in counted]
    whole = math.lcm(*denominators)
    steps = [round(size * whole) for size, _ in counted]
    if whole > _FINEST**2 or any(abs(size * whole - k) > 1e-4 for (size, _), k in zip(counted, steps, strict=True)):
        return None
    total = sum(k * number for k, (_, number) in zip(steps, counted, strict=True))
    if total * sum(number for _, number in counted) > _MOST_STEPS:
        return None
    chances = np.ones(1)
    for step, (_, number) in zip(steps, counted, strict=True):
        longer = np.zeros(len(chances) + step * number)
        for ups, weight in enumerate(binom.pmf(np.arange(number + 1), number, 0.5)):
            longer[ups * step : ups * step + len(chances)] += weight * chances
        chances = longer
    far = np.abs(2 * np.arange(total + 1) - total) >= round(observed * whole)
    return float(chances[far].sum())


def _of_all_sums(counted: Sequence[tuple[float, int]], observed: float, tolerance: float) -> float | None:
    """Return the p of any few sizes by going through all their sums; None where these are too many."""
    from scipy.stats import binom

    sums, chances = np.zeros(1), np.ones(1)
    for size, number in counted:
        ups = np.arange(number + 1)
        if len(sums) * len(ups) > _MOST_SUMS:
            return None
        sums = (sums[:, None] + size * (2 * ups - number)[None, :]).ravel()
        chances = (chances[:, None] * binom.pmf(ups, number, 0.5)[None, :]).ravel()
    return float(chances[np.abs(sums) >= observed - tolerance].sum())


def few_share(values: Floats, alpha: float = ALPHA) -> float:
    """Return the upper limit of Clopper and Pearson for the share of all tasks that leave the commonest value."""
    return _upper_limit(common_value(values)[1], len(values), alpha)


@lru_cache(maxsize=4096)
def _upper_limit(successes: int, n: int, alpha: float) -> float:
    from statsmodels.stats.proportion import proportion_confint

    return float(proportion_confint(successes, n, alpha=alpha, method="beta")[1])


def few_bounds(values: Floats, floor: float, ceiling: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return an interval of the mean where hardly any task leaves the commonest value, so that no spread is known.

    At most a share U of all tasks leaves it (Clopper and Pearson's upper limit), each at most to the end of the range:
    wide, but true whatever the rare values are.
    """
    return towards_ends(common_value(values)[0], few_share(values, alpha), floor, ceiling)


def towards_ends(value: float, share: float, floor: float, ceiling: float) -> tuple[float, float]:
    """Return what a mean is at least and at most where a share of what makes it up lies at an end of the range."""
    return value - (value - floor) * share, value + (ceiling - value) * share


def agreeing(estimate: float, low: float, high: float, p: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval with 0 outside exactly where the test rejects it: the test decides on 0, and it alone.

    An interval that leaves 0 out although the test does not reject it is drawn out to 0; one that holds 0 although an
    exact test rejects it ends just before: the values that both of two confidence sets hold, or that either holds.
    """
    if p > alpha or estimate == 0:
        return min(low, 0.0), max(high, 0.0)
    edge = estimate * _INSIDE or estimate
    return (max(low, edge), high) if estimate > 0 else (low, min(high, edge))
