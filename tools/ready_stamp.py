"""Whether a finished set-up still stands, told without starting anything: so the second `make` begins at once.

The stamp holds a digest of all that decides what set-up does, and the files outside the environment that it found or
fetched. It is written after everything has succeeded.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

NAME = ".harness-ready"
_VARIABLES = ("HARNESS_", "PLAYWRIGHT_", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")
"""By which browser and model are found; PATH is not here: what was found on it is looked for by its own path."""


def stands(environment: Path, python: Path, root: Path, extras: Iterable[str]) -> bool:
    """Return whether set-up has succeeded for this state of things, and what it found is still there.

    Args:
        environment: The folder of the virtual environment.
        python: Its Python.
        root: The project's folder.
        extras: The extras that are wanted; more may be there.
    """
    try:
        digest, there, *files = (environment / NAME).read_text(encoding="utf-8").splitlines()
        same = digest == _digest(python, root)
    except (OSError, ValueError):  # ValueError: another or no text
        return False
    return same and set(extras) <= set(there.split()) and all(map(os.path.exists, files))


def write(environment: Path, python: Path, root: Path, extras: Iterable[str], files: Iterable[str]) -> None:
    """Note that set-up has succeeded; the arguments as in `stands`, and the files that have to stay."""
    lines = [_digest(python, root), " ".join(sorted(extras)), *files]
    (environment / NAME).write_text("\n".join(lines), encoding="utf-8")


def _digest(python: Path, root: Path) -> str:
    """Return a digest of the files and variables that decide what is installed and fetched, and of the Python."""
    digest = hashlib.sha256()
    code = (("harness", "**/*.py"), ("tools", "*.py"), ("baselines", "*/profile.yaml"))
    files = [path for folder, pattern in code for path in (root / folder).glob(pattern)]
    for path in sorted([*files, root / "pyproject.toml", root / "constraints.txt"]):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    interpreter = python.stat()  # that of the Python which the environment stands on
    for word in (sys.version, root, interpreter.st_size, interpreter.st_mtime_ns):
        digest.update(f"{word}\0".encode())
    for name, value in sorted(os.environ.items()):
        if name.startswith(_VARIABLES):
            digest.update(f"{name}={value}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
