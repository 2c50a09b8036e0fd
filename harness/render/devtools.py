"""A browser behind a pipe: the DevTools protocol without a driver between, which costs as much as the measuring."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired, TypedDict

from pydantic import JsonValue

from harness.render import processes


class _TargetInfo(TypedDict):
    targetId: str
    type: str
    browserContextId: NotRequired[str]
    openerId: NotRequired[str]


class _Frame(TypedDict):
    id: str
    url: str
    parentId: NotRequired[str]


class _LogEntry(TypedDict):
    level: str
    source: str
    text: str


class _RemoteObject(TypedDict):
    type: str
    value: NotRequired[JsonValue]
    description: NotRequired[str]
    objectId: NotRequired[str]


class _Node(TypedDict):
    backendNodeId: int


class _ExceptionDetails(TypedDict):
    text: str
    exception: NotRequired[_RemoteObject]


class _NetworkRequest(TypedDict):
    url: str
    method: str


class Told(TypedDict, total=False):
    """The parameters of an event or the result of a command: what is read of all of them together."""

    targetInfo: _TargetInfo
    targetId: str
    sessionId: str
    browserContextId: str
    frame: _Frame
    frameId: str
    frameTree: dict[str, _Frame]
    errorText: str
    entry: _LogEntry
    type: str
    args: list[_RemoteObject]
    request: _NetworkRequest
    requestId: str
    resourceType: str
    executionContextId: int
    result: _RemoteObject
    object: _RemoteObject
    node: _Node
    exceptionDetails: _ExceptionDetails
    data: str


class _Message(TypedDict, total=False):
    id: int
    result: Told
    error: dict[str, JsonValue]
    sessionId: str
    method: str
    params: Told


Event = Callable[[str, Told], None]
"""Called with an event's method and parameters."""

_FROM_US, _TO_US = 3, 4  # the numbers that --remote-debugging-pipe asks for


class DevToolsError(Exception):
    """The browser refused a command, or is gone; the message is its own."""


class Connection(asyncio.Protocol):
    """One browser process and the pipe to it; the browser ends when the pipe closes, however this program ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Told]] = {}
        self._listeners: dict[str, Event] = {}
        self._received = bytearray()
        self._writer: asyncio.WriteTransport | None = None
        self._reader: asyncio.ReadTransport | None = None

    @classmethod
    async def start(cls, program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Connection:
        """Start `program` with a pipe on file descriptors 3 and 4.

        Raises:
            OSError: the program cannot be started.
        """
        loop = asyncio.get_running_loop()
        browser_reads, we_write = os.pipe()
        we_read, browser_writes = os.pipe()
        # Two steps: what is moved onto 3 or 4 must not fall on an end that is still to be moved.
        first = max(browser_reads, browser_writes, _TO_US) + 1
        second = first + 1
        moves = [
            (os.POSIX_SPAWN_DUP2, browser_reads, first),
            (os.POSIX_SPAWN_DUP2, browser_writes, second),
            (os.POSIX_SPAWN_DUP2, first, _FROM_US),
            (os.POSIX_SPAWN_DUP2, second, _TO_US),
            (os.POSIX_SPAWN_CLOSE, first),
            (os.POSIX_SPAWN_CLOSE, second),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            # A group of its own: Ctrl-C reaches this program alone, which then closes the browser.
            pid = os.posix_spawn(program, [program, *arguments], environment, file_actions=moves, setpgroup=0)
        except OSError:
            os.close(we_write)
            os.close(we_read)
            raise
        finally:
            os.close(browser_reads)
            os.close(browser_writes)
        self = cls(pid)
        self._reader, _ = await loop.connect_read_pipe(lambda: self, os.fdopen(we_read, "rb", 0))
        self._writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(we_write, "wb", 0))
        return self

    def listen(self, session: str, listener: Event | None) -> None:
        """Hand the events of a session (the browser's own is "") to `listener`; None ends that."""
        if listener is None:
            self._listeners.pop(session, None)
        else:
            self._listeners[session] = listener

    def post(
        self, method: str, parameters: Mapping[str, object] | None = None, session: str = ""
    ) -> asyncio.Future[Told]:
        """Send a command at once; the future brings its answer, or raises DevToolsError."""
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        if not self.alive or self._writer is None:
            answer.set_exception(DevToolsError("the browser is gone"))
            return answer
        self._number += 1
        command: dict[str, object] = {"id": self._number, "method": method, "params": parameters or {}}
        if session:
            command["sessionId"] = session
        self._waiting[self._number] = answer
        # Nobody may wait for it any more when it fails; that is no news to report.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._writer.write(json.dumps(command).encode() + b"\0")
        return answer

    def data_received(self, data: bytes) -> None:
        """Take what the browser wrote; messages end with a null byte."""
        self._received += data
        if b"\0" not in data:
            return
        *messages, rest = self._received.split(b"\0")
        self._received = bytearray(rest)
        for message in messages:
            self._take(json.loads(message))

    def _take(self, message: _Message) -> None:
        if "id" in message:
            answer = self._waiting.pop(message["id"], None)
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(DevToolsError(str(message["error"].get("message"))))
            else:
                answer.set_result(message.get("result", {}))
            return
        listener = self._listeners.get(message.get("sessionId", ""))
        if listener is not None:
            listener(message["method"], message["params"])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that the browser is gone."""
        self.alive = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(DevToolsError("the browser is gone"))
        self._waiting.clear()

    async def close(self, patience: float) -> None:
        """End the browser within `patience` seconds, by force if need be, and leave no process of it."""
        family = processes.family(self.pid)
        with contextlib.suppress(TimeoutError, DevToolsError):
            await asyncio.wait_for(self.post("Browser.close"), patience)
        self.alive = False
        for transport in (self._writer, self._reader):
            if transport is not None:
                transport.close()
        await asyncio.to_thread(processes.end, family, patience)

    def kill(self) -> None:
        """Kill the browser with all its processes at once."""
        processes.kill(processes.family(self.pid))
