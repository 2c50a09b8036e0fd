"""What a run's files say of its suites before anything is answered: how their parts compare, and the measured tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from harness.checks.words import Locator
from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.progress import ProgressReporter
from harness.runs.manifest import ShiftEntry
from harness.runs.samples import TaskRecord
from harness.storage.cache import content_key
from harness.suite.leakage import first_of_group
from harness.suite.shift import shift
from harness.types import Task


def compare_parts(plan: RunPlan, reporter: ProgressReporter) -> dict[str, ShiftEntry | None]:
    """Compare the rows that models learn from with each suite's held-out ones; say so where they are of other kinds.

    These are the suite's own training rows, unless this run trains, and on another suite alone.
    """
    learnt_from = [plan.learns_from[spec.name] for spec in plan.specs if spec.file.train]
    found: dict[str, ShiftEntry | None] = {}
    for part in plan.measured:
        suite = part.suite
        learnt = suite if suite in learnt_from or not learnt_from else learnt_from[0]
        compared = shift(learnt.train, suite.held_out)
        if compared is not None and compared.told_apart:
            trained = "" if learnt is suite else f", trained on {learnt.name}"
            reporter.say(f"{suite.name}{trained}: {compared}")
        found[suite.name] = ShiftEntry(**compared.as_dict(), training=learnt.name) if compared else None
    return found


def task_records(measured: Sequence[MeasuredSuite]) -> Iterator[TaskRecord]:
    """Yield the lines of tasks.jsonl; near-duplicates among the measured tasks of a suite have one `group`."""
    group = {part.suite.name: first_of_group(part.tasks) for part in measured}
    for part, task in chain.from_iterable(((part, task) for task in part.tasks) for part in measured):
        yield TaskRecord(
            suite=part.suite.name,
            task=task.id,
            group=group[part.suite.name][task.id],
            prompt=task.prompt,
            input=task.input,
            reference=task.reference,
            category=task.category,
            difficulty=task.difficulty,
            scope=task.scope,
            ignore=tuple(sorted(task.ignore)),
            prompt_sha=task.prompt_sha,
            checks_sha=_checks_sha(task),
        )


def _checks_sha(task: Task) -> str | None:
    """Return a hash of what a task's `must` checks do and ask, not of why."""
    must = [check for check in task.checks if check.level == "must"]
    steps = [[(step.kind, _plain(step.words)) for step in check.steps] for check in must]
    return content_key([[check.acts, done] for check, done in zip(must, steps, strict=True)]) if must else None


def _plain(words: Locator | str) -> object:
    return words if isinstance(words, str) else words.model_dump(mode="json", exclude_defaults=True)
