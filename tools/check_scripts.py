"""Type-checks and lints the scripts of the pages (TypeScript by JSDoc, oxlint); says so where node or npm is missing.

The exact versions stand in tools/javascript; npm fetches them once for each state of its lock file.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tools" / "javascript"
SCRIPTS = ("harness/report/assets", "harness/vote/assets")
CHECKS = (
    ("typescript/bin/tsc", "--project", str(FOLDER)),
    ("oxlint/bin/oxlint", "--import-plugin", "--deny-warnings", *SCRIPTS),
)
FETCH_SECONDS = 120


def main() -> int:
    """Return 0 where the scripts are clean or nothing can check them, which is one line."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return skip("node and npm are not here")
    if problem := fetch(npm):
        return skip(f"npm did not fetch what checks them: {problem}")
    modules = FOLDER / "node_modules"
    return max(
        subprocess.run([node, modules / program, *words], cwd=ROOT, check=False).returncode
        for program, *words in CHECKS
    )


def fetch(npm: str) -> str:
    """Install what the lock file names, unless it is there; return what went wrong or nothing."""
    lock = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = FOLDER / "node_modules" / ".lock"
    if stamp.exists() and stamp.read_text() == lock:
        return ""
    try:
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund", "--engine-strict", "--loglevel=error"],
            cwd=FOLDER, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end within {FETCH_SECONDS} s"
    if done.returncode != 0:
        return next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
    stamp.write_text(lock)
    return ""


def skip(why: str) -> int:
    """Say why nothing was checked."""
    print(f"scripts: not checked: {why}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
