"""The version that each file of a run carries, and the way from an older version to the one that is read now.

Every reader of a run's files passes what it read through `upgraded`. To change a format: raise `SCHEMA`, add to `STEPS`
the function that turns the version before into the new one, and describe it in docs/files.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue

from harness.errors import HarnessError

SCHEMA = 2
"""The version that is written."""

JsonObject: TypeAlias = dict[str, JsonValue]

Step = Callable[[JsonObject], JsonObject]


def _numbered(content: JsonObject) -> JsonObject:
    """0 → 1: the first files said no version; nothing else changed."""
    return content | {"schema": 1}


def _renamed(content: JsonObject) -> JsonObject:
    """1 → 2: the manifest's self-test and dev evaluation in other words; a verdict's headline by itself."""
    new = content | {"schema": 2}
    for suite in _objects(new, "self_test"):
        suite["checks"] = [_check(check) for check in _list(suite.pop("trials", None)) if isinstance(check, dict)]
    for model in _objects(new, "models"):
        training = model.get("training")
        if isinstance(training, dict) and "watch" in training:
            model["training"] = {_TRAINING.get(key, key): value for key, value in training.items()}
    for holder in (new, *_objects(new, "suites")):
        for verdict in _objects(holder, "verdicts"):
            _split(verdict)
    if isinstance(main := new.get("verdict"), dict):
        _split(copy := dict(main))
        new["verdict"] = copy
    return new


_CHECK = {"mutant": "perturbation", "mutant_wins": "perturbation_wins"}
_TRAINING = {"watch": "evaluation"}


def _check(check: JsonObject) -> JsonValue:
    return {_CHECK.get(key, key): value for key, value in check.items()}


def _split(verdict: JsonObject) -> None:
    sentence = verdict.get("sentence")
    if isinstance(sentence, str):
        verdict.setdefault("headline", sentence.partition(": ")[0])


def _objects(holder: JsonObject, key: str) -> list[JsonObject]:
    """Return copies of the objects in an object of objects, put in the place of the old ones."""
    inner = holder.get(key)
    if not isinstance(inner, dict):
        return []
    copies = {name: dict(value) if isinstance(value, dict) else value for name, value in inner.items()}
    holder[key] = copies
    return [value for value in copies.values() if isinstance(value, dict)]


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


STEPS: Mapping[int, Step] = {0: _numbered, 1: _renamed}
"""Version → what turns an object of that version into one of the next."""


def upgraded(content: JsonObject, path: Path, *, newest: int = SCHEMA, steps: Mapping[int, Step] = STEPS) -> JsonObject:
    """Return one object of a file as if this version had written it; an object without a version is of version 0.

    Raises:
        HarnessError: the version is newer than `newest`, or is no version.
    """
    version = content.get("schema", 0)
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise HarnessError(f"{path} is of no known schema: {str(version)[:40]!r}", "restore the file")
    if version > newest:
        raise HarnessError(
            f"{path} is of schema {version}, newer than {newest}, which this harness reads", "update the harness"
        )
    for number in range(version, newest):
        content = steps[number](content)
    return content
