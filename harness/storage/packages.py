"""Installs a package for the Python that runs, with whatever installer it was set up with."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys


def install(*arguments: str, seconds: float) -> None:
    """Run `pip install` with these arguments for this Python: with its own pip, else with uv.

    An environment that uv made has no pip. `--target FOLDER` installs into a folder instead, and any pip does for it.

    Args:
        arguments: As after `pip install`.
        seconds: After so many it is given up.

    Raises:
        OSError: there is neither pip nor uv.
        subprocess.SubprocessError: it failed, or took too long.
    """
    command = [*_installer("--target" in arguments), "install", "--quiet", *arguments]
    if command[1] == "pip":
        command[3:3] = ["--python", sys.executable]
    subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)


def last_line(error: Exception) -> str:
    """Return what an installer, or another program, said at last; its errors before its advice."""
    told = getattr(error, "stderr", None)
    lines = [line.strip() for line in told.splitlines() if line.strip()] if isinstance(told, str) else []
    faults = [line for line in lines if line.lower().startswith("error")]
    return (faults or lines or [str(error)])[-1][:200]


def _installer(anywhere: bool) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    uv, pip = shutil.which("uv"), shutil.which("pip") if anywhere else None
    if uv is not None:
        return [uv, "pip"]
    if pip is not None:
        return [pip, "--disable-pip-version-check"]
    raise FileNotFoundError("there is neither pip nor uv")
