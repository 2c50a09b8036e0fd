"""Installs packages into a Python: with uv where it is there or comes at once, else with its pip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands import Done
from pip_settings import UvSettings, uv_settings

UV = "uv==0.13.9"
"""What is installed where there is none: a wheel of 20 MB that fetches and unpacks many packages at a time."""
_UV_SECONDS = 60
"""Where it is not there by then, pip is the faster way."""


@dataclass(slots=True)
class Installer:
    """Installs into one Python, and finds out once how."""

    python: Path
    run: Callable[..., Done]
    """As commands.run."""
    constraints: Path | None
    """The file of the versions that are installed; None leaves them to the packages that are there."""
    fetch_uv: bool
    """Whether uv may be put into the environment."""
    _looked: bool = field(default=False, init=False)
    _uv: tuple[str, UvSettings] | None = field(default=None, init=False)

    def install(self, *arguments: str) -> Done:
        """Install as `pip install` does with these arguments. What uv does not manage, for any reason, pip tries."""
        if not self._looked:
            self._looked, self._uv = True, self._find_uv()
        versions = [] if self.constraints is None else ["-c", self.constraints]
        if self._uv is not None:
            program, settings = self._uv
            into: Sequence[object] = ["--python", self.python, *settings.options]
            done = self.run(
                [program, "pip", "install", *into, *arguments, *versions, "--quiet"], None, settings.variables
            )
            if done.returncode == 0:
                return done
        return self.run([*self._pip(), *arguments, *versions, "--quiet"])

    def _pip(self) -> list[object]:
        return [self.python, "-m", "pip", "--disable-pip-version-check", "install"]

    def _find_uv(self) -> tuple[str, UvSettings] | None:
        listed = self.run([self.python, "-m", "pip", "config", "list"])
        settings = uv_settings(listed.stdout, os.environ) if listed.returncode == 0 else None
        if settings is None:
            return None
        own = str(self.python.with_name("uv.exe" if os.name == "nt" else "uv"))
        for program in (shutil.which("uv"), own if self.fetch_uv else None):
            if program and self.run([program, "--version"], 10).returncode == 0:
                return program, settings
        if not self.fetch_uv:
            return None
        once = ["--only-binary", ":all:", "--retries", "1", "--quiet"]  # from its sources it would take minutes
        return (own, settings) if self.run([*self._pip(), *once, UV], _UV_SECONDS).returncode == 0 else None
