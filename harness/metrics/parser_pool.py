"""Parsers that may not come back run in a process that can be killed.

`call` hands the work to a process from a small pool, which lives on for the next page; one that overruns its time is
killed and replaced. What is not found out is a `NotMeasured` with its reason, never an exception from a parser.

Not pebble's `ProcessPool`: whatever `multiprocessing` starts without a fork imports the caller's script again (one
without a `__main__` guard runs twice, one from stdin fails), a fork takes over threads and a GPU's address space, and
with loky's context, which does neither, the first page waits three times as long, in every command that parses one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from harness.types import OVERRAN, Message, Scope

if TYPE_CHECKING:
    from harness.metrics.facts import PageFacts

MAX_CHARACTERS = 2_000_000
"""Longer pages are not parsed at all."""

MAX_NESTING = 3_000
"""html5lib is quadratic in nesting: 2,000 levels take 0.2 s, 8,000 take 3.2 s."""

PARSE_SECONDS = 10.0
"""Processor seconds of its process that a page's parsing may take, so that a busy machine is not held against it."""
PATIENCE = 6
"""Its wall clock ends at so many times that (and on Windows, where nothing else ends it)."""
_COMPUTED_TOO_LONG = -signal.SIGPROF if hasattr(signal, "SIGPROF") else None
_START_SECONDS = 120.0
_IN_PROCESS_CHARACTERS = 64_000


class NotMeasured(Exception):
    """Why something could not be found out about a page; the text goes into the row's notes."""


def facts(html: str, scope: Scope) -> PageFacts:
    """Return `harness.metrics.facts.page_facts`; large pages are parsed in a process that can be killed.

    Raises:
        NotMeasured: the page is too large, or its parsing took too long or too much memory.
    """
    if len(html) > MAX_CHARACTERS:
        raise NotMeasured(f"{OVERRAN}the page has {len(html):,} characters, more than {MAX_CHARACTERS:,}")
    if len(html) > _IN_PROCESS_CHARACTERS:
        return call("page_facts", (html, scope))
    from harness.metrics.facts import page_facts

    return page_facts(html, scope)


def tree_errors(html: str, ignore_doctype: bool, depth: int) -> list[Message]:
    """Return `harness.metrics.html5.tree_errors`, found in a process that can be killed.

    Raises:
        NotMeasured: the page is too large or too deep, or its parsing took too long or too much memory.
    """
    if depth > MAX_NESTING:
        raise NotMeasured(f"{OVERRAN}tags nest {depth:,} deep, more than {MAX_NESTING:,}")
    return call("tree_errors", (html, ignore_doctype))


@overload
def call(name: Literal["page_facts"], arguments: tuple[str, Scope]) -> PageFacts: ...
@overload
def call(name: Literal["tree_errors"], arguments: tuple[str, bool]) -> list[Message]: ...
def call(name: str, arguments: tuple[str, Scope | bool]) -> PageFacts | list[Message]:
    """Run a function of the worker process within `PARSE_SECONDS` of its computing and return what it returns.

    Raises:
        NotMeasured: it took too long, the process died, or the function failed.
    """
    worker = _pool.take()
    try:
        found, why = worker.ask(name, arguments, PARSE_SECONDS)
    except NotMeasured:
        fresh: _Worker | None = None
        try:
            if worker.started:  # whose page ended it waits for a new process, not whoever comes next
                fresh = _new_worker()
        finally:
            _pool.put(fresh)
        raise
    except BaseException:
        worker.kill()
        _pool.put(None)
        raise
    _pool.put(worker)
    if found is None:
        raise NotMeasured(why)
    return found


def _new_worker() -> _Worker | None:
    """A process that has loaded the parsers, None where it does not start."""
    with contextlib.suppress(NotMeasured, OSError):
        worker = _Worker()
        worker.start()
        return worker
    return None


class _Worker:
    """One process of `harness.metrics._worker`."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        self._process = subprocess.Popen(
            # -P: the folder one stands in may hold somebody's own `harness/` or `html.py`
            [sys.executable, "-P", "-m", "harness.metrics._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.started = False
        """Whether it has loaded the parsers."""
        self._overran = False

    def start(self) -> None:
        """Wait until the parsers are loaded, which is no page's time."""
        if self.started:
            return
        assert self._process.stdout is not None
        try:
            with self._killed_after(_START_SECONDS):
                self.started = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.kill()
            raise NotMeasured("the parser's process did not start") from error

    def ask(
        self, name: str, arguments: tuple[str, Scope | bool], seconds: float
    ) -> tuple[PageFacts | list[Message] | None, str]:
        """Return what the function returns, or None and why it does not."""
        self.start()
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            with self._killed_after(seconds * PATIENCE):
                pickle.dump((name, arguments, seconds), self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                self._process.stdin.flush()
                answer: tuple[PageFacts | list[Message] | None, str] = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.kill()
            if self._overran or self._process.returncode == _COMPUTED_TOO_LONG:
                raise NotMeasured(f"{OVERRAN}parsing took longer than {seconds:g} s") from error
            raise NotMeasured("the parser's process died") from error
        return answer

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill the process unless the block is left in time: its closed pipe then ends the read."""
        timer = threading.Timer(seconds, self._overrun)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _overrun(self) -> None:
        self._overran = True
        self._process.kill()

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it had not read yet
                    pipe.close()


class _Pool:
    """As many workers as there are cores, started when first needed."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.size = max(1, min(8, os.cpu_count() or 1))
        self._places = threading.Semaphore(self.size)
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()

    def take(self) -> _Worker:
        if self._pid != os.getpid():  # after a fork the workers belong to the parent
            self.__init__()  # type: ignore[misc]
        self._places.acquire()
        try:
            # The last one first, so a single-threaded caller uses one process only.
            while not (worker := self._idle.get_nowait()).alive():
                worker.kill()
        except queue.Empty:
            try:
                return _Worker()
            except BaseException:
                self._places.release()
                raise
        return worker

    def put(self, worker: _Worker | None) -> None:
        """Give back the place that was taken, with its worker unless that is dead."""
        if worker is not None:
            self._idle.put(worker)
        self._places.release()

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().kill()


_pool = _Pool()
atexit.register(_pool.close)
