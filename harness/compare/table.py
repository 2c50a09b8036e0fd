"""Rows of samples.jsonl arranged for arithmetic: one suite, by model, metric, task and training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.resample import Floats
from harness.compare.seeds import family
from harness.types import Row


@dataclass
class Cells:
    """One metric of one model: arrays of shape (tasks, trainings); NaN where there is no number."""

    applies: NDArray[np.bool_]
    """Tasks on which the metric applies to this model, shape (tasks,)."""
    totals: Floats
    trials: Floats
    """How many samples of a task have a number, and what they sum to."""
    unscored: int = 0
    """Rows whose score is null."""
    counts: Floats | None = None
    """Statistics of a corpus metric summed over a task's samples, shape (tasks, trainings, p)."""

    @property
    def values(self) -> Floats:
        """A task's mean over its samples, by training."""
        return np.divide(self.totals, self.trials, out=np.full_like(self.totals, np.nan), where=self.trials > 0)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Tasks with a number in every training."""
        return np.asarray((self.trials > 0).all(axis=1))

    @property
    def single(self) -> bool:
        """Whether every task was answered at most once: one sample, one training."""
        return self.totals.shape[1] == 1 and float(self.trials.max(initial=0)) <= 1


@dataclass
class Table:
    """One suite's rows."""

    suite: str
    tasks: list[str]
    models: list[str]
    """Families, in the order of their first row after sorting: trainings of one model stand together."""
    trainings: dict[str, list[str]]
    cells: dict[tuple[str, str], Cells] = field(default_factory=dict)
    """By (model, metric); a metric that applies to none of a model's rows is absent."""
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    finish_reasons: dict[str, Counter[str]] = field(default_factory=dict)


def build_table(
    suite: str, rows: Sequence[Row], scorers: Mapping[str, Mapping[str, Any]], without: Collection[str] = ()
) -> Table:
    """Arrange one suite's rows; tasks in `without` are left out. Scores of metrics that `scorers` lacks are ignored."""
    rows = [row for row in rows if row["suite"] == suite and row["task"] not in without]
    tasks = sorted({row["task"] for row in rows})
    names = list(dict.fromkeys(row["model"] for row in rows))
    trainings: dict[str, list[str]] = {}
    for name in names:
        trainings.setdefault(family(name), []).append(name)
    trainings = {model: sorted(group, key=_natural) for model, group in trainings.items()}
    table = Table(suite, tasks, list(trainings), trainings)
    position = {task: index for index, task in enumerate(tasks)}
    column = {name: index for group in trainings.values() for index, name in enumerate(group)}
    for row in rows:
        model = family(row["model"])
        at = position[row["task"]], column[row["model"]]
        table.outcomes.setdefault(model, Counter())[row.get("outcome") or "unscored"] += 1
        table.finish_reasons.setdefault(model, Counter())[row.get("finish_reason") or "none"] += 1
        for metric, score in row["scores"].items():
            if metric not in scorers:
                continue
            cells = table.cells.get((model, metric))
            if cells is None:
                shape = (len(tasks), len(trainings[model]))
                cells = Cells(np.zeros(len(tasks), dtype=bool), np.zeros(shape), np.zeros(shape))
                table.cells[model, metric] = cells
            _add(cells, at, score, (row.get("counts") or {}).get(metric) if scorers[metric].get("corpus") else None)
    return table


def _add(cells: Cells, at: tuple[int, int], score: float | None, counts: Sequence[float] | None) -> None:
    cells.applies[at[0]] = True
    if score is None or not math.isfinite(score):
        cells.unscored += 1
        return
    cells.totals[at] += score
    cells.trials[at] += 1
    if counts is not None:
        if cells.counts is None:
            cells.counts = np.zeros((*cells.totals.shape, len(counts)))
        cells.counts[at] += counts


def _natural(name: str) -> tuple[str, int, str]:
    """Sort `tuned#seed10` after `tuned#seed2`."""
    stem, _, seed = name.partition("#seed")
    return stem, int(seed) if seed.isdigit() else -1, seed
