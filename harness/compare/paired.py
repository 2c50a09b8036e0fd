"""Yes/no metrics on the same tasks: exact McNemar test and intervals for paired proportions."""

from __future__ import annotations

import math

import numpy as np

from harness.compare.resample import ALPHA, Floats


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value of McNemar's test: the binomial test that both kinds of flip are as likely."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def bonett_price(gained: int, lost: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of the difference of two paired proportions, (gained − lost) / n.

    Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data", Journal of Educational and Behavioral Statistics 37 (2012): Wald with one task added to each kind of flip.
    It keeps its coverage with few tasks and never collapses where no task flipped.
    """
    from scipy.stats import norm

    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(norm.ppf(1 - alpha / 2)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def group_flips(values: Floats, alpha: float = ALPHA) -> tuple[float, float]:
    """Return Bonett and Price's interval where some units are groups of tasks: `values` are the groups' differences.

    One gained and one lost unit are added and Wald's interval is taken over units; with one task a unit this is
    `bonett_price` to the digit.
    """
    from scipy.stats import norm

    with_two = np.concatenate([values, [1.0, -1.0]])
    centre = float(with_two.mean())
    half = float(norm.ppf(1 - alpha / 2)) * math.sqrt(float(((with_two - centre) ** 2).mean()) / len(with_two))
    return max(-1.0, centre - half), min(1.0, centre + half)


def wilson(successes: int, n: int, alpha: float = ALPHA) -> tuple[float, float]:
    """Return Wilson's score interval of one proportion (statsmodels does the arithmetic)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(successes, n, alpha=alpha, method="wilson")
    return float(low), float(high)
