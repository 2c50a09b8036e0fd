"""What is written to a run's folder is a record: a frozen type that keeps what an older or newer version wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from harness.errors import HarnessError
from harness.runs.schema import SCHEMA


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a valid string")
    return value


def _name(value: object) -> str:
    if not _text(value):
        raise PydanticCustomError("string_too_short", "String should have at least 1 character")
    return _text(value)


Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string"})]
"""Any text. Models write lone surrogates, which pydantic's own `str` refuses."""
Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": "string", "minLength": 1})]
Count = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Probability = Annotated[Number, Field(ge=0, json_schema_extra={"maximum": 1})]

_LONGEST = 60
_HINT = "call `run` again to write it anew"
_WANTED = {
    "string_type": "text",
    "string_too_short": "text",
    "int_type": "a whole number from 0",
    "greater_than_equal": "a number from 0",
    "less_than_equal": "a number from 0 to 1",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "tuple_type": "a list",
    "list_type": "a list",
}
"""What a field should hold, by pydantic's word for the mistake."""


def _json(value: object) -> JsonValue:
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise PydanticCustomError("json_type", "Input should be what JSON can hold")


FreeJson = Annotated[JsonValue, PlainValidator(_json), WithJsonSchema({})]
"""What somebody else decides the shape of; a tuple becomes the list that its file has."""


def _is_none(value: object) -> bool:
    return value is None


VERSION = Field(default=SCHEMA, alias="schema", json_schema_extra={"const": SCHEMA})
"""The field `schema` of a file, under a name that pydantic leaves free."""
ABSENT = Field(default=None, exclude_if=_is_none)
"""A field that is left out of the file where there is nothing to say."""


class Record(BaseModel):
    """One object of a file; keys that this version does not know are kept and written again."""

    model_config = ConfigDict(
        frozen=True, extra="allow", validate_by_name=True, serialize_by_alias=True, defer_build=True
    )

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object as it is written; lone surrogates of a model's text stay what they are."""
        return self.model_dump()

    def with_(self, **changes: object) -> Self:
        """Return the record with some fields changed, checked like any other."""
        return type(self).model_validate(dict(self) | changes)


def as_json(content: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return a mapping as JSON would give it back: tuples as lists, names of keys as texts."""
    found: dict[str, JsonValue] = json.loads(json.dumps(content))
    return found


class Interval(Record):
    """What has a 95 % interval; None where nothing was measured."""

    low: Number | None
    high: Number | None


RecordT = TypeVar("RecordT", bound=Record)


def parsed(kind: type[RecordT], content: object, place: str) -> RecordT:
    """Return the record that an object of a file is, given with the place where it stands ("FILE line 3").

    Raises:
        HarnessError: a field is missing or holds what it cannot hold; names place and field.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "literal_error":
            wanted = str(first["ctx"]["expected"]).replace("'", "")
        else:
            wanted = _WANTED.get(first["type"], first["msg"])
        if path.startswith("scores."):
            wanted = "null or a number"
        missing = first["type"] == "missing"
        raise unfit(place, path, None if missing else first["input"], wanted, there=not missing) from None


def unfit(place: str, field: str, value: object, wanted: str, *, there: bool = True) -> HarnessError:
    """Return the error that names a field of a file and what it should hold."""
    shown = repr(value) if there else "missing"
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    return HarnessError(f"{place}: {field} is {shown}{f', not {wanted}' if there else ''}", _HINT)
