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

Mask = NDArray[np.bool_]
Tasks = Mapping[tuple[str, str], Mapping[str, Any]]
"""What tasks.jsonl says of each task, by (suite, task)."""


@dataclass
class Cells:
    """One metric of one model: arrays of shape (tasks, trainings); NaN where there is no number."""

    applies: Mask
    """Tasks on which the metric applies to this model, shape (tasks,)."""
    totals: Floats
    trials: Floats
    """How many samples of a task have a number, and what they sum to."""
    nulls: Floats
    """How many samples of a task have null."""
    overran: Floats
    """Those of them whose page has a number in another metric: the page was there, and could not be measured."""
    counts: Floats | None = None
    """Statistics of a corpus metric summed over the samples that have a number, shape (tasks, trainings, p)."""

    @property
    def values(self) -> Floats:
        """A task's mean over its samples, by training."""
        return np.divide(self.totals, self.trials, out=np.full_like(self.totals, np.nan), where=self.trials > 0)

    @property
    def mean_counts(self) -> Floats:
        """A task's mean statistics over its samples, by training: a task asked twice weighs no more than another."""
        assert self.counts is not None
        return np.asarray(self.counts / np.maximum(self.trials, 1)[..., None])

    @property
    def scored(self) -> Mask:
        """Tasks with a number in every training."""
        return np.asarray((self.trials > 0).all(axis=1))

    @property
    def complete(self) -> Mask:
        """Tasks whose every sample has a number in every training."""
        return self.scored & (self.nulls == 0).all(axis=1)

    @property
    def unscored(self) -> int:
        """Rows whose score is null."""
        return int(self.nulls.sum())

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
    unit: NDArray[np.int64]
    """For each task the number of its unit: near-duplicates share one (`group` in tasks.jsonl)."""
    cells: dict[tuple[str, str], Cells] = field(default_factory=dict)
    """By (model, metric); a metric that applies to none of a model's rows is absent."""
    answers: dict[str, Floats] = field(default_factory=dict)
    """By model, how many rows each task and training has."""
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    finish_reasons: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many independent units the tasks are."""
        return len(np.unique(self.unit))

    def asked(self, metric: str, models: Sequence[str]) -> Mask:
        """Return the tasks on which the metric was to measure these models.

        Where it applies to one of them; where one of them has no row at all, it applies if it does to anybody.
        """
        known = [cells for (_, name), cells in self.cells.items() if name == metric]
        anybody = np.logical_or.reduce([cells.applies for cells in known]) if known else np.zeros(len(self.tasks), bool)
        own = [self.cells[model, metric].applies for model in models if (model, metric) in self.cells]
        without = [(self.answers[model] == 0).any(axis=1) for model in models if model in self.answers]
        there = np.logical_or.reduce(own) if own else np.zeros(len(self.tasks), bool)
        silent = np.logical_or.reduce(without) if without else np.zeros(len(self.tasks), bool)
        return np.asarray(there | (anybody & silent))


def build_table(
    suite: str,
    rows: Sequence[Row],
    scorers: Mapping[str, Mapping[str, Any]],
    without: Collection[str] = (),
    tasks_file: Tasks | None = None,
) -> Table:
    """Arrange one suite's rows; tasks in `without` are left out. Scores of metrics that `scorers` lacks are ignored."""
    rows = [row for row in rows if row["suite"] == suite and row["task"] not in without]
    tasks = sorted({row["task"] for row in rows})
    names = list(dict.fromkeys(row["model"] for row in rows))
    trainings: dict[str, list[str]] = {}
    for name in names:
        trainings.setdefault(family(name), []).append(name)
    trainings = {model: sorted(group, key=_natural) for model, group in trainings.items()}
    table = Table(suite, tasks, list(trainings), trainings, _units(suite, tasks, tasks_file or {}))
    position = {task: index for index, task in enumerate(tasks)}
    column = {name: index for group in trainings.values() for index, name in enumerate(group)}
    corpus = {m for m, s in scorers.items() if s.get("corpus") and any((r.get("counts") or {}).get(m) for r in rows)}
    for row in rows:
        model = family(row["model"])
        at = position[row["task"]], column[row["model"]]
        shape = (len(tasks), len(trainings[model]))
        table.outcomes.setdefault(model, Counter())[row.get("outcome") or "unscored"] += 1
        table.finish_reasons.setdefault(model, Counter())[row.get("finish_reason") or "none"] += 1
        table.answers.setdefault(model, np.zeros(shape))[at] += 1
        measured = any(score is not None for score in row["scores"].values())
        for metric, score in row["scores"].items():
            if metric not in scorers:
                continue
            cells = table.cells.get((model, metric))
            if cells is None:
                cells = Cells(np.zeros(len(tasks), dtype=bool), *(np.zeros(shape) for _ in range(4)))
                table.cells[model, metric] = cells
            counts = (row.get("counts") or {}).get(metric) if metric in corpus else None
            number = None if metric in corpus and counts is None else score
            _add(cells, at, number, counts, measured)
    return table


def _units(suite: str, tasks: Sequence[str], about: Tasks) -> NDArray[np.int64]:
    """Number the units in the order of their first task."""
    numbers: dict[str, int] = {}
    keys = [str((about.get((suite, task)) or {}).get("group") or task) for task in tasks]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def by_unit(values: Floats, unit: NDArray[np.int64]) -> Floats:
    """Return the mean of each unit over its tasks, shape (units, …), for `values` of shape (tasks, …)."""
    _, where, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), *values.shape[1:]))
    np.add.at(sums, where, values)
    return np.asarray(sums / sizes.reshape(-1, *[1] * (values.ndim - 1)))


def _add(
    cells: Cells, at: tuple[int, int], score: float | None, counts: Sequence[float] | None, measured: bool
) -> None:
    cells.applies[at[0]] = True
    if score is None or not math.isfinite(score):
        cells.nulls[at] += 1
        cells.overran[at] += measured
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
