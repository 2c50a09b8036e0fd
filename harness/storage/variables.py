"""Environment variables: one place that decides whether one counts as set."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UsageError


def variable(name: str) -> str | None:
    """Return the value of an environment variable; None where it is unset, empty or white space.

    A variable that is set to nothing (`HARNESS_CACHE= make run`, an unset secret of a build server) says nothing.
    tools/venv_folder.py, which runs before this package is installed, decides `HARNESS_VENV` by the same rule.
    """
    value = os.environ.get(name, "")
    return value if value.strip() else None


def folder_variable(name: str) -> Path | None:
    """Return the path that a variable names, `~` being the user's home; None where it does not count as set.

    Raises:
        UsageError: it names the home of somebody whom this machine does not know.
    """
    value = variable(name)
    try:
        return None if value is None else Path(value).expanduser()
    except RuntimeError:
        raise UsageError(f"{name}={value} names a home folder that is not there", "give the whole path") from None


def without_tilde(path: str) -> Path:
    """Return a path with `~` being the home of a user; as it is where this machine knows none of that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
