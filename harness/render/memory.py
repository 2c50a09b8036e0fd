"""Watches the memory of the browsers: a page that fills the DOM is stopped before it stops the machine."""

from __future__ import annotations

import asyncio
import contextlib

import psutil

from harness.render.settings import RenderSettings

_PERIOD = 0.2
_MIB = 1024 * 1024


class MemoryWatch:
    """Kills the process of a page that outgrows its limit, and nothing else; Playwright then reports a crash."""

    def __init__(self, driver_pid: int, settings: RenderSettings) -> None:
        self._driver_pid = driver_pid
        self._page_limit = settings.renderer_memory * _MIB
        self._browser_limit = settings.browser_memory * _MIB
        self.kills: list[str] = []
        """What was killed and why, oldest first; a crashed page quotes those since its start."""
        self.peak = 0
        """Largest resident memory of all browsers together, in bytes."""

    async def run(self) -> None:
        """Look every 0.2 s until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            with contextlib.suppress(psutil.Error):
                self._look()

    def _look(self) -> None:
        total = 0
        for browser in psutil.Process(self._driver_pid).children():
            held = 0
            members = [browser, *browser.children(recursive=True)]
            for process in members:
                with contextlib.suppress(psutil.Error):
                    # Shared pages (program text, V8 snapshot) count in each process; ~60 MiB, well inside the limits.
                    resident = process.memory_info().rss
                    if resident > self._page_limit and "--type=renderer" in process.cmdline():
                        process.kill()
                        self.kills.append(f"the page's process held {resident // _MIB} MiB")
                    else:
                        held += resident
            total += held
            if held > self._browser_limit:
                self.kills.append(f"the browser held {held // _MIB} MiB")
                for process in members:
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self.peak = max(self.peak, total)
