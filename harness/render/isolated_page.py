"""The careful way: one page in a browser context and a process of its own, driven by Playwright."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

from harness.checks.words import Check
from harness.render.checks import CheckRunner, never_checked
from harness.render.measurements import Measured, PageMeasurer, Talks, script
from harness.render.page_events import PageEventRecorder, origin
from harness.render.settings import (
    COLOR_SCHEME,
    DESKTOP_WIDTH,
    FORCED_COLORS,
    LOCALE,
    REDUCED_MOTION,
    TIME_ZONE,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.render.visit import Stalled, TooLarge, Visit, answer
from harness.types import CheckResult, Rendering

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

T = TypeVar("T")
NEVER_CHECKED = frozenset({"crash", "timeout", "too-large"})
"""Outcomes of pages whose task checks all fail, untried."""


class BrowserGone(Exception):
    """The browser died or does not answer: never the page's outcome by itself."""


class IsolatedPage:
    """Opens one page in a context of its own, has it measured, and runs its task checks."""

    def __init__(
        self,
        browser: Browser,
        request: RenderRequest,
        settings: RenderSettings,
        kill: Callable[[], None],
        patience: float,
    ) -> None:
        """`patience` is how many seconds are left for all but the task checks."""
        self._browser = browser
        self._kill = kill
        self._request = request
        self._settings = settings
        self._limits = settings.deadlines
        self._patience = patience
        self._context: BrowserContext | None = None
        self.ran_out_of_time = False
        """The page or one of its checks failed by a limit of time."""
        self._begin()

    def _begin(self) -> None:
        self._page: Page | None = None
        self._measurer: PageMeasurer | None = None
        self._events = PageEventRecorder(origin(self._request), self._request.html, self._kill)
        self.heard = self._events.heard

    @property
    def measurer(self) -> PageMeasurer:
        """What asks the page, once it is open."""
        assert self._measurer is not None
        return self._measurer

    async def run(self) -> Rendering:
        """Return what was measured; whatever the page does, this ends within the deadlines.

        Raises:
            BrowserGone: the browser died under the page.
        """
        visit = Visit(self._request, self._settings)
        try:
            await self._open()
            await self._measure(visit)
            rendering = await visit.rendering(self.heard, self._events.url)
        finally:
            visit.end()
        self.ran_out_of_time = rendering.outcome == "timeout"
        if not self._request.checks:
            return rendering
        if rendering.outcome in NEVER_CHECKED:
            return replace(never_checked(rendering, self._request.checks), seconds=visit.seconds)
        reuse = rendering.outcome not in ("navigated-away", "unscored") and not visit.axe_failed
        return replace(rendering, checks=await self._check(reuse), seconds=visit.seconds)

    async def act(self, measured: Rendering) -> Rendering:
        """Return a rendering with the results of the checks that act beside those that it has, of those that read.

        Raises:
            BrowserGone: the browser died under the page.
        """
        started = time.perf_counter()
        acting = [check for check in self._request.checks if check.acts]
        acted = iter(await self._run(None, acting))
        read = iter(measured.checks or ())
        checks = tuple(next(acted if check.acts else read) for check in self._request.checks)
        return replace(measured, checks=checks, seconds=measured.seconds + time.perf_counter() - started)

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

    async def load(self, part: str = "settle") -> Measured:
        """Load the document, and return what was measured when it had settled; `part` is one that settles.

        A page that writes or navigates itself anew destroys the isolated world; then the new document is waited for.

        Raises:
            Stalled: it was not there or did not answer in time.
        """
        assert self._page is not None
        limits = self._limits
        try:
            async with asyncio.timeout(limits.load):
                await self._page.goto(self._events.url, wait_until="commit", timeout=0)
        except TimeoutError:
            raise Stalled(f"no document within {limits.load:g} s") from None
        end = time.monotonic() + limits.load
        for last in (False, False, False, True):
            try:
                await answer(self.measurer.enter(), limits.load, "loading")
                await answer(self.measurer.measure("ready"), max(0.1, end - time.monotonic()), "loading")
                return await answer(self.measurer.measure(part), limits.measure, "measuring")
            except Stalled:
                raise
            except Exception as error:
                if not self._replaced(error):
                    raise
                if last or time.monotonic() > end:
                    raise Stalled("its document is replaced again and again") from None
        raise AssertionError("unreachable")

    async def _open(self) -> Page:
        context = await self._own(
            self._browser.new_context(
                viewport={"width": DESKTOP_WIDTH, "height": VIEWPORT_HEIGHT},
                device_scale_factor=1,
                locale=LOCALE,
                timezone_id=TIME_ZONE,
                color_scheme=COLOR_SCHEME,
                reduced_motion=REDUCED_MOTION,
                forced_colors=FORCED_COLORS,
                service_workers="block",
                offline=True,
                accept_downloads=False,
                permissions=[],
            ),
            "opening a context",
        )
        self._context = context
        await self._own(self._events.attach(context), "routing")
        self._page = page = await self._own(context.new_page(), "opening a page")
        self._events.watch(page)
        cdp = await self._own(context.new_cdp_session(page), "opening a session")
        self._measurer = PageMeasurer(cast(Talks, cdp), self._limits)
        await self._own(self.measurer.set_fonts(), "preparing the page")
        # Scripts see one clock; it is set before any script of any document.
        await self._own(page.add_init_script(script("guard.js")), "preparing the page")
        return page

    async def _own(self, step: Awaitable[T], what: str) -> T:
        """Await a step that concerns the browser, not yet the page."""
        try:
            return await asyncio.wait_for(step, self._limits.launch)
        except Exception as error:
            raise BrowserGone(f"{what}: {_first_line(error)}") from error

    async def _measure(self, visit: Visit) -> None:
        """Measure what can be measured, and record in the visit's facts why that ended early.

        Raises:
            BrowserGone: the browser is to blame.
        """
        facts = visit.facts
        try:
            async with asyncio.timeout(self._patience):
                await visit.measure(self)
                if self._settings.axe:
                    await visit.accessibility(self)
        except TimeoutError:
            if "phone" in visit.parts:
                visit.axe_failed = "accessibility not measured: no time was left"
            else:
                facts.timeout = f"no end within {self._patience:.3g} s"
        except Stalled as stalled:
            facts.timeout = str(stalled)
        except TooLarge as too_large:
            facts.too_large = str(too_large)
        except Exception as error:
            self._page_is_to_blame(error)
            if self._crashed(error):
                facts.crash = "its process ended"
            elif self.heard.flood:
                facts.too_large = self.heard.flood
            else:
                facts.left_for = "another document"
        if self._events.crashed:
            facts.crash = "its process ended"

    def _crashed(self, error: Exception) -> bool:
        return self._events.crashed or "crash" in str(error).lower()

    def _replaced(self, error: Exception) -> bool:
        """Whether an error of the browser means that the document in which something was measured is gone."""
        if self._crashed(error) or self.heard.flood or not self._browser.is_connected():
            return False
        return any(word in str(error) for word in ("context", "navigat", "world"))

    def _page_is_to_blame(self, error: Exception) -> None:
        """Return where the page itself ended a step.

        Raises:
            BrowserGone: the browser is to blame.
        """
        if not (isinstance(error, Stalled) or self._crashed(error) or self.heard.flood or self._replaced(error)):
            raise BrowserGone(_first_line(error)) from error
        self.ran_out_of_time |= isinstance(error, Stalled)

    async def _check(self, reuse: bool) -> tuple[CheckResult, ...]:
        page = self._page if reuse else None
        if page is not None:
            try:
                await answer(self.measurer.restore(), self._limits.measure, "resizing")
            except Exception as error:
                self._page_is_to_blame(error)
                page = None
        return await self._run(page, self._request.checks)

    async def _run(self, page: Page | None, checks: Sequence[Check]) -> tuple[CheckResult, ...]:
        runner = CheckRunner(page, self._fresh, self._limits)
        results = await runner.run(checks)
        self.ran_out_of_time |= runner.ran_out_of_time
        return results

    async def _fresh(self) -> Page:
        """Open the document anew in a new context: no state is left of what was there before."""
        await self.close()
        self._begin()
        page = await self._open()
        try:
            await self.load("still")
        except Exception as error:
            self._page_is_to_blame(error)
        return page


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
