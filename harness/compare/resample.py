"""Resampling of tasks: bootstrap weights, and intervals and p-values from the studentised bootstrap.

A task is the unit of sampling: everything that belongs to one task (several samples, both models, all metrics) is
drawn together, so answers to one prompt are never treated as independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.05
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

    def blocks(self, n: int) -> Iterator[tuple[slice, Floats]]:
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

    `t` holds the sorted (θ* − θ̂) / se* of all replicates (Efron and Tibshirani 1993, section 12.5).
    """

    estimate: float
    se: float
    t: Floats

    def bounds(self, alpha: float = ALPHA) -> tuple[float, float]:
        """Return the two-sided 1 − alpha interval; infinite where the replicates had no spread."""
        if self.se == 0:
            return self.estimate, self.estimate
        low, high = _order_statistics(self.t, alpha)
        return self.estimate - high * self.se, self.estimate - low * self.se

    def p_value(self, null: float = 0.0) -> float:
        """Return the two-sided p-value of `null` as the true value: the smallest alpha whose interval leaves it out."""
        if self.se == 0:
            return 1.0
        observed = (self.estimate - null) / self.se
        count = len(self.t)
        above = count - int(np.searchsorted(self.t, observed, side="left"))
        below = int(np.searchsorted(self.t, observed, side="right"))
        return min(1.0, 2 * (min(above, below) + 1) / (count + 1))


def _order_statistics(ordered: Floats, alpha: float) -> tuple[float, float]:
    """Return the alpha/2 and 1 − alpha/2 order statistics, by the (B + 1) rule, the outer one where between two."""
    count = len(ordered)
    rank = max(1, int(np.floor((count + 1) * alpha / 2 + 1e-9)))
    return float(ordered[rank - 1]), float(ordered[count - rank])


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
            t = studentise(shifts[:, column], spreads[:, column], float(variances[column]))
            pivots[index] = Pivot(float(centres[column]), float(np.sqrt(variances[column])), t)
    return [pivot for pivot in pivots if pivot is not None]


def studentise(shifts: Floats, variances: Floats, variance: float) -> Floats:
    """Return the sorted t statistics of replicates from their shifts θ* − θ̂ and squared standard errors.

    A replicate without spread has an infinite t, with the sign of its shift: it says that so few tasks carry the
    difference that the interval cannot be bounded on that side.
    """
    flat = variances <= _FLAT * variance
    t = np.where(flat, np.where(shifts == 0, 0.0, np.copysign(np.inf, shifts)), 0.0)
    np.divide(shifts, np.sqrt(np.where(flat, 1.0, variances)), out=t, where=~flat)
    t.sort()
    return t
