"""Warm processes of the Nu Html Checker: its own HTTP servlet, bound to loopback, asked page by page.

Starting a JVM costs as much as hundreds of pages, so two stay up between calls and end after some idle minutes. Each
works on one page at a time: a page that overruns its deadline, or takes all memory, costs its own JVM and no other
page. A page that takes long keeps its JVM, and while there are such pages a third one stands by (`nu_queue` says for
whom), so that pages beside wait for a JVM's start at most, and where slow pages of several callers hold all three, for
a deadline and a start.
"""

from __future__ import annotations

import atexit
import http.client
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from harness.metrics.nu_process import CannotServe, Server
from harness.metrics.nu_queue import Page, Queue, Told
from harness.types import OVERRAN

PROCESSES = 2
"""JVMs that stay warm, and pages of one caller that are at work at once."""
MOST_PROCESSES = PROCESSES + 1
PAGE_SECONDS = 5.0
"""Processor seconds of its JVM that one page may take; a page of 11 kB takes a few hundredths of one."""
PATIENCE = 6
"""A page's wall clock ends at so many times `PAGE_SECONDS`: a JVM that computes nothing is not waited for either."""
SLOW_SECONDS = 0.5
"""A page that has taken more of either kind is slow: others are not kept waiting for it."""
IDLE_SECONDS = 180.0
_SPARE_SECONDS = 10.0
"""So long after the last page a JVM beyond the two is kept."""
_FEW = 64
"""So few pages are checked in less processor time than a second JVM takes to start."""
_MOST_FAILURES = 2
_LOOK_SECONDS = 0.05


@dataclass(slots=True)
class _Flight:
    """The page at work in one JVM."""

    page: Page
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
        self._flights: dict[Server, _Flight] = {}
        self._queue = Queue(PROCESSES)
        self._changed = threading.Condition()
        """Guards all of the above, and tells of every change to them."""
        self._watcher: threading.Thread | None = None
        self._used = time.monotonic()
        self._failures = 0

    def warm(self) -> None:
        """Begin to start the first JVM, and do not wait for it."""
        with self._changed:
            self._used = time.monotonic()
            self._tend()

    def check(self, documents: Sequence[bytes]) -> list[Told]:
        """Return Nu's messages about each document, or why there are none, in order.

        Raises:
            CannotServe: the servlet does not start.
        """
        with self._changed:
            call = self._queue.add(documents)
            self._failures = 0
            self.warm()
            self._changed.notify_all()
            try:
                while call.left and call.failure is None:
                    self._changed.wait(1)
            finally:  # who interrupts this waits for no page; those at work end at their deadline
                self._queue.drop(call)
        if call.failure is not None:
            raise call.failure
        return call.found

    def close(self) -> None:
        """End all JVMs; who still waits is told that they do not serve."""
        with self._changed:
            self._fail(CannotServe("it was ended"))
            for server in self._servers:
                server.kill()
            self._servers.clear()
            self._changed.notify_all()

    def _fail(self, failure: CannotServe) -> None:
        for call in list(self._queue.calls):
            self._queue.drop(call, failure)

    def _alive(self) -> list[Server]:
        for server in self._servers:
            if server.dead:
                server.kill()  # its janitor may still be there
        self._servers = [server for server in self._servers if not server.dead]
        return self._servers

    def _quick(self) -> list[Server]:
        """Those alive, or starting, that no slow page holds."""
        return [s for s in self._alive() if not (s in self._flights and self._flights[s].slow)]

    def _tend(self) -> None:
        """Start the JVMs that are missing, without waiting for them."""
        many = len(self._queue) > _FEW or (len(self._queue) > 0 and any(f.slow for f in self._flights.values()))
        wanted = PROCESSES if many else 1
        while len(self._quick()) < wanted and len(self._servers) < MOST_PROCESSES:
            server = Server(self._java, self._jar)
            self._servers.append(server)
            threading.Thread(target=self._serve, args=(server,), name="nu-page", daemon=True).start()
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="nu-watch", daemon=True)
            self._watcher.start()

    def _serve(self, server: Server) -> None:
        """Work on one page after the other in `server`, for as long as it lives."""
        try:
            server.wait()
        except CannotServe as why:
            with self._changed:
                self._failures += 1
                if self._failures < _MOST_FAILURES and self._queue.calls:
                    self._tend()
                elif not self._alive():
                    self._fail(why)
                self._changed.notify_all()
            return
        self._failures = 0
        while (flight := self._take_off(server)) is not None:
            told = self._ask(server, flight)
            with self._changed:
                self._land(server, flight, told)

    def _take_off(self, server: Server) -> _Flight | None:
        """Wait for a page that `server` may work on; None when it has ended."""
        with self._changed:
            while not server.dead:
                ready = [other for other in self._quick() if other.ready]
                page = self._queue.take(last=len(ready) < PROCESSES)
                if page is not None:
                    self._flights[server] = flight = _Flight(page, time.monotonic(), server.computed())
                    return flight
                self._changed.wait(1)  # nothing tells when an idle JVM ends by itself
            if self._queue.calls:
                self._tend()
        server.kill()
        return None

    def _ask(self, server: Server, flight: _Flight) -> Told | None:
        """What Nu says of the page; None where its JVM ended under it and it is to be sent again."""
        try:
            return server.ask(flight.page.document)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not (server.dead or flight.overran) and isinstance(error, ValueError):
                return f"the Nu Html Checker failed on this page: {error}"
            server.kill()
            if flight.overran:
                return flight.overran
            return "the Nu Html Checker ended on this page, twice" if flight.page.tried else None

    def _land(self, server: Server, flight: _Flight, told: Told | None) -> None:
        del self._flights[server]
        page, call = flight.page, flight.page.call
        now = self._used = time.monotonic()
        call.at_work -= 1
        call.slow -= flight.slow
        call.spent += now - flight.started
        if told is not None:
            call.found[page.index] = told
            call.left -= 1
        elif call in self._queue.calls:
            page.tried = True
            self._queue.back(page)
        if server.dead and self._queue.calls:
            self._tend()
        if not call.left or flight.slow or told is None or server.dead or len(self._queue.calls) > 1:
            self._changed.notify_all()  # else nobody can do more than this thread, which goes on

    def _watch(self) -> None:
        """Hold pages to their deadline, and end JVMs that nobody uses."""
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._changed:
                if self._queue.calls or self._flights:
                    self._used = now
                elif now - self._used > IDLE_SECONDS or not self._alive():
                    self.close()
                    self._watcher = None
                    return
                ended = [server for server, flight in self._flights.items() if self._overran(server, flight, now)]
                if now - self._used > _SPARE_SECONDS:
                    ended += self._alive()[PROCESSES:]
            for server in ended:
                server.kill()

    def _overran(self, server: Server, flight: _Flight, now: float) -> bool:
        """Whether the page at work is beyond its deadline, which it is then told; one that is slow is counted so."""
        waited = now - flight.started
        if flight.overran or waited < min(PAGE_SECONDS, SLOW_SECONDS):
            return False
        computed = server.computed() - flight.computed
        if not flight.slow and (computed > SLOW_SECONDS or waited > PATIENCE * SLOW_SECONDS):
            flight.slow = True
            flight.page.call.slow += 1
            self._tend()
            self._changed.notify_all()
        if computed > PAGE_SECONDS:
            flight.overran = f"{OVERRAN}the Nu Html Checker had not finished after {PAGE_SECONDS:g} s of computing"
        elif waited > PATIENCE * PAGE_SECONDS:
            flight.overran = f"{OVERRAN}the Nu Html Checker had not answered after {PATIENCE * PAGE_SECONDS:g} s"
        return bool(flight.overran)


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
