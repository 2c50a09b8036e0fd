"""Rows that no model wrote, scored like models: what the numbers mean is read off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import UsageError, did_you_mean
from harness.types import CONTROL_NAMES, Answer, Completion, Suite, Task


def control_completions(suite: Suite, tasks: Sequence[Task], names: Sequence[str]) -> list[Completion]:
    """Return one completion per control and task, in that order; the same arguments always give the same.

    `reference` is the ceiling, `nearest` what memorising the training rows buys, `shuffled` what any page of the suite
    gets, `empty` the floor, `prompt` what parroting buys.

    Raises:
        UsageError: a name is no control.
    """
    answers: dict[str, Callable[[Suite, Sequence[Task]], list[Answer]]] = {
        "reference": lambda _, tasks: [Answer(task.reference, "eos") for task in tasks],
        "nearest": _nearest,
        "shuffled": _shuffled,
        "empty": lambda _, tasks: [Answer("", "eos") for _ in tasks],
        "prompt": lambda _, tasks: [Answer(_question(task), "eos") for task in tasks],
    }
    for name in names:
        if name not in answers:
            raise UsageError(f"there is no control '{name}'", did_you_mean(name, CONTROL_NAMES))
    return [
        answer.at(task.id, name, 0)
        for name in names
        for task, answer in zip(tasks, answers[name](suite, tasks), strict=True)
    ]


def _question(task: Task) -> str:
    return f"{task.prompt}\n\n{task.input}" if task.input else task.prompt


def _nearest(suite: Suite, tasks: Sequence[Task]) -> list[Answer]:
    """The reference of the training row with the most similar prompt (words in any order; the first among equals)."""
    from rapidfuzz import fuzz, process

    rows = [row for row in suite.train if row.reference]
    if not rows:
        return [Answer("", "eos", note="the suite has no training rows")] * len(tasks)
    questions = [_question(row).lower() for row in rows]
    found = []
    for task in tasks:
        _, _, index = process.extractOne(_question(task).lower(), questions, scorer=fuzz.token_sort_ratio)
        found.append(Answer(rows[index].reference, "eos", note=f"the answer of training row {rows[index].id}"))
    return found


def _shuffled(suite: Suite, tasks: Sequence[Task]) -> list[Answer]:
    """Another task's reference: that of the task half the list away, or the next after it with another text."""
    pool = sorted({task.id: task for task in (*suite.held_out, *tasks)}.values(), key=lambda task: task.id)
    if len({task.reference for task in pool}) < 2:
        pool = [*pool, *sorted(suite.train, key=lambda task: task.id)]
    position = {task.id: index for index, task in enumerate(pool)}
    found = []
    for task in tasks:
        start = position[task.id] + max(1, len(pool) // 2)
        others = (pool[(start + step) % len(pool)] for step in range(len(pool)))
        other = next((o for o in others if o.reference and o.reference != task.reference), None)
        text, note = (other.reference, f"the reference of {other.id}") if other else ("", "there is no other task")
        found.append(Answer(text, "eos", note=note))
    return found
