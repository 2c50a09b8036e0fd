"""The measuring part of a run: every model answers every task, and every answer becomes a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from harness.generate.backend import SuiteQuestions
from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.pipeline.executor import Executor
from harness.pipeline.model_under_test import ModelUnderTest
from harness.progress import ProgressReporter
from harness.runs.folder import RunFolder
from harness.runs.manifest import SelfTest
from harness.runs.samples import RecordKey, SampleRecord
from harness.types import Completion, Task

Finished = Mapping[RecordKey, SampleRecord]
"""The rows of the journal."""


@dataclass(frozen=True)
class Journal:
    """A run's journal as it was found, and the folder that further rows go to."""

    folder: RunFolder
    finished: Finished


def measure(
    plan: RunPlan,
    candidates: Sequence[ModelUnderTest],
    journal: Journal,
    self_tests: Mapping[str, SelfTest],
    executor: Executor,
    reporter: ProgressReporter,
) -> list[SampleRecord]:
    """Generate and score everything; rows that are in the journal with the same completion are kept."""
    seen = {candidate.generator.name: candidate.trained_on for candidate in candidates}
    executor.begin()
    questions = [_questions(measured, candidates, plan.config.fresh) for measured in plan.measured]
    rows: list[SampleRecord] = []
    for measured, answers in zip(plan.measured, executor.answers(questions), strict=True):
        controls = _controls(measured, plan.controls)
        samples = sum(candidate.generator.samples for candidate in candidates)
        expected = len(controls) + samples * len(measured.own)
        pending = _PendingSamples(measured.suite.name, journal.finished, seen, expected)
        by_id = {task.id: task for task in measured.own}
        # controls go first, for they are there before any model is loaded
        work = ((by_id[done.task], done) for done in chain(controls, answers))
        refused = self_tests[measured.suite.name].refused
        rows += _score(pending, pending.missing(work), refused, journal.folder, executor, reporter)
    return rows


def _questions(measured: MeasuredSuite, candidates: Sequence[ModelUnderTest], fresh: bool) -> list[SuiteQuestions]:
    name = measured.suite.name
    return [SuiteQuestions(candidate.on(name), name, measured.own, fresh) for candidate in candidates]


def _controls(measured: MeasuredSuite, controls: Sequence[str]) -> list[Completion]:
    from harness.scoring.controls import control_completions

    own = {task.id for task in measured.own}
    # over all tasks, so that another task's reference is the same one in every shard
    return [done for done in control_completions(measured.suite, measured.tasks, controls) if done.task in own]


@dataclass
class _PendingSamples:
    """Tells work that is to be scored from rows that are finished or not to be scored at all."""

    suite: str
    finished: Finished
    seen: Mapping[str, frozenset[str]]
    expected: int
    """How many rows are to be scored, as far as is known."""
    kept: list[SampleRecord] = field(default_factory=list)
    refused: deque[SampleRecord] = field(default_factory=deque)
    """Not yet in the journal."""

    def missing(self, work: Iterable[tuple[Task, Completion]]) -> Iterator[tuple[Task, Completion]]:
        """Yield what is to be scored."""
        from harness.scoring.scorer import unscored

        for task, done in work:
            row = self.finished.get(RecordKey(self.suite, task.id, done.model, done.sample))
            if row is not None and row.completion == done.text and row.prompt_sha == task.prompt_sha:
                self.kept.append(row)
            elif task.prompt_sha in self.seen.get(done.model, frozenset()):
                self.refused.append(unscored(self.suite, task, done, "the model was trained on this row"))
            elif done.unanswered:
                self.refused.append(unscored(self.suite, task, done, done.unanswered))
            else:
                yield task, done
                continue
            self.expected -= 1

    def take_refused(self) -> list[SampleRecord]:
        """Return the refused rows that came since the last call."""
        return [self.refused.popleft() for _ in range(len(self.refused))]


def _score(
    pending: _PendingSamples,
    missing: Iterable[tuple[Task, Completion]],
    refused: Mapping[str, str],
    folder: RunFolder,
    executor: Executor,
    reporter: ProgressReporter,
) -> list[SampleRecord]:
    fresh_rows: list[SampleRecord] = []
    with reporter.stage(f"checking and rendering {pending.suite}", pending.expected) as stage:

        def keep(rows: list[SampleRecord]) -> None:
            if rows:
                folder.append(rows)
                fresh_rows.extend(rows)
            stage.total(pending.expected)
            if pending.kept:
                stage.note = f"{len(pending.kept)} more from the journal"

        for rows in executor.rows(pending.suite, missing, refused, folder.write_shot, stage.advance):
            keep([*pending.take_refused(), *rows])
        keep(pending.take_refused())
    return [*pending.kept, *fresh_rows]
