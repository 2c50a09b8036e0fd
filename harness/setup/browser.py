"""A browser for the renderer: Playwright's own where its download works, else Debian's package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.render.browser import find_browser

_DOWNLOAD_SECONDS = 240
_PACKAGES = ("chromium-headless-shell", "chromium", "chromium-browser")


def browser() -> str:
    """Return name and version of the browser that the harness would use; "" where there is none."""
    try:
        found = find_browser()
    except HarnessError:
        return ""
    return f"{found.name} {found.version}"


def install_browser(say: Callable[[str], None]) -> str:
    """Fetch a browser and return its name and version.

    Args:
        say: Called with a line before what takes long.

    Raises:
        HarnessError: none could be had; the hint is the line that installs one.
    """
    say("Playwright's own …")
    try:
        run([sys.executable, "-m", "playwright", "install", "chromium", "--only-shell"], _DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"the download did not end within {_DOWNLOAD_SECONDS} s")
    if not browser() and shutil.which("apt-get"):
        say("Debian's package …")
        rights = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
        run([*rights, "apt-get", "update", "-qq"])
        for package in _PACKAGES:
            quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
            if run([*rights, *quiet, "apt-get", "install", "-y", "-qq", package]) == 0 and browser():
                break
    found = browser()
    if not found:
        raise HarnessError(
            "no browser could be had", "install Chrome or Chromium (Debian: apt-get install chromium-headless-shell)"
        )
    return found


def run(command: Sequence[str], seconds: float | None = None) -> int:
    """Run a program without a word and return its exit code; 127 where there is no such program.

    Raises:
        subprocess.TimeoutExpired: it took longer than so many seconds.
    """
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds, check=False).returncode
    except FileNotFoundError:
        return 127
