"""One page in one tab of a shared process, driven over the DevTools protocol; see `harness.render.shared_process`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from harness.render.devtools import Connection, Told
from harness.render.heard import Heard
from harness.render.measurements import Measured, PageMeasurer, script
from harness.render.page_events import origin
from harness.render.settings import (
    COLOR_SCHEME,
    DESKTOP_WIDTH,
    FORCED_COLORS,
    LOCALE,
    MAX_ELEMENTS,
    REDUCED_MOTION,
    Deadlines,
    RenderRequest,
)
from harness.render.visit import TooLarge

T = TypeVar("T")

ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
_MEDIA = {
    "prefers-color-scheme": COLOR_SCHEME,
    "prefers-reduced-motion": REDUCED_MOTION,
    "forced-colors": FORCED_COLORS,
}
_OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
_UNUSUAL = {
    "Page.javascriptDialogOpening": "a dialog",
    "Page.fileChooserOpened": "a file chooser",
    "Page.downloadWillBegin": "a download",
    "Network.webSocketCreated": "a socket",
    "Network.webTransportCreated": "a socket",
    "Target.attachedToTarget": "a worker",
    "Inspector.targetCrashed": "a crash",
    "Inspector.detached": "a crash",
}
_COUNTED = {
    "Fetch.requestPaused": "requests",
    "Runtime.exceptionThrown": "uncaught errors",
    "Runtime.consoleAPICalled": "console messages",
    "Log.entryAdded": "console messages",
    "Page.frameNavigated": "navigations",
    "Page.navigatedWithinDocument": "navigations",
}


class Unusual(Exception):
    """The page is not for a shared process; the message says why."""


class SharedTab:
    """Serves its document, refuses all else, and stops at the first unusual thing."""

    def __init__(
        self, connection: Connection, target: str, session: str, request: RenderRequest, limits: Deadlines
    ) -> None:
        self.target = target
        self.session = session
        self.heard = Heard()
        self.url = origin(request)
        self.measurer = PageMeasurer(self, limits)
        self._connection = connection
        self._body = base64.b64encode(request.html.encode("utf-8", "replace")).decode()
        self._served = False
        self._frame = ""
        self._loaded = False
        self._error = False
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection.listen(session, self._event)

    async def prepare(self) -> None:
        """Close every door before the document is asked for; all in one go, in the order of sending."""
        features = [{"name": name, "value": value} for name, value in _MEDIA.items()]
        await asyncio.gather(
            self.send("Page.enable"),
            self.send("Runtime.enable"),
            self.send("Log.enable"),
            self.send("Network.enable"),
            self.send("Network.emulateNetworkConditions", _OFFLINE),
            self.send("Fetch.enable", {"patterns": [{"urlPattern": "*"}]}),
            self.send("Target.setAutoAttach", ATTACH),
            self.send("Page.addScriptToEvaluateOnNewDocument", {"source": script("guard.js")}),
            self.send("Emulation.setFocusEmulationEnabled", {"enabled": True}),
            self.send("Emulation.setUserAgentOverride", {"userAgent": "", "acceptLanguage": LOCALE}),
            self.send("Emulation.setEmulatedMedia", {"media": "", "features": features}),
            self.measurer.resize(DESKTOP_WIDTH),
            self.measurer.set_fonts(),
            self.send("Runtime.runIfWaitingForDebugger"),
        )

    def send(self, method: str, params: Mapping[str, object] | None = None, /) -> asyncio.Future[Told]:
        """Send a command at once; the future brings its answer, or raises DevToolsError."""
        return self._connection.post(method, params, self.session)

    async def load(self) -> Measured:
        """Load the document and return what was measured when it had settled."""
        told = await self.send("Page.navigate", {"url": self.url})
        if told.get("errorText"):
            raise Unusual(str(told["errorText"]))
        await self.measurer.enter(str(told["frameId"]))
        measured = await self.measurer.measure("whole")
        if self._error and measured["elements"] <= MAX_ELEMENTS:
            raise Unusual("an uncaught error")
        self._loaded = True
        return measured

    async def unless_unusual(self, work: Awaitable[T]) -> T:
        """Await `work` and return what it returns, but stop it at the first unusual thing.

        Raises:
            Unusual, TooLarge: what stopped it.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._end), return_when=asyncio.FIRST_COMPLETED)
            if not self._end.done():
                await task
            if self._end.done():
                self._end.result()
            return task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def stop(self, why: str) -> None:
        """Give the page up."""
        self._fail(Unusual(why))

    def close(self) -> None:
        """Hear no more of it."""
        self._connection.listen(self.session, None)
        if not self._end.done():
            self._end.cancel()

    def _fail(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_exception(error)

    def _event(self, method: str, told: Told) -> None:
        if method in _UNUSUAL:
            self.stop(_UNUSUAL[method])
            return
        if method in _COUNTED and self.heard.count(_COUNTED[method]):
            self._fail(TooLarge(self.heard.flood))
        if method == "Fetch.requestPaused":
            self._answer(told)
        elif method == "Runtime.exceptionThrown":
            self._error = True  # one is too many, but while the page loads a flood of them is told from that
            if self._loaded:
                self.stop("an uncaught error")
        elif method == "Page.frameNavigated":
            frame = told["frame"]
            if "parentId" not in frame and frame["url"] not in (self.url, "about:blank"):
                self.stop("a navigation")
        elif method == "Log.entryAdded":
            if told["entry"]["level"] == "error" and told["entry"]["source"] != "worker":
                self.heard.say(told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] == "error":
            if all(argument["type"] in ("string", "number") for argument in told["args"]):
                words = (argument.get("description", argument.get("value")) for argument in told["args"])
                self.heard.say(" ".join(map(str, words)))
            else:
                self.stop("an object on the console")

    def _answer(self, told: Told) -> None:
        request, kind, number = told["request"], str(told["resourceType"]).lower(), told["requestId"]
        if request["url"] == self.url and kind == "document" and not self._served:
            self._served = True
            self._frame = told["frameId"]
            headers = [{"name": "content-type", "value": "text/html; charset=utf-8"}]
            answer = {"requestId": number, "responseCode": 200, "responseHeaders": headers, "body": self._body}
            self.send("Fetch.fulfillRequest", answer)
            return
        if (kind == "document" and told["frameId"] == self._frame) or request["method"] == "OPTIONS":
            self.stop("a navigation or a preflight")
        self.heard.refuse(request["url"], kind)
        self.send("Fetch.failRequest", {"requestId": number, "errorReason": "InternetDisconnected"})
