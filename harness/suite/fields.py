"""Values of a row as a task takes them: ids, categories and difficulties of other types, lists as texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

from harness.errors import UsageError
from harness.types import sha256

DIFFICULTIES = {
    "easy": ("easy", "e", "simple", "beginner", "low", "trivial"),
    "medium": ("medium", "m", "med", "moderate", "normal", "intermediate", "average"),
    "hard": ("hard", "h", "difficult", "advanced", "expert", "high"),
}
"""What the three are called elsewhere, in lower case."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def own_fields(values: Mapping[str, JsonValue], place: str) -> dict[str, JsonValue]:
    """Return the fields of a row in the harness' own words, in which a wrong difficulty is a misspelling.

    Raises:
        UsageError: its difficulty is none.
    """
    fields = dict(values)
    for name in ("category", "difficulty"):
        if name in fields:
            fields[name] = _label(fields[name])
    if fields.get("difficulty"):
        known = _difficulty(_label(fields["difficulty"]))
        if known not in DIFFICULTIES:
            raise UsageError(
                f"{place}: difficulty: Input should be '', 'easy', 'medium' or 'hard'",
                f"see docs/suites.md; got {fields['difficulty']!r:.60}",
            )
        fields["difficulty"] = known
    return fields


def foreign_fields(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the fields of a row from elsewhere, where every id, category and difficulty is somebody's.

    An id with letters that ours cannot have gets others, and six digits of its SHA-256 so that it stays its own;
    a difficulty that is none of ours stays a label of its own. Lists of texts are joined by empty lines.
    """
    fields = dict(values)
    for name in ("prompt", "input", "reference"):
        if name in fields:
            fields[name] = _text(fields[name])
    for name in ("category", "difficulty"):
        if name in fields:
            fields[name] = _label(fields[name])
    if "difficulty" in fields:
        fields["difficulty"] = _difficulty(_label(fields["difficulty"]))
    if "id" in fields:
        fields["id"] = identifier(_label(fields["id"]))
    return fields


def foreign_texts(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a row with its lists of texts as the texts that tasks take of them, for a guess of columns."""
    return {
        name: _text(value)
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value)
        else value
        for name, value in values.items()
    }


def _text(value: JsonValue) -> str:
    """A prompt, page or input as text; an absent one is empty."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n\n".join(_text(one) for one in value if one is not None)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _label(value: JsonValue) -> str:
    """A short text for any value: 3 and 3.0 are "3", a list is joined by commas, white space is one space."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_label, value)))
    return " ".join(_text(value).split())


def _difficulty(label: str) -> str:
    plain = label.lower()
    return next((name for name, words in DIFFICULTIES.items() if plain in words), plain)


def identifier(label: str) -> str | None:
    """Return an id for somebody's label: itself where it can be one, else with other letters and digits of its hash.

    None where the label is empty.
    """
    if not label:
        return None
    if _ID.fullmatch(label):
        return label
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-_.")[:57] or "id"
    return f"{plain}-{sha256(label)[:6]}"
