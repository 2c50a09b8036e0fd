"""Append-only JSON Lines files that survive a crash in the middle of a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from harness.errors import cannot_write


def append_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Append rows and bring them to the disk; a torn line before them is closed first.

    Raises:
        HarnessError: the disk is full or not writable; what was there before stays.
    """
    content = b"".join(_encode(row) for row in rows)
    try:
        with path.open("ab+") as stream:
            if stream.seek(0, os.SEEK_END) and _last_byte(stream) != b"\n":
                content = b"\n" + content
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def read_lines(path: Path) -> list[dict[str, JsonValue]]:
    """Return the rows of a file, none if it does not exist; lines torn by a crash are left out."""
    rows = []
    if path.exists():
        for line in path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows


def dump_lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(_encode(row) for row in rows)


def _encode(row: Mapping[str, object]) -> bytes:
    # ASCII escapes keep lone surrogates, which no UTF-8 file could hold
    return json.dumps(row, ensure_ascii=True, separators=(",", ":"), sort_keys=True).encode() + b"\n"


def _last_byte(stream: BinaryIO) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)
