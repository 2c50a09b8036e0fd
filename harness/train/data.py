"""Training rows as tokens, and everything about them that a person should know before the training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.answer import thought_left_open
from harness.errors import UsageError
from harness.model.prompt import PromptRenderer
from harness.types import Task, sha256

IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row as token ids; `labels` are `IGNORED_LABEL` over the prompt, so that only the answer is learnt."""

    task: str
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class DataReport:
    """What is wrong with training rows, by task id."""

    empty: tuple[str, ...]
    duplicates: tuple[str, ...]
    truncated: tuple[str, ...]
    """Rows whose answer is cut."""
    crowded_out: tuple[str, ...]
    """Rows whose prompt alone takes all the room."""

    def lines(self) -> list[str]:
        """Return one line per kind of fault, with its count and the first ids."""
        kinds = (
            (self.empty, "without an answer, left out"),
            (self.duplicates, "equal to an earlier row, left out"),
            (self.truncated, "longer than max_length, cut"),
            (self.crowded_out, "whose prompt alone fills max_length, left out"),
        )
        return [
            f"{len(ids)} training rows {words}: {', '.join(ids[:5])}{' …' if len(ids) > 5 else ''}"
            for ids, words in kinds
            if ids
        ]


def check_context(rows: Sequence[TrainingRow], context: int | None) -> None:
    """Refuse rows that are longer than any sequence that the model was made for.

    Raises:
        UsageError: the first of them.
    """
    for row in rows:
        if context is not None and len(row.input_ids) > context:
            raise UsageError(
                f"training row {row.task} has {len(row.input_ids)} tokens, the model's context {context}",
                f"set train.sft.max_length to {context} or less",
            )


def training_rows(
    tasks: Sequence[Task], renderer: PromptRenderer, max_length: int | None
) -> tuple[list[TrainingRow], DataReport]:
    """Return the rows to train on, and a report of those that are left out or cut.

    Raises:
        UsageError: nothing is left to train on.
    """
    rows: list[TrainingRow] = []
    empty, duplicates, truncated, crowded_out = [], [], [], []
    seen: set[str] = set()
    for task in tasks:
        if not task.reference.strip():
            empty.append(task.id)
            continue
        content = task.prompt_sha + sha256(task.reference)
        if content in seen:
            duplicates.append(task.id)
            continue
        seen.add(content)
        prompt = renderer.tokens(task)
        answer = renderer.answer_tokens(task.reference, thought_left_open(renderer.text(task)))
        if max_length is not None and len(prompt) >= max_length:
            crowded_out.append(task.id)
            continue
        if max_length is not None and len(prompt) + len(answer) > max_length:
            truncated.append(task.id)
        labels = [IGNORED_LABEL] * len(prompt) + answer
        rows.append(TrainingRow(task.id, (prompt + answer)[:max_length], labels[:max_length]))
    if not rows:
        raise UsageError("no training rows are left", "each needs a prompt and an answer that fit in max_length")
    return rows, DataReport(tuple(empty), tuple(duplicates), tuple(truncated), tuple(crowded_out))
