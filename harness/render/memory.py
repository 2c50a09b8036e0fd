"""Watches the memory of the browsers: a page that fills the DOM is stopped before it stops the machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psutil

from harness.render.processes import kill
from harness.render.settings import RenderSettings

PERIOD = 0.25
_MIB = 1024 * 1024


class MemoryWatch:
    """Kills the process of a page that outgrows its limit, and nothing else; the browser then reports a crash.

    `is_browser(process, parent)` tells the main processes of browsers from this program's other children.
    """

    def __init__(self, is_browser: Callable[[psutil.Process, int], bool], settings: RenderSettings) -> None:
        self._is_browser = is_browser
        self._page_limit = settings.renderer_memory * _MIB
        self._browser_limit = settings.browser_memory * _MIB
        self.kills: list[str] = []
        """What was killed and why, oldest first; a crashed page quotes those since its start."""
        self.peak = 0
        """Largest resident memory of all browsers together, in bytes."""

    async def run(self) -> None:
        """Look every 0.25 s until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            with contextlib.suppress(psutil.Error):
                self._look()

    def _look(self) -> None:
        browsers: dict[int, list[psutil.Process]] = {}
        root_of: dict[int, int] = {}
        # One walk over the process table, parents before children: three would cost more than the pages' Python.
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                parent = process.ppid()
                root = process.pid if self._is_browser(process, parent) else root_of.get(parent, 0)
                if root:
                    root_of[process.pid] = root
                    browsers.setdefault(root, []).append(process)
        total = 0
        for members in browsers.values():
            held = sum(self._weigh(process) for process in members)
            total += held
            if held > self._browser_limit:
                self.kills.append(f"the browser held {held // _MIB} MiB")
                kill(members)
        self.peak = max(self.peak, total)

    def _weigh(self, process: psutil.Process) -> int:
        """Return the resident memory of one process in bytes; a page's process over its limit is killed."""
        with contextlib.suppress(psutil.Error):
            # Shared pages (program text, V8 snapshot) count in each process; ~60 MiB, well inside the limits.
            resident = int(process.memory_info().rss)
            if resident <= self._page_limit or "--type=renderer" not in process.cmdline():
                return resident
            process.kill()
            self.kills.append(f"the page's process held {resident // _MIB} MiB")
        return 0
