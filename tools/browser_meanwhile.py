"""A browser is fetched by a process of its own while the packages are installed."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from commands import ROOT, begin, last_line
from installer import Installer


@dataclass(slots=True)
class BrowserMeanwhile:
    """The process, and what became of it."""

    problem: str = ""
    """Why there is no browser, in one line."""
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def start(self, python: Path, installer: Installer) -> None:
        """Install Playwright, which a browser is fetched with, and let it be fetched.

        Where Playwright is not to be had nothing is started: the packages will not be either, and that is said.
        """
        if installer.install(_playwright()).returncode == 0:
            self._process = begin([python, "-m", "harness.setup.browser"])

    def wait(self) -> str:
        """Let it come to its end and return the problem: a package manager that is killed leaves its packages torn."""
        if self._process is not None:
            said = self._process.communicate()[1]
            self.problem = last_line(said) if self._process.returncode else ""
        return self.problem


def _playwright() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(str(line) for line in project["dependencies"] if line.startswith("playwright"))
