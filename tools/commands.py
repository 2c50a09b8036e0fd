"""Programs that set-up starts, and what is told of them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
Done = subprocess.CompletedProcess[str]


def run(command: Sequence[object], timeout: float | None = None, environment: Mapping[str, str] | None = None) -> Done:
    """Run a command in the project's folder and keep what it says; the exit code is 127 where it cannot be run to end.

    Args:
        command: The words.
        timeout: It is stopped after so many seconds.
        environment: Added to the variables there are.
    """
    words = [str(word) for word in command]
    variables = {**os.environ, **environment} if environment else None
    try:
        return subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, env=variables
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))


def begin(command: Sequence[object], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command in the project's folder that says what it does on stdout; its errors are kept.

    Args:
        command: The words.
        environment: Added to the variables there are.
    """
    variables = {**os.environ, **environment} if environment else None
    words = [str(word) for word in command]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=variables)


def follow(command: Sequence[object]) -> int:
    """Run a command in the project's folder, let it say what it says, and return its exit code."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode


def last_line(*said: str) -> str:
    """Return the last line that was said, errors first; pip's own errors before its advice. No password is in it.

    Args:
        said: What went to stdout and to stderr.
    """
    lines = [line.strip() for line in "\n".join(said).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return re.sub(r"://[^/\s]*@", "://", (errors or lines or [""])[-1])
