"""Warm processes of the Nu Html Checker: its own HTTP servlet, bound to loopback, asked page by page.

Starting a JVM costs as much as hundreds of pages, so two stay up between calls and end after some idle minutes. Each
page has a deadline in processor seconds of its JVM, which a busy machine does not shorten. A page that overruns costs
its JVM, and whatever else that JVM was at work on is sent again; so one page costs no other its report.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.metrics.nu_process import CannotServe, Server
from harness.types import OVERRAN

PROCESSES = 2
PAGE_SECONDS = 5.0
"""Processor seconds of its JVM that one page may take; a page of 11 kB takes a few hundredths of one."""
PATIENCE = 6
"""A page's wall clock ends at so many times `PAGE_SECONDS`: a JVM that computes nothing is not waited for either."""
SLOW_SECONDS = 0.5
"""A page at work for longer no longer counts as one of those at work: the next one is begun beside it."""
IDLE_SECONDS = 180.0
_MOST_AT_ONCE = 6
_FEW = 16
"""So few pages do not wait for a second JVM to start."""
_MOST_FAILURES = 2
_LOOK_SECONDS = 0.05


@dataclass(slots=True)
class _Flight:
    """One page at work in one JVM."""

    server: Server
    started: float
    computed: float
    """Processor seconds of the JVM when the page was sent."""
    slow: bool = False
    overran: str = ""


class Checkers:
    """The JVMs of this process and the pages at work in them; all methods may be called from any thread."""

    def __init__(self, java: str, jar: str) -> None:
        self._java, self._jar = java, jar
        self.pid = os.getpid()
        self._servers: list[Server] = []
        self._flights: dict[int, _Flight] = {}
        self._lock = threading.RLock()
        self._places = threading.Semaphore(PROCESSES)
        self._alone = threading.Lock()
        """Held for a page under which a JVM has ended: one such page at a time has a JVM of its own."""
        self._watcher: threading.Thread | None = None
        self._used = time.monotonic()
        self._number = 0

    def warm(self) -> None:
        """Begin to start the first JVM, and do not wait for it."""
        with self._lock:
            self._used = time.monotonic()
            if not self._alive():
                self._start()

    def check(self, documents: Sequence[bytes]) -> list[list[dict[str, Any]] | str]:
        """Return Nu's messages about each document, or why there are none, in order.

        The shortest go first, so that a page that takes long is begun when most are done.

        Raises:
            CannotServe: the servlet does not start.
        """
        order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
        found: list[list[dict[str, Any]] | str] = [""] * len(documents)
        self.warm()
        if len(documents) > _FEW:
            with self._lock:
                if len(self._alive()) < PROCESSES:
                    self._start()
        waiting = deque(order)

        def work() -> None:
            while waiting:
                self._places.acquire()
                try:
                    index = waiting.popleft()
                except IndexError:
                    self._places.release()
                    return
                found[index] = self._one(documents[index])

        with ThreadPoolExecutor(_MOST_AT_ONCE, "nu-page") as threads:
            try:
                for future in [threads.submit(work) for _ in range(min(_MOST_AT_ONCE, len(documents)))]:
                    future.result()
            finally:
                waiting.clear()  # whoever interrupts this waits for the pages at work only
        return found

    def close(self) -> None:
        """End all JVMs."""
        with self._lock:
            for server in self._servers:
                server.kill()
            self._servers.clear()

    def _one(self, document: bytes) -> list[dict[str, Any]] | str:
        """Send one page, again where its JVM ended under it; gives back the place that the caller took."""
        suspect = False
        held = True
        try:
            while True:
                with self._alone if suspect else contextlib.nullcontext():
                    server = self._server(private=suspect)
                    number, flight = self._take_off(server, slow=not held)
                    try:
                        return server.ask(document)
                    except (OSError, http.client.HTTPException, ValueError) as error:
                        if flight.overran:
                            return flight.overran
                        if not server.dead and isinstance(error, ValueError):
                            return f"the Nu Html Checker failed on this page: {error}"
                        server.kill()
                        if suspect:
                            return "the Nu Html Checker ended on this page, twice"
                        # It may have been another page's doing, so the next time this one is alone.
                        suspect = not server.sacrificed
                    finally:
                        with self._lock:
                            held = held and not flight.slow
                            server.flights.discard(number)
                            server.private = False
                            del self._flights[number]
        finally:
            if held:
                self._places.release()

    def _take_off(self, server: Server, slow: bool) -> tuple[int, _Flight]:
        with self._lock:
            self._number += 1
            flight = _Flight(server, time.monotonic(), server.computed(), slow)
            self._flights[self._number] = flight
            server.flights.add(self._number)
            return self._number, flight

    def _alive(self) -> list[Server]:
        for server in self._servers:
            if server.dead:
                server.kill()  # its janitor may still be there
        self._servers = [server for server in self._servers if not server.dead]
        return self._servers

    def _start(self, private: bool = False) -> Server:
        server = Server(self._java, self._jar)
        server.private = private
        self._servers.append(server)
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="nu-watch", daemon=True)
            self._watcher.start()
        return server

    def _server(self, private: bool) -> Server:
        """The least busy JVM that answers, else one that is starting; a new one where it is to be private.

        Raises:
            CannotServe: none starts.
        """
        failures = 0
        while True:
            with self._lock:
                shared = [] if private else [server for server in self._alive() if not server.private]
                servers = shared or [self._start(private)]
                server = min(servers, key=lambda s: (not s.ready, len(s.flights)))
            try:
                server.wait()
            except CannotServe:
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
            if server.ready:
                return server

    def _watch(self) -> None:
        """Hold pages to their deadline, and end JVMs that nobody uses."""
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._lock:
                if self._flights:
                    self._used = now
                elif now - self._used > IDLE_SECONDS or not self._alive():
                    self.close()
                    self._watcher = None
                    return
                for flight in self._flights.values():
                    if not flight.slow and now - flight.started > SLOW_SECONDS:
                        flight.slow = True
                        self._places.release()
                overdue = [self._overdue(server, now) for server in self._alive()]
            for server in overdue:
                if server is not None:
                    server.kill()

    def _overdue(self, server: Server, now: float) -> Server | None:
        """`server` where the page longest at work in it overran; that page is told so."""
        oldest = min((self._flights[n] for n in server.flights), key=lambda f: f.started, default=None)
        if oldest is None or oldest.overran or now - oldest.started < min(PAGE_SECONDS, SLOW_SECONDS):
            return None
        if server.computed() - oldest.computed > PAGE_SECONDS:
            oldest.overran = f"{OVERRAN}the Nu Html Checker had not finished after {PAGE_SECONDS:g} s of computing"
        elif now - oldest.started > PATIENCE * PAGE_SECONDS:
            oldest.overran = f"{OVERRAN}the Nu Html Checker had not answered after {PATIENCE * PAGE_SECONDS:g} s"
        server.sacrificed = bool(oldest.overran)
        return server if oldest.overran else None


_checkers: dict[tuple[str, str], Checkers] = {}
_guard = threading.Lock()


def checkers(java: str, jar: str) -> Checkers:
    """Return this process's checkers for a Java and a jar; after a fork those of the parent are left to it."""
    with _guard:
        kept = _checkers.get((java, jar))
        if kept is None or kept.pid != os.getpid():
            kept = _checkers[java, jar] = Checkers(java, jar)
        return kept


@atexit.register
def stop_all() -> None:
    """End this process's JVMs."""
    for kept in list(_checkers.values()):
        if kept.pid == os.getpid():
            kept.close()
