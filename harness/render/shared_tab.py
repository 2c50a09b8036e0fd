"""The fast way: well-behaved pages one after the other, each in a tab and at an origin of its own, in one process.

Starting a process for a page costs more than measuring it. What shares one here is only ever a page that behaved: as
soon as anything is unusual (an error, a dialog, a worker, a socket, a navigation, no answer within `Deadlines.shared`),
the renderer gives the page up, throws the process away, and `harness.render.isolated_page` measures it alone, from its
beginning. So a shared tab tells no outcome but `ok`, `blank`, `blocked-resource` and, where something was counted,
`too-large`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.render import pixels
from harness.render.assemble import Heard, assemble, keep
from harness.render.devtools import Connection, DevToolsError, Session
from harness.render.measurements import MeasureFailed, PageMeasurer, metrics, script
from harness.render.outcome import Facts, oversize
from harness.render.page_events import origin
from harness.render.settings import (
    DESKTOP_WIDTH,
    MAX_ELEMENTS,
    MAX_EVENTS,
    PHONE_WIDTH,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.types import Rendering

# Playwright's own words and settings, so that a page can't tell the one way from the other.
_NO_SERVICE_WORKERS = (
    "if (self.ServiceWorkerContainer) ServiceWorkerContainer.prototype.register = async () => "
    "{ console.warn('Service Worker registration blocked by Playwright'); };"
)
_FONTS = {
    "standard": "Times New Roman",
    "fixed": "Monospace",
    "serif": "Times New Roman",
    "sansSerif": "Arial",
    "cursive": "Comic Sans MS",
    "fantasy": "Impact",
}
_MEDIA = {"prefers-color-scheme": "light", "prefers-reduced-motion": "reduce", "forced-colors": "none"}
_ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
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


class TooLarge(Exception):
    """More than anyone measures, which is no matter of time or of neighbours; the message says of what."""


class Unusual(Exception):
    """The page is not for a shared process; the message says why."""


class SharedTab:
    """One page in one tab: serves its document, refuses all else, and stops at the first unusual thing."""

    def __init__(self, connection: Connection, session: str, request: RenderRequest) -> None:
        self.session = Session(connection, session)
        self.heard = Heard()
        self.unusual: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.url = origin(request)
        self.error = False
        """Whether an error was not caught; only whether there are too many is told here."""
        self._connection = connection
        self._body = base64.b64encode(request.html.encode("utf-8", "replace")).decode()
        self._served = False
        self._frame = ""
        self._counts: Counter[str] = Counter()
        connection.listen(session, self._event)

    async def prepare(self) -> None:
        """Close every door before the document is asked for; all in one go, in the order of sending."""
        post, session = self._connection.post, self.session.number
        features = [{"name": name, "value": value} for name, value in _MEDIA.items()]
        await asyncio.gather(
            post("Page.enable", None, session),
            post("Runtime.enable", None, session),
            post("Log.enable", None, session),
            post("Network.enable", None, session),
            post("Network.emulateNetworkConditions", _OFFLINE, session),
            post("Fetch.enable", {"patterns": [{"urlPattern": "*"}]}, session),
            post("Target.setAutoAttach", _ATTACH, session),
            post("Page.addScriptToEvaluateOnNewDocument", {"source": _NO_SERVICE_WORKERS}, session),
            post("Page.addScriptToEvaluateOnNewDocument", {"source": script("guard.js")}, session),
            post("Page.setFontFamilies", {"fontFamilies": _FONTS}, session),
            post("Emulation.setFocusEmulationEnabled", {"enabled": True}, session),
            post("Emulation.setUserAgentOverride", {"userAgent": "", "acceptLanguage": "en-US"}, session),
            post("Emulation.setEmulatedMedia", {"media": "", "features": features}, session),
            post("Emulation.setDeviceMetricsOverride", metrics(DESKTOP_WIDTH), session),
            post("Runtime.runIfWaitingForDebugger", None, session),
        )

    async def open(self) -> str:
        """Load the document and return its frame's id."""
        answer = await self.session.send("Page.navigate", {"url": self.url})
        if answer.get("errorText"):
            raise Unusual(str(answer["errorText"]))
        return str(answer["frameId"])

    def close(self) -> None:
        """Hear no more of it."""
        self._connection.listen(self.session.number, None)
        if not self.unusual.done():
            self.unusual.cancel()

    def _stop(self, why: str) -> None:
        if not self.unusual.done():
            self.unusual.set_exception(Unusual(why))

    def _event(self, method: str, told: Mapping[str, Any]) -> None:
        if method in _UNUSUAL:
            self._stop(_UNUSUAL[method])
            return
        if method in _COUNTED:
            self._counts[_COUNTED[method]] += 1
            if self._counts[_COUNTED[method]] > MAX_EVENTS and not self.unusual.done():
                self.unusual.set_exception(TooLarge(f"more than {MAX_EVENTS} {_COUNTED[method]}"))
        if method == "Fetch.requestPaused":
            self._answer(told)
        elif method == "Runtime.exceptionThrown":
            self.error = True
        elif method == "Page.frameNavigated":
            frame = told["frame"]
            if "parentId" not in frame and frame["url"] not in (self.url, "about:blank"):
                self._stop("a navigation")
        elif method == "Log.entryAdded":
            if told["entry"]["level"] == "error" and told["entry"]["source"] != "worker":
                keep(self.heard.console_errors, told["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and told["type"] == "error":
            if all(argument["type"] in ("string", "number") for argument in told["args"]):
                words = (argument.get("description", argument.get("value")) for argument in told["args"])
                keep(self.heard.console_errors, " ".join(map(str, words)))
            else:
                self._stop("an object on the console")

    def _answer(self, told: Mapping[str, Any]) -> None:
        request, kind, number = told["request"], str(told["resourceType"]).lower(), told["requestId"]
        post, session = self._connection.post, self.session.number
        if request["url"] == self.url and kind == "document" and not self._served:
            self._served = True
            self._frame = told["frameId"]
            headers = [{"name": "content-type", "value": "text/html; charset=utf-8"}]
            answer = {"requestId": number, "responseCode": 200, "responseHeaders": headers, "body": self._body}
            post("Fetch.fulfillRequest", answer, session)
            return
        if (kind == "document" and told["frameId"] == self._frame) or request["method"] == "OPTIONS":
            self._stop("a navigation or a preflight")
        if not request["url"].endswith("/favicon.ico"):
            self.heard.refuse(request["url"], kind)
        post("Fetch.failRequest", {"requestId": number, "errorReason": "InternetDisconnected"}, session)


class SharedTabRenderer:
    """A browser whose tabs share one process, and the pages that go through it one at a time."""

    def __init__(self, settings: RenderSettings, start: Callable[[], Awaitable[Connection]]) -> None:
        self._settings = settings
        self._start = start
        self._connection: Connection | None = None
        self._context = ""
        self._pages = 0
        self._pages_of_browser = 0
        self._origins: set[str] = set()
        self._attached: dict[str, asyncio.Future[str]] = {}
        self._ended: dict[str, asyncio.Future[None]] = {}
        self._tab: SharedTab | None = None
        self.why = ""
        """Why the last page was given up, or empty."""

    @property
    def pid(self) -> int | None:
        """The browser's process, or None where none runs."""
        return self._connection.pid if self._connection is not None else None

    async def render(self, request: RenderRequest) -> Rendering | None:
        """Return what was measured, or None where the page has to be measured alone; never raises for a page.

        Raises:
            OSError: the browser cannot be started.
        """
        started = time.perf_counter()
        self.why = ""
        if too_large := oversize(request.html):
            return Rendering(outcome="too-large", detail=too_large, seconds=time.perf_counter() - started)
        pictures: dict[str, asyncio.Task[pixels.Picture]] = {}
        parts: dict[str, Any] = {}
        try:
            await self._make_ready(origin(request))
            async with asyncio.timeout(self._settings.deadlines.shared):
                tab, target = await self._open(request)
                measurer = PageMeasurer(tab.session, self._settings.deadlines)
                await _first(self._measure(tab, measurer, parts, pictures), tab.unusual)
            if self._settings.axe:
                async with asyncio.timeout(self._settings.deadlines.shared_axe):
                    await _first(_accessibility(measurer, parts), tab.unusual)
            async with asyncio.timeout(self._settings.deadlines.close):
                await self._close(tab, target)
            done = {name: await task for name, task in pictures.items()}
            rendering = assemble(tab.heard, Facts(), request.html, parts, done)
            if rendering.outcome not in ("ok", "blank", "blocked-resource"):
                raise Unusual(rendering.outcome)
        except TooLarge as error:
            await self._renew()
            for task in pictures.values():
                task.cancel()
            return Rendering(outcome="too-large", detail=str(error), seconds=time.perf_counter() - started)
        except (TimeoutError, DevToolsError, MeasureFailed, Unusual) as error:
            self.why = str(error) or "no answer in time"
            for task in pictures.values():
                task.cancel()
            await self._renew()
            return None
        return replace(rendering, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """End the browser."""
        connection, self._connection = self._connection, None
        self._context = ""
        if connection is not None:
            await connection.close(self._settings.deadlines.close)

    async def _measure(
        self,
        tab: SharedTab,
        measurer: PageMeasurer,
        parts: dict[str, Any],
        pictures: dict[str, asyncio.Task[pixels.Picture]],
    ) -> None:
        await measurer.enter(await tab.open())
        parts["desktop"] = await measurer.measure("whole")
        if parts["desktop"]["elements"] > MAX_ELEMENTS:
            raise TooLarge(f"{parts['desktop']['elements']} elements")
        if tab.error:
            raise Unusual("an uncaught error")
        await self._shoot(measurer, "desktop", DESKTOP_WIDTH, parts, pictures)
        await measurer.resize(PHONE_WIDTH)
        parts["phone"] = await measurer.measure("geometry")
        if tab.error:
            raise Unusual("an uncaught error")
        if not parts["phone"]["url"].startswith(tab.url):
            raise Unusual("another URL")
        await self._shoot(measurer, "phone", PHONE_WIDTH, parts, pictures)

    async def _shoot(
        self,
        measurer: PageMeasurer,
        name: str,
        width: int,
        parts: dict[str, Any],
        pictures: dict[str, asyncio.Task[pixels.Picture]],
    ) -> None:
        if self._settings.screenshots:
            encoded = await measurer.shoot(width, parts[name]["height"])
            pictures[name] = asyncio.create_task(asyncio.to_thread(pixels.read, encoded, VIEWPORT_HEIGHT))

    async def _make_ready(self, url: str) -> None:
        """Have a browser and a process that served neither too many pages nor this origin."""
        settings = self._settings
        too_old = self._pages_of_browser >= settings.pages_per_browser
        if self._connection is None or too_old or not self._connection.alive:
            await self.close()
            self._connection = await self._start()
            self._connection.listen("", self._event)
            self._pages_of_browser = 0
            await asyncio.wait_for(self._connection.post("Target.setAutoAttach", _ATTACH), settings.deadlines.launch)
        elif self._context and (self._pages >= settings.pages_per_process or url in self._origins):
            await self._renew()
        if not self._context:
            await asyncio.wait_for(self._new_context(), settings.deadlines.launch)
        self._pages += 1
        self._pages_of_browser += 1
        self._origins.add(url)

    async def _new_context(self) -> None:
        post = self._browser.post
        context = (await post("Target.createBrowserContext", {"disposeOnDetach": True}))["browserContextId"]
        await post("Browser.setDownloadBehavior", {"behavior": "deny", "browserContextId": context})
        await post("Browser.grantPermissions", {"permissions": [], "browserContextId": context})
        self._context, self._pages, self._origins = context, 0, set()
        # An empty tab that stays: it holds the process while one page's tab is gone and the next one's not there yet.
        _, session = await self._new_tab()
        await post("Runtime.runIfWaitingForDebugger", None, session)

    async def _new_tab(self) -> tuple[str, str]:
        options = {"url": "about:blank", "browserContextId": self._context, "width": DESKTOP_WIDTH}
        made = await self._browser.post("Target.createTarget", options | {"height": VIEWPORT_HEIGHT})
        target = made["targetId"]
        attached = self._attached.setdefault(target, asyncio.get_running_loop().create_future())
        session = await attached
        del self._attached[target]
        return target, session

    async def _open(self, request: RenderRequest) -> tuple[SharedTab, str]:
        target, session = await self._new_tab()
        self._tab = tab = SharedTab(self._browser, session, request)
        await tab.prepare()
        return tab, target

    async def _close(self, tab: SharedTab, target: str) -> None:
        """Close the tab and wait until it is gone: a page that stalls its own end stalls nobody else's beginning."""
        tab.close()
        gone = self._ended[tab.session.number] = asyncio.get_running_loop().create_future()
        await self._browser.post("Target.closeTarget", {"targetId": target})
        await gone
        del self._ended[tab.session.number]
        self._tab = None

    async def _renew(self) -> None:
        """Throw the process away with all its tabs; a browser that does not manage that in time is replaced."""
        context, self._context = self._context, ""
        if self._tab is not None:
            self._tab.close()
            self._tab = None
        self._attached.clear()
        self._ended.clear()
        if self._connection is None or not context:
            return
        try:
            disposed = self._connection.post("Target.disposeBrowserContext", {"browserContextId": context})
            await asyncio.wait_for(disposed, self._settings.deadlines.close)
        except (TimeoutError, DevToolsError):
            self._connection.kill()
            await self.close()

    @property
    def _browser(self) -> Connection:
        if self._connection is None:
            raise DevToolsError("the browser is gone")
        return self._connection

    def _event(self, method: str, told: Mapping[str, Any]) -> None:
        if method == "Target.attachedToTarget":
            info = told["targetInfo"]
            if info.get("openerId") or info["type"] != "page" or info.get("browserContextId") != self._context:
                # It waits for a debugger that never lets it start.
                if self._tab is not None and info.get("browserContextId") == self._context:
                    self._tab._stop(f"a {info['type']} of its own")
                return
            attached = self._attached.setdefault(info["targetId"], asyncio.get_running_loop().create_future())
            if not attached.done():
                attached.set_result(told["sessionId"])
        elif method == "Target.detachedFromTarget":
            gone = self._ended.get(told["sessionId"])
            if gone is not None and not gone.done():
                gone.set_result(None)


async def _accessibility(measurer: PageMeasurer, parts: dict[str, Any]) -> None:
    await measurer.resize(DESKTOP_WIDTH)
    parts["accessibility"] = await measurer.accessibility()


async def _first(work: Awaitable[None], unusual: asyncio.Future[None]) -> None:
    """Await `work`, but stop it at the first unusual thing."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task, unusual), return_when=asyncio.FIRST_COMPLETED)
        if unusual.done():
            unusual.result()
        await task
        if unusual.done():
            unusual.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
