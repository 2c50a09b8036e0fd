"""Rows of samples.jsonl arranged for arithmetic: one suite, by model, metric, task and training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.compare.resample import Floats
from harness.runs.manifest import ScorerEntry
from harness.runs.model_name import family
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord

Mask = NDArray[np.bool_]
Tasks = Mapping[TaskKey, TaskRecord]
"""The lines of tasks.jsonl."""


@dataclass
class Cells:
    """One metric of one model: arrays of shape (tasks, trainings); NaN where there is no number."""

    applies: Mask
    """Tasks on which the metric is known to apply to this model, shape (tasks,): a row that holds no number at all (an
    answer that never came) does not say which metrics it would have had."""
    totals: Floats
    trials: Floats
    """How many samples of a task have a number, and what they sum to."""
    nulls: Floats
    """How many samples of a task have null, of those that the model was to give (see `_never_given`)."""
    overran: Floats
    """Those of them whose page has a number in another metric: the page was there, and could not be measured."""
    counts: Floats | None = None
    """Statistics of a corpus metric summed over the samples that have a number, shape (tasks, trainings, p)."""
    unscored: int = 0
    """Rows whose score is null."""

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
        return np.asarray((self.trials > 0).all(axis=1), dtype=bool)

    @property
    def complete(self) -> Mask:
        """Tasks whose every sample has a number in every training."""
        return np.asarray(self.scored & (self.nulls == 0).all(axis=1), dtype=bool)

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
    measured: dict[str, Floats] = field(default_factory=dict)
    """By model, how many rows with any number each task and training has."""
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    finish_reasons: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """How many independent units the tasks are."""
        return len(np.unique(self.unit))

    def fill(self, metric: str, models: Sequence[str]) -> None:
        """Give each of these models cells of a metric that another of them has: it is missing there, not inapplicable.

        Across runs one side may have been measured before the suite asked for it, or after it no longer did.
        """
        known = [self.cells[model, metric] for model in models if (model, metric) in self.cells]
        if not any(cells.applies.any() for cells in known):
            return
        for model in models:
            if model in self.trainings and (model, metric) not in self.cells:
                shape = (len(self.tasks), len(self.trainings[model]))
                self.cells[model, metric] = _no_cells(shape)

    def asked(self, metric: str, models: Sequence[str]) -> Mask:
        """Return the tasks on which the metric was to measure these models.

        Where it applies to one of them; where one of them has no row, or one without any number, it applies if it does
        to anybody, and where nobody has a number if it does to any task of the suite.
        """
        known = [cells.applies for (_, name), cells in self.cells.items() if name == metric]
        anybody = _any(known, len(self.tasks))
        own = _any([self.cells[m, metric].applies for m in models if (m, metric) in self.cells], len(self.tasks))
        lacking = [self.measured[model] == 0 for model in models if model in self.measured]
        silent = _any([np.asarray(rows.any(axis=1)) for rows in lacking], len(self.tasks))
        unknown = ~_any([np.asarray((rows > 0).any(axis=1)) for rows in self.measured.values()], len(self.tasks))
        return np.asarray(own | (silent & (anybody | (unknown & anybody.any()))), dtype=bool)


def _no_cells(shape: tuple[int, int]) -> Cells:
    totals, trials, nulls, overran = (np.zeros(shape) for _ in range(4))
    return Cells(np.zeros(shape[0], dtype=bool), totals, trials, nulls, overran)


def _any(masks: Sequence[Mask], length: int) -> Mask:
    return np.asarray(np.logical_or.reduce(masks)) if masks else np.zeros(length, dtype=bool)


def build_table(
    suite: str,
    rows: Sequence[SampleRecord],
    scorers: Mapping[str, ScorerEntry],
    without: Collection[str] = (),
    tasks_file: Tasks | None = None,
    void: Mapping[TaskKey, Collection[str]] | None = None,
) -> Table:
    """Arrange one suite's rows; tasks in `without` are left out. Scores of metrics that `scorers` lacks are ignored.

    Those of metrics that are `void` for a task are missing, by no page's fault.
    """
    rows = [row for row in rows if row.suite == suite and row.task not in without]
    tasks = sorted({row.task for row in rows})
    names = list(dict.fromkeys(row.model for row in rows))
    trainings: dict[str, list[str]] = {}
    for name in names:
        trainings.setdefault(family(name), []).append(name)
    trainings = {model: sorted(group, key=_natural) for model, group in trainings.items()}
    table = Table(suite, tasks, list(trainings), trainings, _units(suite, tasks, tasks_file or {}))
    position = {task: index for index, task in enumerate(tasks)}
    column = {name: index for group in trainings.values() for index, name in enumerate(group)}
    corpus = {m for m, s in scorers.items() if s.corpus and any(r.counts.get(m) for r in rows)}
    absent = _never_given(rows)
    for row in rows:
        model = family(row.model)
        at = position[row.task], column[row.model]
        shape = (len(tasks), len(trainings[model]))
        table.outcomes.setdefault(model, Counter())[row.outcome or "unscored"] += 1
        table.finish_reasons.setdefault(model, Counter())[row.finish_reason or "none"] += 1
        table.measured.setdefault(model, np.zeros(shape))[at] += row.measured
        for metric, score in row.scores.items():
            if metric not in scorers:
                continue
            cells = table.cells.get((model, metric))
            if cells is None:
                cells = table.cells[model, metric] = _no_cells(shape)
            if metric in (void or {}).get(row.of_task, ()):
                cells.applies[at[0]] = True
                cells.nulls[at] += 1
                cells.unscored += 1
                continue
            counts = row.counts.get(metric) if metric in corpus else None
            number = None if metric in corpus and counts is None else score
            cells.unscored += number is None
            if (row.model, row.sample) not in absent:
                _add(cells, at, number, counts, row.measured)
    # metrics that apply to nobody stand in the rows of answers that never came
    apply = {metric for (_, metric), cells in table.cells.items() if cells.applies.any()}
    if apply:
        table.cells = {key: cells for key, cells in table.cells.items() if key[1] in apply}
    return table


def _never_given(rows: Sequence[SampleRecord]) -> set[tuple[str, int]]:
    """Return the samples, by model, that have no number on any task although others have: it was asked fewer times.

    A file of answers may hold two of one model and one of another; the second of the other is not missing.
    """
    there = {(row.model, row.sample) for row in rows if row.measured}
    models = {model for model, _ in there}
    return {(row.model, row.sample) for row in rows if row.model in models} - there


def _units(suite: str, tasks: Sequence[str], about: Tasks) -> NDArray[np.int64]:
    """Number the units in the order of their first task."""
    numbers: dict[str, int] = {}
    known = [about.get(TaskKey(suite, task)) for task in tasks]
    keys = [(record.group if record else None) or task for task, record in zip(tasks, known, strict=True)]
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
    cells.applies[at[0]] |= measured
    if score is None:
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
