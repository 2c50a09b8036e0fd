"""Whether a finished set-up still stands, told without starting anything: so the second `make` begins at once.

The stamp holds a digest of all that decides what set-up does, and the files outside the environment that it found or
fetched. It is written after everything has succeeded.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NAME = ".harness-ready"
_VARIABLES = ("HARNESS_", "PLAYWRIGHT_", "XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")
"""By which browser and model are found; PATH is not here: what was found on it is looked for by its own path."""


@dataclass(frozen=True, slots=True)
class ReadyStamp:
    """The stamp of one environment."""

    environment: Path
    """The folder of the virtual environment."""
    python: Path
    """Its Python."""
    root: Path
    """The project's folder."""
    constraints: Path
    """The file of the versions that are installed."""

    def stands(self, extras: Iterable[str]) -> bool:
        """Return whether set-up has succeeded for this state of things, and what it found is still there.

        Args:
            extras: Those that are wanted; more may be installed.
        """
        try:
            digest, there, *files = (self.environment / NAME).read_text(encoding="utf-8").splitlines()
            same = digest == self._digest()
        except (OSError, ValueError):  # ValueError: another or no text
            return False
        return same and set(extras) <= set(there.split()) and all(map(os.path.exists, files))

    def write(self, extras: Iterable[str], files: Iterable[str]) -> None:
        """Note that set-up has succeeded with these extras, and stands on these files."""
        lines = [self._digest(), " ".join(sorted(extras)), *files]
        (self.environment / NAME).write_text("\n".join(lines), encoding="utf-8")

    def remove(self) -> None:
        """Let no state of things stand any longer."""
        (self.environment / NAME).unlink(missing_ok=True)

    def _digest(self) -> str:
        """Return a digest of the files and variables that decide what is installed and fetched, and of the Python."""
        digest = hashlib.sha256()
        code = (("harness", "**/*.py"), ("tools", "*.py"), ("baselines", "*/profile.yaml"))
        files = [path for folder, pattern in code for path in (self.root / folder).glob(pattern)]
        for path in sorted([*files, self.root / "pyproject.toml", self.constraints]):
            digest.update(f"{path}\0".encode(errors="surrogateescape") + path.read_bytes() + b"\0")
        interpreter = self.python.stat()  # that of the Python which the environment stands on
        for word in (sys.version, interpreter.st_size, interpreter.st_mtime_ns):
            digest.update(f"{word}\0".encode())
        for name, value in sorted(os.environ.items()):
            if name.startswith(_VARIABLES):
                digest.update(f"{name}={value}\0".encode(errors="surrogateescape"))
        return digest.hexdigest()
