"""Environment variables: one place that decides whether one counts as set."""

from __future__ import annotations

import os
from pathlib import Path


def variable(name: str) -> str | None:
    """Return the value of an environment variable; None where it is unset, empty or white space.

    A variable that is set to nothing (`HARNESS_CACHE= make run`, an unset secret of a build server) says nothing.
    tools/venv_folder.py, which runs before this package is installed, decides `HARNESS_VENV` by the same rule.
    """
    value = os.environ.get(name, "")
    return value if value.strip() else None


def folder_variable(name: str) -> Path | None:
    """Return the path that a variable names, `~` being the user's home; None where it does not count as set."""
    value = variable(name)
    return None if value is None else Path(value).expanduser()
