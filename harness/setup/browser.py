"""A browser for the renderer: Playwright's own where its download works, else Debian's package.

`python -m harness.setup.browser` fetches it with no package there but Playwright: tools/browser_meanwhile.py starts it
while the other packages are being installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
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


def browser_file() -> str:
    """Return the path of that browser; "" where there is none, or where Playwright alone knows it."""
    try:
        return find_browser().path or ""
    except HarnessError:
        return ""


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


def main() -> int:
    """Fetch a browser unless there is one, saying so as `html-harness setup` does; return 0 when there is one."""
    begun = time.monotonic()
    if browser():
        return 0
    try:
        done = install_browser(lambda line: print(f"setup: browser: {line}", flush=True))
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"setup: browser: {done} ({time.monotonic() - begun:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
