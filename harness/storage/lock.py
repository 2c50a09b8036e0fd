"""Locks between processes: the kernel frees them when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_LOOK_AGAIN_S = 0.2


def try_lock(stream: IO[str]) -> bool:
    """Lock an open file and return whether that was possible: not while another process holds it."""
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def one_at_a_time(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock `path` while the block runs; `on_wait` is called once if another process has it first.

    For what lies in the shared cache and takes long to make: the second process waits, and then finds it made.
    """
    with path.open("a") as stream:
        waiting = False
        while not try_lock(stream):
            if not waiting and on_wait is not None:
                on_wait()
            waiting = True
            time.sleep(_LOOK_AGAIN_S)
        yield
