"""Warm processes of the Nu Html Checker: its own HTTP servlet, bound to loopback, asked page by page.

Starting a JVM costs as much as hundreds of pages, so two stay up between calls and end after some idle minutes. Each
page has a deadline in processor seconds of its JVM, which a busy machine does not shorten. A page that overruns costs
its JVM, and whatever else that JVM was at work on is sent again; so one page costs no other its report.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import psutil

from harness.types import OVERRAN

PROCESSES = 2
PAGE_SECONDS = 5.0
"""Processor seconds of its JVM that one page may take; a page of 11 kB takes a few hundredths of one."""
PATIENCE = 6
"""A page's wall clock ends at so many times `PAGE_SECONDS`: a JVM that computes nothing is not waited for either."""
SLOW_SECONDS = 0.5
"""A page at work for longer no longer counts as one of those at work: the next one is begun beside it."""
IDLE_SECONDS = 180.0
MOST_MESSAGES = 20_000
"""Then Nu ends its report with `TOO_MANY`."""
TOO_MANY = "Too many messages."
_START_SECONDS = 90.0
_MOST_AT_ONCE = 6
_FEW = 16
"""So few pages do not wait for a second JVM to start."""
_MOST_FAILURES = 2
_LOOK_SECONDS = 0.05
_STARTED = "Checker service started"
_PATH = "/?out=json&level=error"
_HEADERS = {"Content-Type": "text/html; charset=utf-8", "User-Agent": "html-harness"}

# Nu's parser and RELAX NG validator recurse with the nesting of a page. The first compiler alone starts in half the
# time and checks small pages as fast.
JVM_OPTIONS = ("-Xss64m", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
_SERVLET_OPTIONS = (
    "-XX:+ExitOnOutOfMemoryError",
    "-Dnu.validator.servlet.bind-address=127.0.0.1",
    "-Dnu.validator.servlet.allowed-address-type=none",  # it checks what it is sent, and fetches nothing
    "-Dnu.validator.servlet.max-file-size=8000000",
    f"-Dnu.validator.messages.limit={MOST_MESSAGES}",
    "-Dnu.validator.checker.enableLangDetection=0",  # warnings only, and a third of its memory
)
# The pipe closes when the harness ends, however it ends; then the JVM is ended. Only the JVM keeps the shell's output.
_JANITOR = '"$@" </dev/null & child=$!; echo "pid $child"; exec >/dev/null 2>&1; cat; kill -9 "$child"'


class CannotServe(Exception):
    """The servlet does not start with this Java and jar; the message says why."""


@dataclass(slots=True)
class _Flight:
    """One page at work in one JVM."""

    server: Server
    started: float
    computed: float
    """Processor seconds of the JVM when the page was sent."""
    slow: bool = False
    overran: str = ""


class Server:
    """One JVM with the servlet; starting it does not wait for it."""

    def __init__(self, java: str, jar: str) -> None:
        command = [java, *JVM_OPTIONS, *_SERVLET_OPTIONS, "-cp", jar, "nu.validator.servlet.Main", "0"]
        shell = shutil.which("sh") if os.name != "nt" else None
        if shell is not None:
            command = [shell, "-c", _JANITOR, "sh", *command]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "BIND_ADDRESS": "127.0.0.1"},
            start_new_session=True,  # Ctrl-C is for the harness, which then ends it
            text=True,
            errors="replace",
        )
        self._java: psutil.Process | None = None
        self._port = 0
        self._told = threading.Event()
        self._why = ""
        self._idle: list[http.client.HTTPConnection] = []
        self._ending = threading.Lock()
        self._ended = False
        self.dead = False
        self.sacrificed = False
        """Whether it was ended because a page overran: then the others at work in it are not to blame."""
        self.private = False
        """Whether it is there for one page alone."""
        self.flights: set[int] = set()
        threading.Thread(target=self._listen, name="nu", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether it answers now."""
        return self._port > 0 and not self.dead

    def wait(self) -> None:
        """Wait until it answers, or has ended since it did.

        Raises:
            CannotServe: it ended before, or was not ready in time.
        """
        if not self._told.wait(_START_SECONDS):
            self._why = f"it was not ready within {_START_SECONDS:g} s"
        if not self._port:
            self.kill()
            raise CannotServe(self._why or "it ended")

    def ask(self, document: bytes) -> list[dict[str, Any]]:
        """Return Nu's messages about a document.

        Raises:
            OSError, http.client.HTTPException, ValueError: the JVM ended, or answered with something else.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10 * PATIENCE * PAGE_SECONDS)
        try:
            connection.request("POST", _PATH, document, _HEADERS)
            answer = connection.getresponse()
            text = answer.read()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if answer.status != 200:
            raise ValueError(f"Nu answered {answer.status}")
        messages: list[dict[str, Any]] = json.loads(text)["messages"]
        return messages

    def computed(self) -> float:
        """Processor seconds of the JVM so far."""
        try:
            times = self._java.cpu_times() if self._java is not None else None
        except psutil.Error:
            return 0.0
        return times.user + times.system if times is not None else 0.0

    def kill(self) -> None:
        """End the JVM and its janitor at once; calling it again does nothing."""
        self.dead = True
        with self._ending:
            if self._ended:  # its number may be another process's by now
                return
            self._ended = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.name == "nt":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            for connection in self._idle:
                connection.close()

    def _listen(self) -> None:
        """Read what the JVM says, until it ends: nobody else does, and a full pipe would stop it."""
        assert self._process.stdout is not None
        output: IO[str] = self._process.stdout
        pid = self._process.pid
        last = ""
        with output, contextlib.suppress(ValueError):
            for line in output:
                if line.startswith("pid ") and self._java is None:
                    pid = int(line.split()[1])
                elif line.startswith(_STARTED) and not self._told.is_set():
                    try:
                        self._java = psutil.Process(pid)
                        self._port = _loopback_port(self._java)
                    except (psutil.Error, OSError, CannotServe) as error:
                        self._why = str(error)
                    self._told.set()
                last = line.strip() or last
        self.dead = True
        self._why = self._why or last[:200]
        self._told.set()


def _loopback_port(process: psutil.Process) -> int:
    """The port at which the process listens.

    Raises:
        CannotServe: it listens elsewhere than on loopback, or nowhere.
    """
    places = [c.laddr for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
    for place in places:
        address = ipaddress.ip_address(place.ip)
        plain = getattr(address, "ipv4_mapped", None) or address
        if not plain.is_loopback:
            raise CannotServe(f"it listens on {place.ip}, not on loopback alone")
    if not places:
        raise CannotServe("it listens nowhere")
    return int(places[0].port)


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
