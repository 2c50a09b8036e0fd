"""Reads rows from files of many formats, and names the place of every fault."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from harness.errors import UsageError
from harness.storage.cache import file_sha256
from harness.storage.yaml import read_yaml
from harness.suite.columnar import read_columnar
from harness.suite.conversations import plain_row
from harness.suite.delimited import read_delimited
from harness.suite.encoding import read_text
from harness.suite.pairs import pair_files, read_pairs
from harness.suite.values import as_json
from harness.types import sha256

_TABLES = (".csv", ".tsv")
_JSON_LINES = (".jsonl", ".ndjson")
_ARROW = (".arrow", ".feather")
SUFFIXES = (".yaml", ".yml", ".json", *_JSON_LINES, *_TABLES, ".parquet", *_ARROW)

_LISTS = ("data", "rows", "train", "examples", "items")
"""Keys under which a JSON file's rows may stand."""
_OTHER_LISTS = ("test", "validation", "valid", "val", "dev", "eval", "held_out")
"""Keys under which it may have more rows, of another part."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in a file, with the words that name its place."""

    place: str
    values: dict[str, JsonValue]


Found = Iterator[tuple[str, Mapping[str, object]]]
"""Rows as their format has them: the words that name a row's place, and its values."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """The rows of a data file or folder, and what had to be done to read it."""

    rows: list[RawRow]
    notes: tuple[str, ...] = ()


def read_data(path: Path) -> DataFile:
    """Return all rows of a data file or a folder of pairs, conversations as prompt and reference, and notes.

    Raises:
        UsageError: the file is missing, empty, of another format, or broken; the message names the line.
    """
    if path.is_dir():
        pairs, notes = read_pairs(path)
        return DataFile([RawRow(place, dict(values)) for place, values in pairs], tuple(notes))
    if not path.is_file():
        raise UsageError(f"there is no data file {path}", "check the path")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} is of no known format", "use " + ", ".join(SUFFIXES) + ", or a folder of pairs")
    notes = []
    if suffix in (".yaml", ".yml"):
        found = _yaml(path)
    elif suffix == ".parquet" or suffix in _ARROW:
        found = read_columnar(path)
    else:
        text, note = read_text(path)
        notes += [note] if note else []
        reader: Callable[[Path, str], Found] = (
            _table if suffix in _TABLES else _json_lines if suffix in _JSON_LINES else _json
        )
        found = reader(path, text)
    rows, conversation_notes = plain_rows(found)
    if not rows:
        raise UsageError(f"{path} holds no rows", "a data file needs at least one row")
    return DataFile(rows, (*notes, *conversation_notes))


def data_files(path: Path) -> list[Path]:
    """Return the files that a data file or a folder of pairs consists of, in order."""
    return pair_files(path) if path.is_dir() else [path]


def data_sha256(path: Path) -> str:
    """Return the SHA-256 of a data file, or of the names and contents of a folder of pairs."""
    if not path.is_dir():
        return file_sha256(path)
    return sha256("".join(f"{file_sha256(file)} {file.relative_to(path).as_posix()}\n" for file in data_files(path)))


def revision_of(paths: Sequence[Path]) -> str:
    """Return what tells these data from others: `sha256:` and 64 hex digits over names and contents."""
    digest = hashlib.sha256()
    for path in paths:
        for file in data_files(path):
            digest.update(sha256(file.relative_to(path).as_posix() if path.is_dir() else file.name).encode())
            digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def plain_rows(rows: Iterable[tuple[str, Mapping[str, object]]]) -> tuple[list[RawRow], list[str]]:
    """Return rows, given by place and values, with values of JSON and conversations split; and notes for people.

    Raises:
        UsageError: a conversation is none that a task can be made of, or a value is nested too deep.
    """
    found: list[RawRow] = []
    columns: dict[str, None] = {}
    for place, values in rows:
        try:
            row, column = plain_row({str(name): as_json(value) for name, value in values.items()}, place)
        except RecursionError:
            raise UsageError(f"{place} is nested too deep", "leave the row out") from None
        if column:
            columns[column] = None
        found.append(RawRow(place, row))
    if columns and not any(row.values.get("reference") for row in found):
        raise UsageError(
            f"{found[0].place}: nobody answers in this nor in any other conversation",
            "a task needs an answer as reference",
        )
    return found, [
        f"{column}: the last answer is the reference, the turns before it are the prompt" for column in columns
    ]


def _yaml(path: Path) -> Found:
    content = read_yaml(path)
    if content is not None and not isinstance(content, list):
        raise UsageError(f"{path} must be a list of tasks", "begin each task with '- prompt: ...'")
    for number, item in enumerate(content or [], 1):
        if not isinstance(item, dict):
            raise UsageError(f"{path}, task {number} is not a mapping", "begin each task with '- prompt: ...'")
        yield f"{path}, task {item.get('id') or number}", item


def _json_lines(path: Path, text: str) -> Found:
    whole = _list_of_objects(text)
    if whole is not None:  # a JSON list under the wrong name
        yield from _items(path, whole)
        return
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield _row(f"{path}, line {number}", _parse_json(line, f"{path}, line {number}"))


def _list_of_objects(text: str) -> list[JsonValue] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, list) and all(isinstance(item, dict) for item in content) else None


def _json(path: Path, text: str) -> Found:
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
        lists = [name for name in _LISTS if isinstance(content.get(name), list)]
        lists += [name for name in _OTHER_LISTS if _holds_rows(content.get(name))]
        if len(lists) > 1:
            raise UsageError(f"{path} holds several lists of rows: {', '.join(lists)}", "make a file of each")
        content = content[lists[0]] if lists and lists[0] in _LISTS else content
    if not isinstance(content, list):
        raise UsageError(f"{path} must be a JSON list of objects", "for one object a line use the ending .jsonl")
    yield from _items(path, content)


def _holds_rows(content: JsonValue) -> bool:
    """Whether this is a list of objects, not such as `"eval": ["accuracy"]` beside the rows."""
    return isinstance(content, list) and any(isinstance(item, dict) for item in content)


def _items(path: Path, content: Sequence[JsonValue]) -> Found:
    for number, item in enumerate(content, 1):
        yield _row(f"{path}, item {number}", item)


def _parse_json(text: str, place: str) -> JsonValue:
    try:
        content: JsonValue = json.loads(text)
        return content
    except json.JSONDecodeError as error:
        raise UsageError(f"{place} is not valid JSON: {error.msg} at column {error.colno}", "fix the line") from None
    except (RecursionError, ValueError):  # nested too deep; a number of thousands of digits
        raise UsageError(f"{place} is no JSON that can be read", "fix the line") from None


def _row(place: str, item: JsonValue) -> tuple[str, Mapping[str, object]]:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is not an object", 'write {"prompt": ..., "reference": ...}')
    return place, item


def _table(path: Path, text: str) -> Found:
    for number, values in read_delimited(path, text):
        yield f"{path}, line {number}", values
