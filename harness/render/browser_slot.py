"""The place of one browser at work, and of a shared process beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import psutil

from harness.render import processes
from harness.render.devtools import Connection
from harness.render.settings import RenderSettings
from harness.render.shared_process import SharedProcess

if TYPE_CHECKING:
    from playwright.async_api import Browser


class BrowserSlot:
    """One browser at work, replaced when it is old or broken, and a shared process for pages that may go into one."""

    def __init__(
        self,
        settings: RenderSettings,
        start_browser: Callable[[], Awaitable[tuple[Browser, psutil.Process | None]]],
        start_shared: Callable[[], Awaitable[Connection]] | None,
    ) -> None:
        self._settings = settings
        self._start_browser = start_browser
        self._browser: Browser | None = None
        self._process: psutil.Process | None = None
        self._pages = 0
        self.shared = SharedProcess(settings, start_shared) if start_shared else None

    async def browser(self) -> Browser:
        """Return the browser, a new one if the old one is too old or dead."""
        too_old = self._pages >= self._settings.pages_per_browser
        if self._browser is None or too_old or not self._browser.is_connected():
            await self.dismiss()
            self._browser, self._process = await self._start_browser()
            self._pages = 0
        self._pages += 1
        return self._browser

    async def dismiss(self) -> None:
        """Close the browser; one that does not close in time is killed."""
        browser, self._browser = self._browser, None
        if browser is None:
            return
        try:
            await asyncio.wait_for(browser.close(), self._settings.deadlines.close + 1)
        except Exception:
            self.kill()

    async def end(self) -> None:
        """Close all that runs here."""
        await asyncio.gather(self.dismiss(), *([self.shared.close()] if self.shared else []))

    def kill(self) -> None:
        """Kill the browser with all its processes."""
        if self._process is not None:
            processes.kill(processes.family(self._process.pid))
