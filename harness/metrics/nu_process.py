"""One process of the Nu Html Checker's own HTTP servlet, which listens on loopback alone and fetches nothing."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import threading
from typing import IO

import psutil

from harness.metrics.nu_queue import NuMessage

MOST_MESSAGES = 20_000
"""Then Nu ends its report with `TOO_MANY`."""
TOO_MANY = "Too many messages."
_START_SECONDS = 90.0
_LONGEST_SECONDS = 600.0
"""Whoever asks ends the process long before."""
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
        self._kept: http.client.HTTPConnection | None = None
        self._ending = threading.Lock()
        self._ended = False
        self.dead = False
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

    def ask(self, document: bytes) -> list[NuMessage]:
        """Return Nu's messages about a document; for one thread at a time.

        Raises:
            OSError, http.client.HTTPException, ValueError: the JVM ended, or answered with something else.
        """
        status, text = self._post(document)
        if status != 200:
            raise ValueError(f"Nu answered {status}")
        messages: list[NuMessage] = json.loads(text)["messages"]
        return messages

    def _post(self, document: bytes) -> tuple[int, bytes]:
        """Send a document over the connection that was kept, else over a new one.

        Jetty closes what was kept when it likes, and where Nu stops reading early (too many messages): only a JVM that
        takes no new connection has ended.
        """
        for last in (False, False, True):
            connection, self._kept = self._kept or self._connection(), None
            try:
                connection.request("POST", _PATH, document, _HEADERS)
                answer = connection.getresponse()
                text = answer.read()
            except BaseException as error:
                connection.close()
                if last or self.dead or not isinstance(error, ConnectionError):
                    raise
            else:
                self._kept = connection
                return answer.status, text
        raise AssertionError("the last attempt returns or raises")

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=_LONGEST_SECONDS)

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
            kept = self._kept
            if kept is not None:
                kept.close()

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
