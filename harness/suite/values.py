"""Values of rows as JSON has them, whatever the file's format calls them; and columns that lie within columns."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal

from pydantic import JsonValue

_SURROGATE = re.compile("[\ud800-\udfff]")


def as_json(value: object) -> JsonValue:
    """Return a value of any format as JSON: NaN is None, bytes are text where they are UTF-8 and else None.

    Dates and times are ISO 8601, decimals numbers, halves of a UTF-16 pair (which no tokenizer takes) are replaced.

    Raises:
        RecursionError: it is nested too deep.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, str):
        return _whole_characters(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:  # such as a picture
            return None
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return None if value.is_nan() else int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _whole_characters(text: str) -> str:
    if text.isascii() or _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def column_names(rows: Sequence[Mapping[str, JsonValue]]) -> list[str]:
    """Return the names of all columns, those within objects as `outer.inner`, in the order of their first row."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(_leaves(row))
    return list(names)


def _leaves(values: Mapping[str, JsonValue], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"]
    return found


def column_value(row: Mapping[str, JsonValue], column: str) -> JsonValue:
    """Return the value of a column, or of what lies within one by its path (`answer.html`, `answers.0.html`).

    None where it is absent; `has_column` tells that from a null.
    """
    return _found(row, column)[1]


def has_column(row: Mapping[str, JsonValue], column: str) -> bool:
    """Return whether a row has a column, be it null, or by a path what lies within one, or a null on the way to it."""
    return _found(row, column)[0]


def _found(value: JsonValue | Mapping[str, JsonValue], path: str) -> tuple[bool, JsonValue]:
    if isinstance(value, list):
        number, _, rest = path.partition(".")
        if not (number.isdecimal() and int(number) < len(value)):
            return False, None
        return _found(value[int(number)], rest) if rest else (True, value[int(number)])
    if not isinstance(value, Mapping):
        return value is None, None
    if path in value:
        return True, value[path]
    for name, inner in value.items():
        if path.startswith(f"{name}."):
            found = _found(inner, path[len(name) + 1 :])
            if found[0]:
                return found
    return False, None
