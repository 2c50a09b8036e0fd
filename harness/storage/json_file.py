"""Reads a JSON file that holds an object: a model's config, a record of ours."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue

from harness.errors import UsageError

_AGAIN = "download or save it again"


def read_object(path: Path) -> dict[str, JsonValue]:
    """Return the object in a JSON file.

    Raises:
        UsageError: it cannot be read, is no JSON, or something else than an object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}", "check the path") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error!s:.100}", _AGAIN) from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object", _AGAIN)
    return found
