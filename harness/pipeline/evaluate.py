"""The measuring part of a run: every model answers every task, and every answer becomes a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from harness.generate.backend import SuiteQuestions
from harness.pipeline import stages
from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.pipeline.executor import Executor
from harness.pipeline.model_under_test import ModelUnderTest
from harness.progress import ProgressReporter
from harness.runs.folder import RunFolder
from harness.runs.manifest import TUNED, SelfTest
from harness.runs.samples import RecordKey, SampleRecord
from harness.types import Completion, Task

Finished = Mapping[RecordKey, SampleRecord]
"""The rows of the journal."""
OnRows = Callable[[MeasuredSuite, Sequence[SampleRecord]], None]


@dataclass(frozen=True)
class Journal:
    """A run's journal as it was found, and the folder that further rows go to."""

    folder: RunFolder
    finished: Finished
    on_rows: OnRows
    """Told after each chunk of a suite's rows all that there are of it by then."""


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
    tuned = {candidate.generator.name for candidate in candidates if candidate.spec.kind == TUNED}
    executor.begin()
    questions = [_questions(measured, candidates, plan.config.fresh) for measured in plan.measured]
    rows: list[SampleRecord] = []
    for measured, answers in zip(plan.measured, executor.answers(questions), strict=True):
        controls = _controls(measured, plan.controls)
        samples = sum(candidate.generator.samples for candidate in candidates)
        expected = len(controls) + samples * len(measured.own)
        pending = _PendingSamples(measured, journal.finished, seen, expected)
        by_id = {task.id: task for task in measured.own}
        work = ((by_id[done.task], done) for done in _in_order(controls, answers, tuned))
        refused = self_tests[measured.suite.name].refused
        rows += _score(pending, pending.missing(work), refused, journal, executor, reporter)
    return rows


def _questions(measured: MeasuredSuite, candidates: Sequence[ModelUnderTest], fresh: bool) -> list[SuiteQuestions]:
    name = measured.suite.name
    return [SuiteQuestions(candidate.on(name), name, measured.own, fresh) for candidate in candidates]


def _in_order(
    controls: Iterable[Completion], answers: Iterable[Completion], tuned: Collection[str]
) -> Iterable[Completion]:
    """Return the order of scoring.

    Where answers are still being written, controls go first, for they are there. Where all are, they go between those
    of the untuned models, which the table so far is made of, and those of the tuned.
    """
    if not isinstance(answers, list):
        return chain(controls, answers)
    untuned = (done for done in answers if done.model not in tuned)
    return chain(untuned, controls, (done for done in answers if done.model in tuned))


def _controls(measured: MeasuredSuite, controls: Sequence[str]) -> list[Completion]:
    from harness.scoring.controls import control_completions

    own = {task.id for task in measured.own}
    # over all tasks, so that another task's reference is the same one in every shard
    return [done for done in control_completions(measured.suite, measured.tasks, controls) if done.task in own]


@dataclass
class _PendingSamples:
    """Tells work that is to be scored from rows that are finished or not to be scored at all."""

    part: MeasuredSuite
    finished: Finished
    seen: Mapping[str, frozenset[str]]
    expected: int
    """How many rows are to be scored, as far as is known."""
    kept: list[SampleRecord] = field(default_factory=list)
    refused: deque[SampleRecord] = field(default_factory=deque)
    """Not yet in the journal."""

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.part.suite.name

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
    journal: Journal,
    executor: Executor,
    reporter: ProgressReporter,
) -> list[SampleRecord]:
    fresh_rows: list[SampleRecord] = []
    with reporter.stage(stages.pages(pending.suite), pending.expected) as stage:

        def keep(rows: list[SampleRecord]) -> None:
            if rows:
                journal.folder.append(rows)
                fresh_rows.extend(rows)
            stage.total(pending.expected)
            if pending.kept:
                stage.note = f"{len(pending.kept)} more from the journal"
            journal.on_rows(pending.part, [*pending.kept, *fresh_rows])

        for rows in executor.rows(pending.suite, missing, refused, journal.folder.write_shot, stage.advance):
            keep([*pending.take_refused(), *rows])
        keep(pending.take_refused())
    return [*pending.kept, *fresh_rows]
