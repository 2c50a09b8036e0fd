"""The append-only store of completions, shared by all runs and keyed by content, never by a model's name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from harness.runs.schema import SCHEMA, upgraded
from harness.storage.atomic import write_atomically
from harness.storage.cache import cache_folder, content_key
from harness.storage.jsonl import append_lines, read_lines
from harness.types import Answer

FORM = 3
"""Raised when the same identity can get another text, because answers are ended, cut or read in another way."""


_ANSWER = TypeAdapter(Answer)


class CompletionStore:
    """Completions of one model identity: everything that decides what it writes, and no name.

    One JSON Lines file each, its lines of a schema as those of a run's files. Rows are only ever appended; a line torn
    by a crash is dropped. A file beside it says for people whose they are: the identity, and the model's name when the
    first of them was stored.
    """

    def __init__(self, identity: Mapping[str, object], folder: Path | None = None, *, model: str = "") -> None:
        key = content_key({"form": FORM, "identity": identity})[:32]
        self.path = (folder or cache_folder("completions")) / f"{key}.jsonl"
        self._about = {"model": model, "form": FORM, "identity": identity}
        self._rows: dict[str, Answer] = {}
        for line in read_lines(self.path):
            row = upgraded(line, self.path)
            self._rows[str(row["key"])] = _ANSWER.validate_python(row)

    @staticmethod
    def key(prompt: object, sample: int, seed: int) -> str:
        """Return the key of one completion of one prompt: token ids, a text or messages."""
        return content_key([prompt, sample, seed])[:32]

    @staticmethod
    def key_by(key: str, decoder: str) -> str:
        """Return the key of the same completion where another decoder wrote it than the identity names."""
        return content_key([key, decoder])[:32]

    def get(self, key: str) -> Answer | None:
        """Return the answer of that key, or None."""
        return self._rows.get(key)

    @property
    def answered(self) -> bool:
        """Whether any completion is more than an error."""
        return any(row.finish_reason != "error" for row in self._rows.values())

    def put(self, key: str, answer: Answer) -> None:
        """Append an answer; it is on disk when this returns.

        Raises:
            HarnessError: the disk is full or not writable; what was stored before stays.
        """
        if not self._rows:
            with contextlib.suppress(OSError):  # a full disk is named by what follows
                write_atomically(self.path.with_suffix(".json"), json.dumps(self._about))
        row = _ANSWER.dump_python(answer, exclude={"unanswered"})
        append_lines(self.path, [{"schema": SCHEMA, "key": key, **row}])
        self._rows[key] = answer
