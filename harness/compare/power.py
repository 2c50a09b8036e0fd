"""What this number of tasks could have shown: power, and the smallest difference found with 80 % of certainty."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from harness.compare.resample import ALPHA, POWER

FEWEST = 5
"""Below this many tasks the t test finds hardly anything, and the noncentral t distribution loses its digits."""


def power_mean(difference: float, sd: float, n: int, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t test for a mean difference when differences have this `sd`."""
    from statsmodels.stats.power import TTestPower

    if sd == 0:
        return 1.0 if difference else alpha
    value = float(TTestPower().power(abs(difference) / sd, n, alpha))
    # scipy's noncentral t has no digits left many standard errors out, where the power is 1.
    return 1.0 if math.isnan(value) else value


def detectable_mean(sd: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest mean difference that the paired t test finds with `power`; infinite below 5 tasks."""
    return sd * _detectable_effect(n, alpha, power) if n >= FEWEST else float("inf")


@lru_cache(maxsize=1024)
def _detectable_effect(n: int, alpha: float, power: float) -> float:
    from scipy.optimize import brentq

    high = 2 / n**0.5
    while power_mean(high, 1.0, n, alpha) < power:
        high *= 1.5
    return float(brentq(lambda effect: power_mean(effect, 1.0, n, alpha) - power, 1e-9, high, xtol=1e-6))


def power_mcnemar(up: float, down: float, n: int, alpha: float = ALPHA) -> float:
    """Return the exact power of the exact McNemar test over `n` tasks.

    `up` and `down` are the chances that a task flips for the better and for the worse. The number of flips is binomial,
    and given it the gains are; the power is the sum over all numbers of flips (Duffy 1984).
    """
    from scipy.stats import binom

    flips = up + down
    if flips <= 0:
        return 0.0
    m = np.arange(n + 1)
    # The largest k with 2·P(X ≤ k | m, ½) ≤ alpha; −1 where no outcome of m flips is rare enough.
    k = binom.ppf(alpha / 2, m, 0.5).astype(int)
    k = np.where(2 * binom.cdf(k, m, 0.5) <= alpha, k, k - 1)
    share = up / flips
    reject = binom.cdf(k, m, share) + binom.sf(m - k - 1, m, share)
    return float(np.sum(binom.pmf(m, n, min(flips, 1.0)) * np.where(k >= 0, reject, 0.0)))


def detectable_mcnemar(flips: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest difference of shares that the exact McNemar test finds with `power`.

    `flips` is the share of tasks on which the two models differ; where even one-sided flips at that rate would not be
    found, more flips are assumed. Infinite where not even a flip of every task would be found.
    """
    from scipy.optimize import brentq

    def gap(difference: float) -> float:
        total = max(flips, difference)
        return power_mcnemar((total + difference) / 2, (total - difference) / 2, n, alpha) - power

    if gap(1.0) < 0:
        return float("inf")
    return float(brentq(gap, 1e-9, 1.0, xtol=1e-4))
