"""Browsers with all their processes: found, killed, waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, itself first; nothing where it has ended."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def naming(text: str) -> list[psutil.Process]:
    """Return the descendants of this program on whose command line a text stands."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(text in word for word in process.cmdline()):
                found.append(process)
    return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes at once; those that have ended are left alone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Wait `patience` seconds for processes to end by themselves, then kill the rest."""
    alive = _alive_after(processes, patience)
    kill(alive)
    _alive_after(alive, 3)


def _alive_after(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return what still runs after that time, at once where nothing does.

    What has ended and was not asked for its exit status by its parent (in a container without an init) runs no more.
    """
    limit = time.monotonic() + seconds
    while (alive := [process for process in processes if _runs(process)]) and time.monotonic() < limit:
        time.sleep(0.02)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        process.wait(0)  # takes the exit status of a child of our own
    except psutil.TimeoutExpired:
        with contextlib.suppress(psutil.Error):
            return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        pass
    return False
