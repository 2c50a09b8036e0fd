"""The fast way: well-behaved pages one after the other, each in a tab and at an origin of its own, in one process.

Starting a process for a page costs more than measuring it. What shares one here is only ever a page that behaved: as
soon as anything is unusual (an error, a dialog, a worker, a socket, a navigation, no answer within `Deadlines.shared`),
the page is given up, the process thrown away, and `harness.render.isolated_page` measures it alone, from its beginning.
So a shared process tells no outcome but `ok`, `blank`, `blocked-resource` and, where something was counted,
`too-large`. Playwright's driver between this program and the browser would cost as much as the measuring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from dataclasses import replace

from harness.checks.words import Check
from harness.render.devtools import Connection, DevToolsError, Told
from harness.render.measurements import MeasureFailed
from harness.render.page_events import origin
from harness.render.reading import CheckReader
from harness.render.settings import DESKTOP_WIDTH, VIEWPORT_HEIGHT, RenderRequest, RenderSettings
from harness.render.shared_tab import ATTACH, SharedTab, Unusual
from harness.render.visit import Stalled, TooLarge, Visit
from harness.types import CheckResult, Rendering


class SharedProcess:
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

    async def render(
        self, request: RenderRequest, settings: RenderSettings, reader: CheckReader | None
    ) -> Rendering | None:
        """Return what was measured, or None where the page has to be measured alone; never raises for a page.

        Args:
            request: The page; `checks` of the rendering are the results of those of its checks that only read.
            settings: What is measured of it.
            reader: What reads the checks; needed where there are such.

        Raises:
            OSError: the browser cannot be started.
        """
        limits = settings.deadlines
        self.why = ""
        visit = Visit(request, settings)
        checks: tuple[CheckResult, ...] | None = None
        try:
            await self._make_ready(origin(request))
            async with asyncio.timeout(limits.shared):
                tab = await self._open(request)
                await tab.unless_unusual(visit.measure(tab))
            if settings.axe:
                async with asyncio.timeout(limits.shared_axe):
                    await tab.unless_unusual(visit.accessibility(tab))
            heard = tab.heard
            if request.checks:
                heard = deepcopy(heard)  # what comes while the checks read is no part of the page's outcome
                async with asyncio.timeout(limits.shared_checks):
                    checks = await self._read(tab, request.checks, reader)
            async with asyncio.timeout(limits.close):
                await self._close(tab)
            rendering = await visit.rendering(heard, tab.url)
            if visit.axe_failed or rendering.outcome not in ("ok", "blank", "blocked-resource"):
                raise Unusual(visit.axe_failed or rendering.outcome)
        except TooLarge as error:
            await self._renew()
            return Rendering(outcome="too-large", detail=str(error), seconds=visit.seconds)
        except (TimeoutError, DevToolsError, MeasureFailed, Stalled, Unusual) as error:
            self.why = str(error) or "no answer in time"
            await self._renew()
            return None
        finally:
            visit.end()
        return replace(rendering, checks=checks)

    async def _read(
        self, tab: SharedTab, checks: Sequence[Check], reader: CheckReader | None
    ) -> tuple[CheckResult, ...]:
        reading = [check for check in checks if not check.acts]
        if not reading:
            return ()
        assert reader is not None
        await tab.measurer.restore()  # without axe it is still as wide as a phone
        try:
            return await tab.unless_unusual(reader.read(tab.measurer, reading))
        except TooLarge as flood:
            raise Unusual(str(flood)) from None  # the page was measured before

    async def close(self) -> None:
        """End the browser."""
        connection, self._connection = self._connection, None
        self._context = ""
        if connection is not None:
            await connection.close(self._settings.deadlines.close)

    async def _make_ready(self, url: str) -> None:
        """Have a browser and a process that served neither too many pages nor this origin."""
        settings = self._settings
        too_old = self._pages_of_browser >= settings.pages_per_browser
        if self._connection is None or too_old or not self._connection.alive:
            await self.close()
            self._connection = await self._start()
            self._connection.listen("", self._event)
            self._pages_of_browser = 0
            await asyncio.wait_for(self._connection.post("Target.setAutoAttach", ATTACH), settings.deadlines.launch)
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

    async def _open(self, request: RenderRequest) -> SharedTab:
        target, session = await self._new_tab()
        self._tab = tab = SharedTab(self._browser, target, session, request, self._settings.deadlines)
        await tab.prepare()
        return tab

    async def _close(self, tab: SharedTab) -> None:
        """Close the tab and wait until it is gone: a page that stalls its own end stalls nobody else's beginning."""
        tab.close()
        gone = self._ended[tab.session] = asyncio.get_running_loop().create_future()
        await self._browser.post("Target.closeTarget", {"targetId": tab.target})
        await gone
        del self._ended[tab.session]
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

    def _event(self, method: str, told: Told) -> None:
        if method == "Target.attachedToTarget":
            info = told["targetInfo"]
            if info.get("openerId") or info["type"] != "page" or info.get("browserContextId") != self._context:
                # It waits for a debugger that never lets it start.
                if self._tab is not None and info.get("browserContextId") == self._context:
                    self._tab.stop(f"a {info['type']} of its own")
                return
            attached = self._attached.setdefault(info["targetId"], asyncio.get_running_loop().create_future())
            if not attached.done():
                attached.set_result(told["sessionId"])
        elif method == "Target.detachedFromTarget":
            gone = self._ended.get(told["sessionId"])
            if gone is not None and not gone.done():
                gone.set_result(None)
