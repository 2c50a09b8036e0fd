"""One page, from its loading to its measured `Rendering`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from harness.render import pixels
from harness.render.assemble import assemble
from harness.render.checks import CheckRunner, failed_checks
from harness.render.measurements import MeasureFailed, PageMeasurer, script
from harness.render.outcome import Facts, oversize
from harness.render.page_events import PageEventRecorder, origin
from harness.render.settings import (
    DESKTOP_WIDTH,
    MAX_ELEMENTS,
    PHONE_WIDTH,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.types import CheckResult, Rendering

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

T = TypeVar("T")


class Stalled(Exception):
    """A page did not answer in time; the message says during what."""


class BrowserGone(Exception):
    """The browser died or does not answer: never the page's outcome by itself."""


class IsolatedPage:
    """Opens one page in a context of its own, measures it, and runs its task checks."""

    def __init__(
        self,
        browser: Browser,
        request: RenderRequest,
        settings: RenderSettings,
        kill: Callable[[], None],
        patience: float | None = None,
    ) -> None:
        """`patience` in seconds takes the place of `Deadlines.page` where some of that is spent already."""
        self._browser = browser
        self._kill = kill
        self._request = request
        self._settings = settings
        self._limits = settings.deadlines
        self._patience = settings.deadlines.page if patience is None else patience
        self._context: BrowserContext | None = None
        self._events = PageEventRecorder(origin(request), request.html, kill)
        self._facts = Facts()
        self._parts: dict[str, Any] = {}
        self._axe_failed = ""
        self._now: tuple[Page, PageMeasurer] | None = None
        self._pictures: dict[str, asyncio.Task[pixels.Picture]] = {}

    async def run(self) -> Rendering:
        """Return what was measured; whatever the page does, this ends within the deadlines.

        Raises:
            BrowserGone: the browser died under the page.
        """
        try:
            return await self._run()
        finally:
            for task in self._pictures.values():
                task.cancel()

    async def _run(self) -> Rendering:
        started = time.perf_counter()
        self._facts.too_large = oversize(self._request.html)
        if self._facts.too_large:
            return await self._rendering(started)
        page, measurer = await self._open()
        try:
            async with asyncio.timeout(self._patience):
                await self._measure(page, measurer)
        except TimeoutError:
            if "phone" in self._parts:
                self._axe_failed = "accessibility not measured: no time was left"
            else:
                self._facts.timeout = f"no end within {self._patience:.3g} s"
        except Stalled as stalled:
            self._facts.timeout = str(stalled)
        rendering = await self._rendering(started)
        if self._request.checks:
            if rendering.outcome in ("crash", "timeout", "too-large"):
                checks = failed_checks(self._request.checks, f"the page's outcome is {rendering.outcome}")
            else:
                checks = await self._check(
                    reuse=rendering.outcome not in ("navigated-away", "unscored") and not self._axe_failed
                )
            rendering = replace(rendering, checks=checks)
        return replace(rendering, seconds=time.perf_counter() - started)

    async def close(self) -> None:
        """Close the context, which kills the page's process even where it hangs.

        Raises:
            BrowserGone: the browser did not close it in time.
        """
        context, self._context = self._context, None
        if context is None:
            return
        try:
            await asyncio.wait_for(context.close(), self._limits.close)
        except Exception as error:
            raise BrowserGone(f"closing the page: {_first_line(error)}") from error

    async def _open(self) -> tuple[Page, PageMeasurer]:
        context = await self._own(
            self._browser.new_context(
                viewport={"width": DESKTOP_WIDTH, "height": VIEWPORT_HEIGHT},
                device_scale_factor=1,
                locale="en-US",
                timezone_id="UTC",
                color_scheme="light",
                reduced_motion="reduce",
                forced_colors="none",
                service_workers="block",
                offline=True,
                accept_downloads=False,
                permissions=[],
            ),
            "opening a context",
        )
        self._context = context
        await self._own(self._events.attach(context), "routing")
        page = await self._own(context.new_page(), "opening a page")
        self._events.watch(page)
        cdp = await self._own(context.new_cdp_session(page), "opening a session")
        # Scripts see one clock; it is set before any script of any document.
        await self._own(page.add_init_script(script("guard.js")), "preparing the page")
        self._now = page, PageMeasurer(cdp, self._limits)
        return self._now

    async def _own(self, step: Awaitable[T], what: str) -> T:
        """Await a step that concerns the browser, not yet the page."""
        try:
            return await asyncio.wait_for(step, self._limits.launch)
        except Exception as error:
            raise BrowserGone(f"{what}: {_first_line(error)}") from error

    async def _measure(self, page: Page, measurer: PageMeasurer) -> None:
        limits = self._limits
        try:
            await self._load(page)
            self._parts["desktop"] = measured = await self._ready(measurer)
            if measured["elements"] > MAX_ELEMENTS:
                self._facts.too_large = f"{measured['elements']} elements"
                return
            await self._shoot(measurer, "desktop", DESKTOP_WIDTH)
            await self._page(measurer.resize(PHONE_WIDTH), limits.measure, "resizing")
            self._parts["phone"] = await self._page(measurer.measure("geometry"), limits.measure, "measuring")
            await self._shoot(measurer, "phone", PHONE_WIDTH)
            if self._settings.axe:
                await self._accessibility(measurer)
        except _Destroyed:
            self._facts.left_for = "another document"
        except _Ended:
            pass

    async def _accessibility(self, measurer: PageMeasurer) -> None:
        """Run axe, last of all: where it takes too long or fails, only its own result is missing."""
        await self._page(measurer.resize(DESKTOP_WIDTH), self._limits.measure, "resizing")
        try:
            async with asyncio.timeout(self._limits.axe):
                self._parts["accessibility"] = await measurer.accessibility()
        except TimeoutError:
            self._axe_failed = f"accessibility not measured: no answer within {self._limits.axe:g} s"
        except MeasureFailed as failed:
            self._axe_failed = f"accessibility not measured: {failed}"
        except Exception as error:
            self._ended(error)

    async def _load(self, page: Page) -> None:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        try:
            async with asyncio.timeout(self._limits.load):
                await page.goto(self._events.url, wait_until="commit", timeout=self._limits.load * 1000)
        except (PlaywrightTimeout, TimeoutError):
            raise Stalled(f"no document within {self._limits.load:g} s") from None
        except Exception as error:
            self._ended(error)

    async def _ready(self, measurer: PageMeasurer) -> dict[str, Any]:
        """Wait until the document is loaded and settled, and return what was measured then.

        A page that writes or navigates itself anew destroys the isolated world; then the new document is waited for.
        """
        end = time.monotonic() + self._limits.load
        for last in (False, False, False, True):
            try:
                await self._page(measurer.enter(), self._limits.load, "loading")
                await self._page(measurer.measure("ready"), max(0.1, end - time.monotonic()), "loading")
                return await self._page(measurer.measure("settle"), self._limits.measure, "measuring")
            except _Destroyed:
                if last or time.monotonic() > end:
                    raise Stalled("its document is replaced again and again") from None
        raise AssertionError("unreachable")

    async def _page(self, step: Awaitable[T], limit: float, what: str) -> T:
        """Await a step that the page has to answer."""
        try:
            async with asyncio.timeout(limit):
                return await step
        except TimeoutError:
            raise Stalled(f"no answer within {limit:g} s while {what}") from None
        except MeasureFailed as failed:
            raise Stalled(f"{what} failed: {failed}") from None
        except Exception as error:
            self._ended(error)
            raise AssertionError("unreachable") from error

    def _ended(self, error: Exception) -> None:
        """Say what an error of the browser means: the page crashed, went away, or the browser is gone."""
        if self._events.crashed or "crash" in str(error).lower():
            self._facts.crash = "its process ended"
            raise _Ended from None
        if self._events.flood:
            self._facts.too_large = self._events.flood
            raise _Ended from None
        if not self._browser.is_connected():
            raise BrowserGone(_first_line(error)) from error
        if "context" in str(error) or "navigat" in str(error) or "world" in str(error):
            raise _Destroyed from None
        raise BrowserGone(_first_line(error)) from error

    async def _shoot(self, measurer: PageMeasurer, name: str, width: int) -> None:
        if not self._settings.screenshots:
            return
        picture = measurer.shoot(width, self._parts[name]["height"])
        encoded = await self._page(picture, self._limits.screenshot, "taking a screenshot")
        # The browser goes on with the page while a thread reads the picture.
        self._pictures[name] = asyncio.create_task(asyncio.to_thread(pixels.read, encoded, VIEWPORT_HEIGHT))

    async def _check(self, reuse: bool) -> tuple[CheckResult, ...]:
        page = None
        if reuse and self._now is not None:
            page, measurer = self._now
            try:
                await self._page(measurer.resize(DESKTOP_WIDTH), self._limits.measure, "resizing")
            except (Stalled, _Ended, _Destroyed):
                page = None
        return await CheckRunner(page, self._fresh, self._limits).run(self._request.checks)

    async def _fresh(self) -> Page:
        """Open the document anew in a new context: no state is left of what was there before."""
        await self.close()
        self._events = PageEventRecorder(self._events.url, self._request.html, self._kill)
        page, measurer = await self._open()
        with contextlib.suppress(_Ended, _Destroyed, Stalled):
            await self._load(page)
            await self._ready(measurer)
        return page

    async def _rendering(self, started: float) -> Rendering:
        events, facts = self._events, self._facts
        facts.crash = facts.crash or ("its process ended" if events.crashed else "")
        last = self._parts.get("phone", self._parts.get("desktop", {}))
        url = str(last.get("url", events.url))
        moved = "" if url.startswith(events.url) else url[:200]
        facts.left_for = events.left_for or moved or facts.left_for
        pictures = {name: await task for name, task in self._pictures.items()}
        rendering = assemble(events.heard, facts, self._request.html, self._parts, pictures, self._axe_failed)
        return replace(rendering, seconds=time.perf_counter() - started)


class _Ended(Exception):
    """The page ended by itself; the facts say how."""


class _Destroyed(Exception):
    """The document in which something was measured is gone."""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
