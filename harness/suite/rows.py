"""Reads rows from YAML, JSON, JSON Lines, CSV and Parquet files, and names the place of every fault."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.storage.yaml import read_yaml

SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in a file, with the words that name its place."""

    place: str
    values: dict[str, Any]


def read_rows(path: Path) -> list[RawRow]:
    """Return all rows of a data file.

    Raises:
        UsageError: the file is missing, empty, of another format, or broken; the message names the line.
    """
    if not path.is_file():
        raise UsageError(f"there is no data file {path}", "check the path")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path} is of no known format", "use " + ", ".join(SUFFIXES))
    readers = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet, ".json": _json}
    try:
        rows = list(readers.get(path.suffix, _yaml)(path))
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    if not rows:
        raise UsageError(f"{path} holds no rows", "a data file needs at least one row")
    return rows


def _yaml(path: Path) -> Iterator[RawRow]:
    content = read_yaml(path)
    if content is not None and not isinstance(content, list):
        raise UsageError(f"{path} must be a list of tasks", "begin each task with '- prompt: ...'")
    for number, item in enumerate(content or [], 1):
        if not isinstance(item, dict):
            raise UsageError(f"{path}, task {number} is not a mapping", "begin each task with '- prompt: ...'")
        yield RawRow(f"{path}, task {item.get('id') or number}", item)


def _json_lines(path: Path) -> Iterator[RawRow]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _row(f"{path}, line {number}", _parse_json(line, f"{path}, line {number}"))


def _json(path: Path) -> Iterator[RawRow]:
    content = _parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(content, list):
        raise UsageError(f"{path} must be a JSON list of objects", "for one object a line use the ending .jsonl")
    for number, item in enumerate(content, 1):
        yield _row(f"{path}, item {number}", item)


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} is not valid JSON: {error.msg} at column {error.colno}", "fix the line") from None


def _row(place: str, item: Any) -> RawRow:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is not an object", 'write {"prompt": ..., "reference": ...}')
    return RawRow(place, item)


def _csv(path: Path) -> Iterator[RawRow]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            for item in reader:
                if None in item:
                    raise UsageError(
                        f"{path}, line {reader.line_num} has more cells than the header", "quote cells with commas"
                    )
                yield RawRow(f"{path}, line {reader.line_num}", dict(item))
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num} is not valid CSV: {error}", "fix the quotes") from None


def _parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} is not a Parquet file: {reason}", "write it again") from None
    for number, item in enumerate(table.to_pylist(), 1):
        yield RawRow(f"{path}, row {number}", item)
