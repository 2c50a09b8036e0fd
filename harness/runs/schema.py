"""The version that each file of a run carries, and the way from an older version to the one that is read now.

Every reader of a run's files passes what it read through `upgraded`. To change a format: raise `SCHEMA`, add to `STEPS`
the function that turns the version before into the new one, and describe it in docs/files.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

SCHEMA = 1
"""The version that is written."""

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _numbered(content: dict[str, Any]) -> dict[str, Any]:
    """0 → 1: the first files said no version; nothing else changed."""
    return content | {"schema": 1}


STEPS: Mapping[int, Step] = {0: _numbered}
"""Version → what turns an object of that version into one of the next."""


def upgraded(
    content: dict[str, Any], path: Path, *, newest: int = SCHEMA, steps: Mapping[int, Step] = STEPS
) -> dict[str, Any]:
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
