"""The browsers at work: who renders what, who is replaced when, and what is tried once more."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from harness.errors import HarnessError
from harness.render import processes
from harness.render.browser import BrowserChoice
from harness.render.browser_slot import BrowserSlot
from harness.render.cache import RenderCache
from harness.render.checks import never_checked
from harness.render.devtools import Connection
from harness.render.isolated_page import BrowserGone, IsolatedPage
from harness.render.launch import Room, launch, launch_shared, shared_arguments, wrapper
from harness.render.memory import MemoryWatch
from harness.render.outcome import oversize
from harness.render.reading import CheckReader, readable
from harness.render.settings import RenderRequest, RenderSettings, worker_count
from harness.types import Rendering

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

Work = Callable[[IsolatedPage], Awaitable[Rendering]]

_QUICK = 0.4
"""Seconds in which a browser opens, fills and closes an empty page, 0.1 where two cores are busy; past it the machine
is slow, not the page."""
_STILL_QUICK_S = 2.0
"""So long a machine that was quick is believed to be: each page asks that has a check which waits in vain."""
_LULL_S = 10.0
"""So long a page waits for the machine to be quick again."""
_CLOSED = "the renderer is closed"
_TOO_SLOW = "this machine is too slow now to tell what the page does in time (run again when it is less busy)"


class Pool:
    """As many browsers as the machine feeds, under one Playwright driver, in one event loop."""

    def __init__(self, settings: RenderSettings, choice: BrowserChoice) -> None:
        self.settings = settings
        self._choice = choice
        self._room: Room | None = None
        self._closing = False
        self._program: str | None = None
        self._shared_arguments: list[str] = []
        self._playwright: Playwright | None = None
        self._driver: psutil.Process | None = None
        self._watch: MemoryWatch | None = None
        self._watching: asyncio.Task[None] | None = None
        self._free: asyncio.Queue[BrowserSlot] = asyncio.Queue()
        self._acting: asyncio.Queue[BrowserSlot] = asyncio.Queue()
        """For checks that act: they wait more than they compute, and meanwhile other pages are measured."""
        self._all: list[BrowserSlot] = []
        self._starting = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._check_reader: CheckReader | None = None
        self._unreadable = False
        self._quick_at = -math.inf
        # Elsewhere Playwright's settings of fonts are others, and a pipe on given descriptors is another matter.
        self.shares = settings.shared_process and sys.platform == "linux" and choice.path is not None

    async def start(self) -> None:
        """Start the driver; browsers start with their first page.

        Raises:
            HarnessError: the driver does not start.
        """
        from playwright.async_api import async_playwright

        self._room = Room()
        self._program = await asyncio.to_thread(wrapper, self._room, self._choice, self.settings)
        known = {child.pid for child in psutil.Process().children()}
        with self._room.as_temporary_folder():
            self._playwright = await asyncio.wait_for(async_playwright().start(), self.settings.deadlines.launch)
        news = [child for child in psutil.Process().children() if child.pid not in known and _is_driver(child)]
        if news:
            self._driver = news[0]
        self._watch = MemoryWatch(self._is_browser, self.settings)
        self._watching = asyncio.create_task(self._watch.run())
        count = worker_count(self.settings)
        for _ in range(count):
            self._open_slot(self._free, self.shares)
        for _ in range((count + 1) // 2):
            self._open_slot(self._acting, False)

    def _open_slot(self, queue: asyncio.Queue[BrowserSlot], shares: bool) -> None:
        slot = BrowserSlot(self.settings, self.start_browser, self.start_shared if shares else None)
        self._all.append(slot)
        queue.put_nowait(slot)

    async def start_browser(self) -> tuple[Browser, psutil.Process | None]:
        """Start a browser with all safeguards (see `launch`) and find its process."""
        assert self._playwright is not None
        if self._closing:
            raise HarnessError(_CLOSED)
        async with self._starting:
            known = {process.pid for process in self._browsers()}
            browser = await launch(self._playwright, self._program, self.settings)
            news = [process for process in self._browsers() if process.pid not in known]
        return browser, news[0] if news else None

    async def start_shared(self) -> Connection:
        """Start a browser for a shared process; see `launch_shared`."""
        assert self._playwright is not None and self._room is not None and self._program is not None
        async with self._starting:
            if not self._shared_arguments:
                self._shared_arguments = await shared_arguments(self._playwright, self._room, self.settings)
        if self._closing:
            raise OSError(_CLOSED)
        return await launch_shared(self._program, self._room, self._shared_arguments)

    def _is_browser(self, process: psutil.Process, parent: int) -> bool:
        if self._driver is not None and parent == self._driver.pid:
            return True
        return any(slot.shared is not None and slot.shared.pid == process.pid for slot in self._all)

    def _browsers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return self._driver.children() if self._driver else []
        return []

    @property
    def peak_memory(self) -> int:
        """Largest resident memory of all browsers together so far, in bytes; 0 where it was not watched."""
        return self._watch.peak if self._watch else 0

    async def close(self) -> None:
        """Stop everything and leave nothing behind; pages that are under way get no browser any more."""
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
        strays = processes.family(self._driver.pid) if self._driver is not None else []
        with contextlib.suppress(Exception):
            await asyncio.gather(*(slot.end() for slot in self._all))
        if self._playwright is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._playwright.stop(), 5)
        if self._room is not None:
            # one that was just being started for a page under way would write its profile anew
            strays += await asyncio.to_thread(processes.naming, f"--user-data-dir={self._room.path}")
            await asyncio.to_thread(processes.end, strays, 1)
            await asyncio.to_thread(self._room.clear)

    async def render(self, request: RenderRequest, cache: RenderCache | None = None) -> Rendering:
        """Return the rendering of one page; a fault of ours is `unscored` with the reason.

        Of a page that `cache` knows when its turn has come, only the checks run; it keeps what is measured of others.
        """
        slot = await self._free.get()
        try:
            rendering = await self._measured(slot, request, cache)
            if cache is not None:
                await asyncio.to_thread(cache.store_page, request, rendering)
        finally:
            self._free.put_nowait(slot)
        if rendering.checks is None or len(rendering.checks) == len(request.checks):
            return rendering
        slot = await self._acting.get()
        try:
            acted = await self._attempts(slot, request, self.settings, 0.0, lambda page: page.act(rendering))
        finally:
            self._acting.put_nowait(slot)
        if acted.outcome != "unscored":
            return acted
        return replace(rendering, checks=None, checks_unmeasured=acted.detail)  # what was seen of the page stays

    async def _measured(self, slot: BrowserSlot, request: RenderRequest, cache: RenderCache | None) -> Rendering:
        """Return the rendering of one page, where a shared process measured it without its checks that act."""
        page = await asyncio.to_thread(cache.load_page, request) if cache is not None and request.checks else None
        if page is not None:
            return await self._checked(slot, request, page)
        first = await self._once(slot, request, self.settings)
        if not self.settings.twice or first.outcome in ("unscored", "timeout", "crash", "too-large"):
            return first
        second = await self._once(slot, replace(request, checks=()), self.settings)
        return replace(first, stable=_same(first, second), seconds=first.seconds + second.seconds)

    async def _checked(self, slot: BrowserSlot, request: RenderRequest, page: Rendering) -> Rendering:
        """Return what is known of a page with what its checks say: it is laid out as ever, but not measured again."""
        bare = await self._once(slot, request, replace(self.settings, axe=False, screenshots=False))
        if bare.outcome in ("unscored", "timeout", "crash"):
            return bare
        return replace(page, checks=bare.checks, seconds=bare.seconds)

    async def _once(self, slot: BrowserSlot, request: RenderRequest, settings: RenderSettings) -> Rendering:
        """Try the shared process first, where checks that act do not run; what it gives up is measured alone."""
        started = time.perf_counter()
        if too_large := oversize(request.html):
            found = Rendering("too-large", too_large, seconds=time.perf_counter() - started)
            return never_checked(found, request.checks)
        reading = any(not check.acts for check in request.checks)
        reader = await self._reader(slot) if slot.shared is not None and reading else None
        if slot.shared is not None and (not reading or (reader is not None and readable(request.checks))):
            try:
                rendering = await slot.shared.render(request, settings, reader)
            except OSError:
                slot.shared = None  # the browser that is started alone will say what is wrong
            else:
                if rendering is not None and rendering.outcome == "too-large":
                    return never_checked(rendering, request.checks)
                if rendering is not None:
                    return rendering
        tried = time.perf_counter() - started
        limits = settings.deadlines
        patience = min(limits.page, max(limits.load, limits.all - tried))
        alone = await self._attempts(slot, request, settings, patience, IsolatedPage.run)
        return replace(alone, seconds=alone.seconds + tried)

    async def _reader(self, slot: BrowserSlot) -> CheckReader | None:
        """Return what reads checks in a shared process; None where Playwright's driver has to."""
        async with self._asking:
            if self._check_reader is None and not self._unreadable:
                try:
                    asked = CheckReader.of(await slot.browser())
                    self._check_reader = await asyncio.wait_for(asked, self.settings.deadlines.launch)
                except HarnessError:
                    return None  # it is said of the page that there is no browser
                except Exception:
                    self._unreadable = True
            return self._check_reader

    async def _attempts(
        self, slot: BrowserSlot, request: RenderRequest, settings: RenderSettings, patience: float, work: Work
    ) -> Rendering:
        said = ""
        for last in (False, True):
            kills = len(self._watch.kills) if self._watch else 0
            try:
                rendering, ran_out_of_time = await self._alone(slot, request, settings, patience, work)
            except BrowserGone as gone:
                said = str(gone)
                await slot.dismiss()
                if last and self._killed_since(kills):
                    return Rendering(outcome="crash", detail=self._killed_since(kills))
                continue
            except HarnessError as error:
                return Rendering(outcome="unscored", detail=str(error))
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                await slot.dismiss()
                continue
            if rendering.outcome == "crash" and self._killed_since(kills):
                return replace(rendering, detail=self._killed_since(kills))
            if not ran_out_of_time or await self._quick(slot):
                return rendering
            if last:
                return Rendering(outcome="unscored", detail=_TOO_SLOW)
            await self._lull(slot)
        return Rendering(outcome="unscored", detail=f"the browser failed twice: {said}"[:300])

    def _killed_since(self, count: int) -> str:
        return "; ".join(self._watch.kills[count:][:1]) if self._watch else ""

    async def _alone(
        self, slot: BrowserSlot, request: RenderRequest, settings: RenderSettings, patience: float, work: Work
    ) -> tuple[Rendering, bool]:
        """Return what one page of a browser's own comes to, and whether a limit of time had a part in it."""
        isolated = IsolatedPage(await slot.browser(), request, settings, slot.kill, patience)
        try:
            return await work(isolated), isolated.ran_out_of_time
        finally:
            try:
                await isolated.close()
            except BrowserGone:
                # The page is measured, or its own failure is on its way up; only the browser has to go.
                await slot.dismiss()

    async def _quick(self, slot: BrowserSlot) -> bool:
        """Whether an empty page is quick now: if so, what a page did not do in time it would not have done."""
        if time.monotonic() - self._quick_at < _STILL_QUICK_S:
            return True
        try:
            async with asyncio.timeout(10 * _QUICK):
                browser = await slot.browser()
                started = time.perf_counter()
                context = await browser.new_context()
                page = await context.new_page()
                await page.set_content("<p>")
                await context.close()
        except Exception:
            await slot.dismiss()
            return False
        if time.perf_counter() - started >= _QUICK:
            return False
        self._quick_at = time.monotonic()
        return True

    async def _lull(self, slot: BrowserSlot) -> None:
        """Wait until the machine is quick again, but not for ever."""
        end = time.monotonic() + _LULL_S
        while time.monotonic() < end and not await self._quick(slot):
            await asyncio.sleep(_QUICK)


def _same(first: Rendering, second: Rendering) -> bool:
    return (first.outcome, first.dom_hash, first.visible_text, dict(first.screenshots)) == (
        second.outcome,
        second.dom_hash,
        second.visible_text,
        dict(second.screenshots),
    )


def _is_driver(process: psutil.Process) -> bool:
    try:
        return any("playwright" in part for part in process.cmdline())
    except psutil.Error:
        return False
