"""Parsers that may not come back run in a process that can be killed.

`call` hands the work to a process from a small pool, which lives on for the next page; one that overruns its time is
killed and replaced. What is not found out is a `NotMeasured` with its reason, never an exception from a parser.
"""

from __future__ import annotations

import atexit
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from harness.types import OVERRAN, Scope

MAX_CHARACTERS = 2_000_000
"""Longer pages are not parsed at all."""

MAX_NESTING = 3_000
"""html5lib is quadratic in nesting: 2,000 levels take 0.2 s, 8,000 take 3.2 s."""

PARSE_SECONDS = 10.0
"""Processor seconds of its process that a page's parsing may take, so that a busy machine is not held against it."""
PATIENCE = 6
"""Its wall clock ends at so many times that."""
_START_SECONDS = 120.0
_IN_PROCESS_CHARACTERS = 64_000


MEMORY = "it needs more memory than allowed"


class NotMeasured(Exception):
    """Why something could not be found out about a page; the text goes into the row's notes."""


def facts(html: str, scope: Scope) -> Any:
    """Return `harness.metrics.facts.page_facts`; large pages are parsed in a process that can be killed.

    Raises:
        NotMeasured: the page is too large, or its parsing took too long or too much memory.
    """
    if len(html) > MAX_CHARACTERS:
        raise NotMeasured(f"{OVERRAN}the page has {len(html):,} characters, more than {MAX_CHARACTERS:,}")
    if len(html) > _IN_PROCESS_CHARACTERS:
        return call("page_facts", (html, scope), PARSE_SECONDS)
    from harness.metrics.facts import page_facts

    return page_facts(html, scope)


def tree_errors(html: str, ignore_doctype: bool, depth: int) -> Any:
    """Return `harness.metrics.html5.tree_errors`, found in a process that can be killed.

    Raises:
        NotMeasured: the page is too large or too deep, or its parsing took too long or too much memory.
    """
    if depth > MAX_NESTING:
        raise NotMeasured(f"{OVERRAN}tags nest {depth:,} deep, more than {MAX_NESTING:,}")
    return call("tree_errors", (html, ignore_doctype), PARSE_SECONDS)


def call(name: str, arguments: tuple[Any, ...], seconds: float) -> Any:
    """Run a function of the worker process within `seconds` of its computing and return what it returns.

    Raises:
        NotMeasured: it took too long, the process died, or the function failed.
    """
    worker = _pool.take()
    try:
        done, value = worker.ask(name, arguments, seconds)
    except BaseException:
        worker.kill()
        _pool.put(None)
        raise
    _pool.put(worker)
    if not done and value == MEMORY:
        raise NotMeasured(f"{OVERRAN}parsing needs more memory than allowed")
    if not done:
        raise NotMeasured(f"parsing failed: {value}")
    return value


class _Limit:
    """Kills a process that has computed or waited too long since the block was entered.

    A timer that kills is enough: the dead process's closed pipe then ends the read.
    """

    def __init__(self, process: subprocess.Popen[bytes], computing: float | None, waiting: float) -> None:
        self.reached = ""
        self._process = process
        self._computing, self._waiting = computing, waiting
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> _Limit:
        self._end = time.monotonic() + self._waiting
        self._computed = self._seconds()
        self._arm(self._waiting if self._computing is None else self._computing)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._timer = threading.Timer(max(seconds, 0.01), self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            waiting = self._end - time.monotonic()
            left = waiting if self._computing is None else self._computing - (self._seconds() - self._computed)
            if waiting > 0 and left > 0:
                self._arm(min(waiting, left))
                return
            if self._computing is not None:
                self.reached = f"{OVERRAN}parsing took longer than {self._computing:g} s"
            self._process.kill()

    def _seconds(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)


class _Worker:
    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.metrics._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._started = False

    def ask(self, name: str, arguments: tuple[Any, ...], seconds: float) -> tuple[bool, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            if not self._started:  # loading the parsers is no page's time
                with self._limit(None, _START_SECONDS):
                    self._started = pickle.load(self._process.stdout)
            with self._limit(seconds, seconds * PATIENCE) as limit:
                pickle.dump((name, arguments), self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                self._process.stdin.flush()
                answer: tuple[bool, Any] = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            why = limit.reached if self._started else "the parser's process did not start"
            raise NotMeasured(why or "the parser's process died") from error
        return answer

    def _limit(self, computing: float | None, waiting: float) -> _Limit:
        return _Limit(self._process, computing, waiting)

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class _Pool:
    """As many workers as there are cores, started when first needed."""

    def __init__(self) -> None:
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self._pid = os.getpid()
        self.size = max(1, min(8, os.cpu_count() or 1))
        for _ in range(self.size):
            self._slots.put(None)

    def take(self) -> _Worker:
        if self._pid != os.getpid():  # after a fork the workers belong to the parent
            self.__init__()  # type: ignore[misc]
        # A started worker is put back first in line by `put`, so a single-threaded caller uses one process only.
        worker = self._slots.get()
        if worker is not None and not worker.alive():
            worker.kill()
            worker = None
        return worker or _Worker()

    def put(self, worker: _Worker | None) -> None:
        self._slots.put(worker)

    def close(self) -> None:
        while not self._slots.empty():
            worker = self._slots.get()
            if worker is not None:
                worker.kill()


_pool = _Pool()
atexit.register(_pool.close)
