"""Reads rows from files of many formats, and names the place of every fault."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.storage.yaml import read_yaml
from harness.suite.conversations import plain_row
from harness.suite.delimited import read_delimited
from harness.suite.encoding import read_text

_TABLES = (".csv", ".tsv")
_JSON_LINES = (".jsonl", ".ndjson")
_ARROW = (".arrow", ".feather")
SUFFIXES = (".yaml", ".yml", ".json", *_JSON_LINES, *_TABLES, ".parquet", *_ARROW)

_LISTS = ("data", "rows", "train", "examples", "items")
"""Keys under which a JSON file's rows may stand."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in a file, with the words that name its place."""

    place: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataFile:
    """The rows of a data file, and what had to be done to read it."""

    rows: list[RawRow]
    notes: tuple[str, ...] = ()


def read_rows(path: Path) -> list[RawRow]:
    """Return all rows of a data file; see `read_data`."""
    return read_data(path).rows


def read_data(path: Path) -> DataFile:
    """Return all rows of a data file, conversations as prompt and reference, NaN as None, with notes for people.

    Raises:
        UsageError: the file is missing, empty, of another format, or broken; the message names the line.
    """
    if not path.is_file():
        raise UsageError(f"there is no data file {path}", "check the path")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} is of no known format", "use " + ", ".join(SUFFIXES))
    notes: list[str] = []
    if suffix in (".yaml", ".yml"):
        found = _yaml(path)
    elif suffix == ".parquet" or suffix in _ARROW:
        found = _columnar(path, suffix)
    else:
        text, note = read_text(path)
        notes += [note] if note else []
        reader = _table if suffix in _TABLES else _json_lines if suffix in _JSON_LINES else _json
        found = reader(path, text)
    rows, conversation_notes = plain_rows(found)
    if not rows:
        raise UsageError(f"{path} holds no rows", "a data file needs at least one row")
    return DataFile(rows, (*notes, *conversation_notes))


def plain_rows(rows: Iterable[RawRow]) -> tuple[list[RawRow], list[str]]:
    """Return rows whose values are those of the harness: conversations split, NaN None; and notes for people.

    Raises:
        UsageError: a conversation is none that a task can be made of.
    """
    found: list[RawRow] = []
    columns: dict[str, None] = {}
    for row in rows:
        values, column = plain_row({name: _without_nan(value) for name, value in row.values.items()}, row.place)
        if column:
            columns[column] = None
        found.append(RawRow(row.place, values))
    if columns and not any(row.values.get("reference") for row in found):
        raise UsageError(
            f"{found[0].place}: nobody answers in this nor in any other conversation",
            "a task needs an answer as reference",
        )
    return found, [
        f"{column}: the last answer is the reference, the turns before it are the prompt" for column in columns
    ]


def _without_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _yaml(path: Path) -> Iterator[RawRow]:
    content = read_yaml(path)
    if content is not None and not isinstance(content, list):
        raise UsageError(f"{path} must be a list of tasks", "begin each task with '- prompt: ...'")
    for number, item in enumerate(content or [], 1):
        if not isinstance(item, dict):
            raise UsageError(f"{path}, task {number} is not a mapping", "begin each task with '- prompt: ...'")
        yield RawRow(f"{path}, task {item.get('id') or number}", item)


def _json_lines(path: Path, text: str) -> Iterator[RawRow]:
    whole = _list_of_objects(text)
    if whole is not None:  # a JSON list under the wrong name
        yield from _items(path, whole)
        return
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield _row(f"{path}, line {number}", _parse_json(line, f"{path}, line {number}"))


def _list_of_objects(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, list) and all(isinstance(item, dict) for item in content) else None


def _json(path: Path, text: str) -> Iterator[RawRow]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # JSON Lines under the wrong name
            yield from _json_lines(path, text)
            return
        content = _parse_json(text, str(path))
    except RecursionError:
        content = _parse_json(text, str(path))
    if isinstance(content, dict):
        lists = [content[name] for name in _LISTS if isinstance(content.get(name), list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise UsageError(f"{path} must be a JSON list of objects", "for one object a line use the ending .jsonl")
    yield from _items(path, content)


def _items(path: Path, content: list[Any]) -> Iterator[RawRow]:
    for number, item in enumerate(content, 1):
        yield _row(f"{path}, item {number}", item)


def _parse_json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} is not valid JSON: {error.msg} at column {error.colno}", "fix the line") from None
    except (RecursionError, ValueError):  # nested too deep; a number of thousands of digits
        raise UsageError(f"{place} is no JSON that can be read", "fix the line") from None


def _row(place: str, item: Any) -> RawRow:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is not an object", 'write {"prompt": ..., "reference": ...}')
    return RawRow(place, item)


def _table(path: Path, text: str) -> Iterator[RawRow]:
    for number, values in read_delimited(path, text):
        yield RawRow(f"{path}, line {number}", values)


def _columnar(path: Path, suffix: str) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    kind = "Parquet" if suffix == ".parquet" else "Arrow"
    try:
        if suffix == ".parquet":
            table = pq.read_table(path)
        else:
            try:
                table = feather.read_table(path)
            except pa.ArrowInvalid:  # a stream, as `datasets` writes it
                with pa.memory_map(str(path)) as stream:
                    table = pa.ipc.open_stream(stream).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{path} is not {'an' if kind == 'Arrow' else 'a'} {kind} file: {reason}", "write it again"
        ) from None
    for number, item in enumerate(table.to_pylist(), 1):
        yield RawRow(f"{path}, row {number}", item)
