"""Resampling of tasks: bootstrap weights, and intervals and p-values from the studentised bootstrap.

A task is the unit of sampling: everything that belongs to one task (several samples, both models, all metrics) is
drawn together, so answers to one prompt are never treated as independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
"""The power at which the smallest detectable difference is given."""
_BLOCK_CELLS = 6_000_000
"""Weights held at once (48 MB); larger resamples are drawn block by block."""
_FLAT = 1e-12
"""A replicate whose variance is below this share of the sample's own has no spread: all its draws were equal."""


class Resampler:
    """Draws bootstrap samples of `n` tasks as counts: weight[b, i] says how often replicate b holds task i.

    The counts for one `n` depend on `seed` and `n` alone, never on the order of calls, so the same rows give the same
    numbers in whatever order metrics are worked through.
    """

    def __init__(self, seed: int = 0, replicates: int = 10_000) -> None:
        self.seed = seed
        self.replicates = replicates
        self._held: tuple[int, Floats] | None = None

    def blocks(self, n: int) -> Iterator[tuple[slice[int, int, None], Floats]]:
        """Yield (which replicates, their weights of shape (block, n)) until all replicates are drawn."""
        if self._held is not None and self._held[0] == n:
            yield slice(0, self.replicates), self._held[1]
            return
        random = np.random.default_rng([self.seed, n])
        size = max(1, min(self.replicates, _BLOCK_CELLS // max(n, 1)))
        for start in range(0, self.replicates, size):
            rows = min(size, self.replicates - start)
            drawn = random.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
            weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
            if rows == self.replicates:
                self._held = (n, weights)
            yield slice(start, start + rows), weights

    def sums(self, columns: Floats) -> Floats:
        """Return the sums of every replicate, shape (replicates, p), for `columns` of shape (n, p)."""
        out = np.empty((self.replicates, columns.shape[1]))
        for where, weights in self.blocks(columns.shape[0]):
            np.matmul(weights, columns, out=out[where])
        return out


@dataclass(frozen=True)
class Pivot:
    """An estimate with its standard error and the bootstrap distribution of its t statistic.

    `t` holds the sorted |θ* − θ̂| / se* of all replicates. The interval is symmetric about the estimate: the symmetric
    bootstrap-t of Hall (1988, "On symmetric bootstrap confidence intervals", JRSS B 50), whose coverage error is of
    order n⁻². Its two-tailed sibling was tried and fell to 89 % where most differences are 0 (docs/statistics.md).

    Where few tasks differ, replicates also vary in how many they hold of these, and their t has heavier tails than the
    sample's own. `freedom` bounds that: no critical value exceeds Student's with so many degrees of freedom.
    """

    estimate: float
    se: float
    t: Floats
    freedom: float | None = None
    """Degrees of freedom of the sample's variance (Satterthwaite); None leaves the bootstrap's quantiles alone."""
    shifts: Floats | None = None
    """θ* − θ̂ of each replicate; with `errors` what power is computed from."""
    errors: Floats | None = None
    """se* of each replicate, infinite where it had no spread: a test finds nothing there."""
    influence: Floats | None = None
    """Of a corpus metric: what each unit adds to the estimate, to first order."""

    def bounds(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the two-sided 1 − alpha interval; infinite where the replicates had no spread."""
        if self.se == 0:
            return self.estimate, self.estimate
        half = self._critical(alpha) * self.se
        return self.estimate - half, self.estimate + half

    def p_value(self, null: float = 0.0) -> float:
        """Return the two-sided p-value of `null` as the true value: the smallest alpha whose interval leaves it out."""
        if self.se == 0:
            return 1.0
        observed = abs(self.estimate - null) / self.se
        reached = len(self.t) - int(np.searchsorted(self.t, observed, side="left"))
        p = (reached + 1) / (len(self.t) + 1)
        if self.freedom is None:
            return p
        # An interval is infinite where more than alpha of the replicates have an infinite t.
        endless = len(self.t) - int(np.searchsorted(self.t, np.inf, side="left"))
        return min(p, max(float(2 * stdtr(self.freedom, -observed)), (endless + 1) / (len(self.t) + 1)))

    def power(self, difference: float) -> float:
        """Return the share of replicates, moved to the true `difference`, whose interval would leave 0 out.

        Where the score is skewed, mean and spread move together, which the t test's power does not know: the
        bootstrap estimate of power (Efron and Tibshirani 1993, chapter 25) does.
        """
        shifts, needed = self._needed()
        return float(np.mean(np.abs(shifts + difference) > needed))

    def detectable(self, power: float = POWER) -> float:
        """Return the smallest true difference found with `power`, in the harder direction; infinite for none."""
        shifts, needed = self._needed()
        return max(float(np.quantile(needed + side * shifts, power, method="higher")) for side in (-1, 1))

    def _needed(self) -> tuple[Floats, Floats]:
        """Each replicate's shift, and how large its difference must be to be found."""
        assert self.shifts is not None
        assert self.errors is not None
        return self.shifts, self._critical(ALPHA) * self.errors

    def _critical(self, alpha: float) -> float:
        # The (B + 1) rule: the rank that keeps the level exact for as many replicates as there are.
        rank = max(1, int(np.floor((len(self.t) + 1) * alpha + 1e-9)))
        quantile = float(self.t[len(self.t) - rank])
        if self.freedom is None or not np.isfinite(quantile):
            return quantile
        return min(quantile, float(stdtrit(self.freedom, 1 - alpha / 2)))


def mean_pivots(samples: Sequence[Floats], resampler: Resampler) -> list[Pivot]:
    """Return the pivot of the mean of each sample; samples of equal length share their resampling in one product."""
    pivots: list[Pivot | None] = [None] * len(samples)
    by_length: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        by_length.setdefault(len(sample), []).append(index)
    for n, indices in by_length.items():
        centres = np.array([samples[index].mean() for index in indices])
        deviations = np.stack([samples[index] for index in indices], axis=1) - centres
        variances = (deviations**2).sum(axis=0) / max(n - 1, 1) / n
        sums = resampler.sums(np.concatenate([deviations, deviations**2], axis=1))
        shifts = sums[:, : len(indices)] / n
        spreads = (sums[:, len(indices) :] / n - shifts**2) / max(n - 1, 1)
        for column, index in enumerate(indices):
            shift, spread, variance = shifts[:, column], spreads[:, column], float(variances[column])
            pivots[index] = Pivot(
                float(centres[column]),
                float(np.sqrt(variance)),
                studentise(shift, spread, variance),
                variance_freedom(deviations[:, column]),
                shift,
                standard_errors(spread, variance),
            )
    return [pivot for pivot in pivots if pivot is not None]


def variance_freedom(deviations: Floats) -> float | None:
    """Return the degrees of freedom 2n / (κ − 1) that give s² its own variance, from the kurtosis κ; at most n − 1.

    Satterthwaite (1946): the chi-squared distribution whose first two moments are those of s². None without spread.
    """
    n, largest = len(deviations), float(np.abs(deviations).max(initial=0.0))
    if n < 2 or largest == 0:
        return None
    scaled = deviations / largest
    excess = float((scaled**4).mean() / (scaled**2).mean() ** 2) - 1
    return min(n - 1.0, max(1.0, 2 * n / excess if excess > 0 else np.inf))


def standard_errors(variances: Floats, variance: float) -> Floats:
    """Return the replicates' standard errors, infinite where a replicate has no spread."""
    return np.sqrt(np.where(variances <= _FLAT * variance, np.inf, variances))


def studentise(shifts: Floats, variances: Floats, variance: float) -> Floats:
    """Return the sorted |t| of replicates from their shifts θ* − θ̂ and squared standard errors.

    A replicate without spread has an infinite t: so few tasks carry the difference that it can miss them all.
    """
    flat = variances <= _FLAT * variance
    t = np.where(flat & (shifts != 0), np.inf, 0.0)
    np.divide(np.abs(shifts), np.sqrt(np.where(flat, 1.0, variances)), out=t, where=~flat)
    t.sort()
    return t
