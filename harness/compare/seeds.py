"""Several trainings of one model: intervals that cover the noise of training beside that of the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.compare.resample import ALPHA, Floats, Pivot
from harness.runs.summary import Spread


@dataclass(frozen=True)
class SeededPivot:
    """An estimate over tasks and trainings.

    `tasks` is the pivot over tasks of the mean over trainings; `by_seed` holds, for each side that was trained more
    than once, its estimate by training. The half widths of both sources are joined as √(h_tasks² + h_seeds²), with
    h_seeds = t(S − 1) · sd / √S (the MOVER rule of Zou and Donner 2008 for a sum of independent parts): with two
    trainings t is 12.7, which is what two trainings are worth.
    """

    tasks: Pivot
    by_seed: tuple[Floats, ...]

    @property
    def estimate(self) -> float:
        """The estimate over all tasks and trainings."""
        return self.tasks.estimate

    @cached_property
    def _parts(self) -> list[tuple[int, float]]:
        return [(len(v) - 1, float(v.std(ddof=1) / np.sqrt(len(v)))) for v in self.by_seed]

    @property
    def se(self) -> float:
        """The standard error from both sources."""
        return float(np.sqrt(self.tasks.se**2 + sum(se**2 for _, se in self._parts)))

    def bounds(self, alpha: float = ALPHA, of_tasks: tuple[float, float] | None = None) -> tuple[float, float]:
        """Return the two-sided 1 − alpha interval over tasks and trainings; `of_tasks` in place of the pivot's own."""
        from scipy.stats import t

        low, high = of_tasks or self.tasks.bounds(alpha)
        noise = sum((float(t.ppf(1 - alpha / 2, df)) * se) ** 2 for df, se in self._parts)
        return (
            self.estimate - float(np.sqrt((self.estimate - low) ** 2 + noise)),
            self.estimate + float(np.sqrt((high - self.estimate) ** 2 + noise)),
        )

    def p_value(self, null: float = 0.0) -> float:
        """Return the smallest alpha, to 0.1 %, that leaves `null` out, no smaller than the replicates can tell."""
        inside, outside = 2 / (len(self.tasks.t) + 1), 1.0
        if self._excludes(null, inside):
            return inside
        if not self._excludes(null, outside):
            return 1.0
        while outside / inside > 1.001:
            middle = float(np.sqrt(inside * outside))
            inside, outside = (inside, middle) if self._excludes(null, middle) else (middle, outside)
        return outside

    def exact_p(self, of_tasks: float) -> float:
        """Return the p of 0 where the tasks have an exact p of their own: both must reject, tasks and trainings.

        The trainings reject 0 where it lies outside h_seeds about the estimate; trainings that all agree are no noise.
        """
        from scipy.stats import t

        def noise(alpha: float) -> float:
            return float(np.sqrt(sum((float(t.isf(alpha / 2, df)) * se) ** 2 for df, se in self._parts)))

        if all(se == 0 for _, se in self._parts) or noise(of_tasks) < abs(self.estimate):
            return of_tasks
        inside, outside = of_tasks, 1.0
        while outside / inside > 1.001:
            middle = float(np.sqrt(inside * outside))
            inside, outside = (inside, middle) if noise(middle) < abs(self.estimate) else (middle, outside)
        return outside

    def _excludes(self, null: float, alpha: float) -> bool:
        low, high = self.bounds(alpha)
        return null < low or null > high


def spread(by_seed: Sequence[float] | Floats) -> Spread:
    """Return what the report shows of the trainings: each one's number and their standard deviation."""
    values = np.asarray(by_seed, dtype=np.float64)
    return Spread(values=tuple(values.tolist()), sd=float(values.std(ddof=1)) if len(values) > 1 else None)
