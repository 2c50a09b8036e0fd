"""Where it got better and where it got worse: tasks that flipped, and differences by part of a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from harness.compare.table import Cells, by_unit
from harness.runs.summary import FlipCount, Flips, Section
from harness.types import Scale

_THRESHOLD: Mapping[Scale, float] = {"binary": 0.5, "share": 0.1, "percent": 10.0}
"""How far a task's mean must move to count as flipped: for one yes or no, that is the flip itself."""

SECTIONS: tuple[Section, ...] = get_args(Section)


def flips(
    first: Cells, second: Cells, scale: Scale, tasks: Sequence[str], sections: Mapping[Section, Sequence[str]]
) -> Flips:
    """Return the tasks that got better (`gained`) and worse (`lost`), by size of the change and then by id.

    `sections` holds the category and the difficulty of every task, in the order of `tasks`.
    """
    keep = first.scored & second.scored
    change = np.where(keep, second.values.mean(axis=1) - first.values.mean(axis=1), 0.0)
    threshold = _THRESHOLD[scale]
    gained, lost = change >= threshold - 1e-9, change <= -threshold + 1e-9

    def counts(names: Sequence[str]) -> dict[str, FlipCount]:
        found = {}
        for name in sorted(set(names) - {""}):
            own = np.array(names) == name
            sums = (int((mask & own).sum()) for mask in (gained, lost, keep))
            found[name] = FlipCount(**dict(zip(("gained", "lost", "n"), sums, strict=True)))
        return found

    return Flips(
        gained=tuple(tasks[int(i)] for i in sorted(np.flatnonzero(gained), key=lambda i: (-change[i], int(i)))),
        lost=tuple(tasks[int(i)] for i in sorted(np.flatnonzero(lost), key=lambda i: (change[i], int(i)))),
        threshold=threshold,
        by_category=counts(sections["category"]),
        by_difficulty=counts(sections["difficulty"]),
    )


def pass_at_k(cells: Cells, unit: NDArray[np.int64]) -> dict[str, float]:
    """Return, for k = 1, 2, 4 ... up to the fewest samples of a task, the chance that one of k samples passes.

    The unbiased estimator of Chen et al. 2021, 1 − C(n − c, k) / C(n, k), averaged over units (see `Table.unit`) and
    trainings.
    Empty where tasks were answered once.
    """
    from scipy.special import comb

    keep = cells.scored
    n, c = cells.trials[keep], cells.totals[keep]
    most = int(n.min(initial=np.inf)) if n.size else 0
    if most < 2:
        return {}
    ks = sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
    return {str(k): float(by_unit(1 - comb(n - c, k) / comb(n, k), unit[keep]).mean()) for k in ks}
