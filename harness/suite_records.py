"""What a run's files say of its suites before anything is answered: how their parts compare, and the measured tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from harness.progress import Narrator
from harness.request import MeasuredSuite, Resolved
from harness.schema import SCHEMA
from harness.suite.leakage import first_of_group
from harness.suite.shift import shift


def compare_parts(resolved: Resolved, narrator: Narrator) -> dict[str, dict[str, Any] | None]:
    """Compare each suite's training and held-out rows, and say so where they are of different kinds."""
    found = {}
    for part in resolved.measured:
        compared = shift(part.suite.train, part.suite.held_out)
        if compared is not None and compared.told_apart:
            narrator.say(f"{part.suite.name}: {compared}")
        found[part.suite.name] = compared.as_dict() if compared else None
    return found


def task_lines(measured: Sequence[MeasuredSuite]) -> Iterator[dict[str, Any]]:
    """Yield the lines of tasks.jsonl; near-duplicates among the measured tasks of a suite have one `group`."""
    group = {part.suite.name: first_of_group(part.tasks) for part in measured}
    for part, task in chain.from_iterable(((part, task) for task in part.tasks) for part in measured):
        yield {
            "schema": SCHEMA,
            "suite": part.suite.name,
            "task": task.id,
            "group": group[part.suite.name][task.id],
            "prompt": task.prompt,
            "input": task.input,
            "reference": task.reference,
            "category": task.category,
            "difficulty": task.difficulty,
            "scope": task.scope,
            "ignore": sorted(task.ignore),
            "prompt_sha": task.prompt_sha,
        }
