"""What is absent: how many tasks a comparison lacks, and what the missing answers could do to it at worst."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from harness.compare.bleu import ORDER, STATISTICS
from harness.compare.resample import Floats
from harness.compare.table import Cells, Mask, Table

NOTABLE_SHARE = 0.05
"""A larger share of tasks without a number on either side is said first, also where both sides lack as many."""
COMPLETE_SHARE = 0.9
"""The gate wants at least this share of the tasks compared on every primary metric."""


@dataclass(frozen=True)
class Missing:
    """What one metric lacks in one pair of models, in tasks: unscored (null) or never answered."""

    asked: int
    """Tasks on which the metric was to be measured."""
    first: int
    """Tasks on which the first model lacks a number, wholly or in some sample."""
    second: int
    dropped: int
    """Tasks that are left out because a side has no number at all."""
    overran_first: int = 0
    """Answers whose page was there and could not be measured."""
    overran_second: int = 0
    others: bool = False
    """Whether answers are missing that no page could be measured of."""

    @property
    def any(self) -> bool:
        """Whether a number is missing at all."""
        return bool(self.first or self.second)

    @property
    def notable(self) -> bool:
        """Whether it is said first: the models lack different numbers of tasks, or more than 5 % are lacking."""
        return self.first != self.second or max(self.first, self.second) > NOTABLE_SHARE * self.asked

    @property
    def overran_differ(self) -> bool:
        """Whether pages that could not be measured are more on one side."""
        return self.overran_first != self.overran_second


def missing_of(table: Table, metric: str, first: str, second: str) -> Missing:
    """Count what the metric lacks in the pair; both models have cells of it."""
    left, right = table.cells[first, metric], table.cells[second, metric]
    asked = table.asked(metric, (first, second))
    return Missing(
        asked=int(asked.sum()),
        first=int((asked & ~left.complete).sum()),
        second=int((asked & ~right.complete).sum()),
        dropped=int((asked & ~(left.scored & right.scored)).sum()),
        overran_first=int(left.overran.sum()),
        overran_second=int(right.overran.sum()),
        others=any(bool((asked & ~_complete_but_overran(side)).any()) for side in (left, right)),
    )


def _complete_but_overran(cells: Cells) -> Mask:
    there = (cells.trials + cells.overran > 0).all(axis=1) & (cells.nulls == cells.overran).all(axis=1)
    return np.asarray(there, dtype=bool)


def at_worst(table: Table, metric: str, first: str, second: str, best: float) -> list[tuple[Cells, Cells]]:
    """Return both sides with every missing number filled in: against the second model, then against the first.

    Bounds of the difference whatever the missing answers are (Manski 1989, "Anatomy of the selection problem"); `best`
    is the highest score. A missing answer of a corpus metric is an empty page, or the reference itself.
    """
    asked = table.asked(metric, (first, second))
    lengths = _reference_lengths(table, metric)
    cells = [table.cells[model, metric] for model in (first, second)]
    low = [_filled(side, asked, good, best, lengths) for side, good in zip(cells, (True, False), strict=True)]
    high = [_filled(side, asked, good, best, lengths) for side, good in zip(cells, (False, True), strict=True)]
    return [(low[0], low[1]), (high[0], high[1])]


def as_failures(table: Table, metric: str, first: str, second: str) -> tuple[Cells, Cells]:
    """Return both sides with pages that could not be measured counted as failures: 0, for a corpus an empty page."""
    lengths = _reference_lengths(table, metric)
    cells = [table.cells[model, metric] for model in (first, second)]
    sides = [_filled(side, side.applies, False, 0.0, lengths, side.overran) for side in cells]
    return sides[0], sides[1]


def _filled(
    cells: Cells, asked: Mask, good: bool, best: float, lengths: Floats | None, only: Floats | None = None
) -> Cells:
    """Give a number to each null, and to each cell of an asked task that has no row; `only` says how many nulls."""
    nulls = cells.nulls if only is None else only
    number = nulls.copy()
    if only is None:
        number[asked[:, None] & (cells.trials + cells.nulls == 0)] = 1
    counts = None
    if cells.counts is not None and lengths is not None:
        counts = cells.counts + number[..., None] * _page(lengths, good)[:, None, :]
    return replace(
        cells,
        applies=cells.applies | asked,
        totals=cells.totals + number * (best if good else 0.0),
        trials=cells.trials + number,
        nulls=cells.nulls - nulls,
        counts=counts,
    )


def _reference_lengths(table: Table, metric: str) -> Floats | None:
    """Return each task's reference length in tokens as any model's statistics tell it, else the mean; None without.

    The layout is BLEU's: other corpus metrics have no such length and are bounded by their rows' scores.
    """
    known = [c for (_, name), c in table.cells.items() if name == metric and c.counts is not None]
    if not known or any(c.counts is not None and c.counts.shape[-1] != STATISTICS for c in known):
        return None
    total, times = np.zeros(len(table.tasks)), np.zeros(len(table.tasks))
    for cells in known:
        assert cells.counts is not None
        total += cells.counts[..., 1].sum(axis=1)
        times += cells.trials.sum(axis=1)
    mean = float(total.sum() / max(times.sum(), 1))
    return np.where(times > 0, total / np.maximum(times, 1), mean)


def _page(lengths: Floats, good: bool) -> Floats:
    """Return BLEU's statistics of a page equal to the reference, or of an empty one, for each task."""
    out = np.zeros((len(lengths), STATISTICS))
    out[:, 1] = lengths
    if good:
        orders = np.maximum(lengths[:, None] - np.arange(ORDER), 0)
        out[:, 0], out[:, 2 : 2 + ORDER], out[:, 2 + ORDER :] = lengths, orders, orders
    return out
