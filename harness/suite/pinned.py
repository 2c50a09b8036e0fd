"""Rows known by their content: whether those at hand are the ones that were published, whoever they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from harness.suite.schema import PinnedRows
from harness.types import Task


def rows_sha256(tasks: Sequence[Task]) -> str:
    """Return the SHA-256 of rows in order.

    Each row is `[prompt, input, reference]` as JSON without spaces and without escapes beyond the needed ones; a line
    feed stands between two.
    """
    lines = (
        json.dumps([task.prompt, task.input, task.reference], ensure_ascii=False, separators=(",", ":"))
        for task in tasks
    )
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def known_rows(tasks: Sequence[Task], pinned: PinnedRows) -> str:
    """Return in words what these rows are of the published ones: all, the first so many, or others."""
    count = len(tasks)
    if count == pinned.rows and rows_sha256(tasks) == pinned.sha256:
        return f"the {pinned.rows} published rows"
    begin = max(
        (first for first, sha in pinned.first.items() if first <= count and rows_sha256(tasks[:first]) == sha),
        default=0,
    )
    if begin == count:
        return f"the first {count} of the {pinned.rows} published rows"
    alike = f"; the first {begin} are the same" if begin else ""
    return f"{count} other rows than the {pinned.rows} published ones{alike}"
