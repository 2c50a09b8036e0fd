"""Browsers with all their processes: found, killed, waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, itself first; nothing where it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes at once; those that have ended are left alone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Wait `patience` seconds for processes to end by themselves, then kill the rest."""
    _, alive = psutil.wait_procs(processes, timeout=patience)
    kill(alive)
    psutil.wait_procs(alive, timeout=3)
