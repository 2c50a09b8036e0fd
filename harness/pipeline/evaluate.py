"""The measuring part of a run: every model answers every task, and every answer becomes a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.generate.backend import Backend
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


def measure(
    plan: RunPlan,
    candidates: Sequence[ModelUnderTest],
    folder: RunFolder,
    finished: Finished,
    self_tests: Mapping[str, SelfTest],
    executor: Executor,
    reporter: ProgressReporter,
) -> list[SampleRecord]:
    """Generate and score everything; rows that are in the journal with the same completion are kept."""
    seen = {candidate.generator.name: candidate.trained_on for candidate in candidates}
    executor.begin()
    fresh = plan.config.fresh
    answered: list[tuple[MeasuredSuite, Iterable[tuple[Task, Completion]]]] = []
    for measured in plan.measured:
        if executor.streams:
            work: Iterable[tuple[Task, Completion]] = _stream(measured, candidates, plan.controls, fresh, executor)
        else:
            work = _answer(measured, candidates, plan.controls, fresh, reporter)
        answered.append((measured, work))
    rows: list[SampleRecord] = []
    for measured, work in answered:
        pending = _PendingSamples(measured.suite.name, finished, seen)
        refused = self_tests[measured.suite.name].refused
        rows += _score(pending, work, refused, folder, executor, reporter)
    return rows


def _answer(
    measured: MeasuredSuite,
    candidates: Sequence[ModelUnderTest],
    controls: Sequence[str],
    fresh: bool,
    reporter: ProgressReporter,
) -> list[tuple[Task, Completion]]:
    """Let one model after the other answer a suite, before anything is scored."""
    by_id = {task.id: task for task in measured.own}
    work: list[tuple[Task, Completion]] = []
    for candidate in candidates:
        work += [
            (by_id[done.task], done) for done in _generate(candidate.on(measured.suite.name), measured, fresh, reporter)
        ]
    return work + _controls(measured, controls)


def _stream(
    measured: MeasuredSuite,
    candidates: Sequence[ModelUnderTest],
    controls: Sequence[str],
    fresh: bool,
    executor: Executor,
) -> Iterator[tuple[Task, Completion]]:
    """Yield answers as they are finished; controls go first, for they are there before any model is loaded."""
    yield from _controls(measured, controls)
    by_id = {task.id: task for task in measured.own}
    for candidate in candidates:
        for done, _ in candidate.on(measured.suite.name).answers(measured.own, fresh=fresh, decoding=executor.decoding):
            yield by_id[done.task], done


def _controls(measured: MeasuredSuite, controls: Sequence[str]) -> list[tuple[Task, Completion]]:
    from harness.scoring.controls import control_completions

    by_id = {task.id: task for task in measured.own}
    # over all tasks, so that another task's reference is the same one in every shard
    made = control_completions(measured.suite, measured.tasks, controls)
    return [(by_id[done.task], done) for done in made if done.task in by_id]


def _generate(generator: Backend, measured: MeasuredSuite, fresh: bool, reporter: ProgressReporter) -> list[Completion]:
    count = len(measured.own) * generator.samples
    with reporter.stage(f"{generator.name} answers {measured.suite.name}", count) as stage:
        tokens, seconds, cached = 0, 0.0, 0

        def show(completion: Completion, stored: bool) -> None:
            nonlocal tokens, seconds, cached
            cached += stored
            if not stored:
                tokens, seconds = tokens + completion.completion_tokens, seconds + completion.seconds
            speed = f"{tokens / seconds:.0f} tokens/s" if seconds else ""
            stage.advance(speed or f"{cached} from the store")

        return generator.complete(measured.own, fresh=fresh, on_done=show)


@dataclass
class _PendingSamples:
    """Tells work that is to be scored from rows that are finished or not to be scored at all."""

    suite: str
    finished: Finished
    seen: Mapping[str, frozenset[str]]
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

    def take_refused(self) -> list[SampleRecord]:
        """Return the refused rows that came since the last call."""
        return [self.refused.popleft() for _ in range(len(self.refused))]


def _score(
    pending: _PendingSamples,
    work: Iterable[tuple[Task, Completion]],
    refused: Mapping[str, str],
    folder: RunFolder,
    executor: Executor,
    reporter: ProgressReporter,
) -> list[SampleRecord]:
    name = f"checking and rendering {pending.suite}"
    missing: Iterable[tuple[Task, Completion]] = pending.missing(work)
    total = None
    if executor.streams:
        name = f"answering, checking and rendering {pending.suite}"
    else:
        missing = list(missing)
        total = len(missing)
    fresh_rows: list[SampleRecord] = []

    def keep(rows: list[SampleRecord]) -> None:
        if rows:
            folder.append(rows)
            fresh_rows.extend(rows)

    with reporter.stage(name, total) as stage:
        on_page: Callable[[], None] = stage.advance
        if pending.kept:
            stage.note = f"{len(pending.kept)} more from the journal"
        keep(pending.take_refused())
        for rows in executor.rows(pending.suite, missing, refused, folder.write_shot, on_page):
            keep([*pending.take_refused(), *rows])
        keep(pending.take_refused())
        if pending.kept:
            stage.note = f"{len(pending.kept)} more from the journal"
    return [*pending.kept, *fresh_rows]
