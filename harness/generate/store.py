"""The append-only store of completions, shared by all runs and keyed by content, never by a model's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from harness.cache import cache_folder, content_key
from harness.jsonl import append_lines, read_lines
from harness.schema import SCHEMA, upgraded
from harness.types import FinishReason


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """A completion without the names of task and model, which may change while the content stays."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    note: str = ""


_FIELDS = frozenset(field.name for field in fields(StoredCompletion))


class CompletionStore:
    """Completions of one model identity: weights, adapter, precision, template, examples and settings.

    One JSON Lines file each, its lines of a schema as those of a run's files. Rows are only ever appended; a line torn
    by a crash is dropped.
    """

    def __init__(self, identity: Mapping[str, Any], folder: Path | None = None) -> None:
        self.path = (folder or cache_folder("completions")) / f"{content_key(identity)[:32]}.jsonl"
        self._rows: dict[str, StoredCompletion] = {}
        for line in read_lines(self.path):
            row = upgraded(line, self.path)
            self._rows[row["key"]] = StoredCompletion(
                **{field.name: row[field.name] for field in fields(StoredCompletion)}
            )

    @staticmethod
    def key(prompt: Any, sample: int, seed: int) -> str:
        """Return the key of one completion of one prompt: token ids, a text or messages."""
        return content_key([prompt, sample, seed])[:32]

    def get(self, key: str) -> StoredCompletion | None:
        """Return the completion of that key, or None."""
        return self._rows.get(key)

    @property
    def answered(self) -> bool:
        """Whether any completion is more than an error."""
        return any(row.finish_reason != "error" for row in self._rows.values())

    def put(self, key: str, completion: StoredCompletion) -> None:
        """Append a completion; it is on disk when this returns.

        Raises:
            HarnessError: the disk is full or not writable; what was stored before stays.
        """
        append_lines(self.path, [{"schema": SCHEMA, "key": key, **asdict(completion)}])
        self._rows[key] = completion
