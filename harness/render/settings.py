"""What a caller asks of the renderer, and the limits that every page lives under."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Final

from harness.checks.words import Check

RENDERER_VERSION: Final = 4
"""Raised whenever the same page could come out differently; part of the cache key."""

DESKTOP_WIDTH: Final = 1280
PHONE_WIDTH: Final = 375
VIEWPORT_HEIGHT: Final = 800
LOCALE: Final = "en-US"
TIME_ZONE: Final = "UTC"
COLOR_SCHEME: Final = "light"
REDUCED_MOTION: Final = "reduce"
FORCED_COLORS: Final = "none"
FONTS: Final = {
    "standard": "Times New Roman",
    "fixed": "Monospace",
    "serif": "Times New Roman",
    "sansSerif": "Arial",
    "cursive": "Comic Sans MS",
    "fantasy": "Impact",
}
"""What CSS's generic families are on Linux; fontconfig says which fonts of the machine that means."""
SCREENSHOT_MAX_HEIGHT: Final = 8_000
"""CSS px; a page of 400,000 px breaks full-page screenshots."""

MAX_HTML_BYTES: Final = 5_000_000
MAX_ELEMENTS: Final = 50_000
"""Past either limit a page is `too-large`; start tags in its source count as elements."""

MAX_ERRORS: Final = 50
"""Errors, console errors and blocked URLs that are kept per page."""
MAX_EVENTS: Final = 500
"""Requests, console messages, errors, navigations or windows of one page; past it the page is `too-large`."""
MAX_TEXT: Final = 200_000
"""Characters of visible text that are kept per page."""

CLOCK: Final = "2025-01-15T12:00:00Z"
"""What a page reads as the time of its loading; from there the clock goes on."""


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """One page to measure. `key` names it in the result."""

    key: str
    html: str
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest waits in seconds; they bound a page at under 10 s."""

    load: float = 3.0
    settle: float = 0.3
    measure: float = 2.0
    screenshot: float = 2.0
    axe: float = 4.0
    page: float = 7.0
    """The whole visit without the task checks."""
    all: float = 9.0
    """The visit in a shared process and the one after it, where that was not enough."""
    check_action: float = 1.0
    """One action or one expectation of a task check."""
    checks: float = 15.0
    """All task checks of a page together."""
    close: float = 1.5
    """Closing a page's context; past it the browser is killed."""
    launch: float = 30.0
    shared: float = 2.5
    """The whole visit in a shared process; past it the page is measured anew in a process of its own."""
    shared_axe: float = 2.0
    """Axe in a shared process, after that."""
    shared_checks: float = 2.0
    """The task checks that only read, in a shared process, after that."""


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """How pages are measured."""

    axe: bool = True
    screenshots: bool = True
    twice: bool = False
    """Render each page a second time and compare pixels and DOM: sets `Rendering.stable`."""
    workers: int | None = None
    """Browsers at work at once; None sizes it to the machine."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    renderer_memory: int = 800
    """MiB that one page's process may hold before it is killed."""
    browser_memory: int = 3_000
    """MiB that one browser with all its processes may hold before it is killed."""
    heap_memory: int = 256
    """MiB of JavaScript heap per page."""
    shared_process: bool = True
    """Let pages share a process one after the other, see `harness.render.shared_process`."""
    pages_per_process: int = 50
    """A shared process is replaced after so many pages."""
    pages_per_browser: int = 150
    """A browser is replaced after so many pages."""
    namespace: bool = True
    """Run the browser in its own network namespace where the kernel allows it."""

    def key(self) -> dict[str, object]:
        """Return what can change a measured value: not the concurrency, nor where a page's process comes from."""
        values = asdict(self)
        for name in ("workers", "shared_process", "pages_per_process", "pages_per_browser", "namespace"):
            del values[name]
        return values


def worker_count(settings: RenderSettings) -> int:
    """Return how many browsers work at once: as asked, else one more than the usable cores, at most 9.

    The one more fills the time in which a page waits for its frame and computes nothing.
    """
    if settings.workers is not None:
        return max(1, settings.workers)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    return min(8, cores) + 1
