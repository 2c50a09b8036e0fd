"""One page, from its loading to its measured `Rendering`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.render import pixels
from harness.render.checks import CheckRunner, failed_checks
from harness.render.outcome import Facts, judge
from harness.render.settings import (
    CLOCK,
    DESKTOP_WIDTH,
    MAX_ELEMENTS,
    MAX_HTML_BYTES,
    MAX_TEXT,
    PHONE_WIDTH,
    SCREENSHOT_MAX_HEIGHT,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.render.witness import Witness
from harness.types import CheckResult, Rendering

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, CDPSession, Page

T = TypeVar("T")
_FOLDER = Path(__file__).parent


class Stalled(Exception):
    """A page did not answer in time; the message says during what."""


class BrowserGone(Exception):
    """The browser died or does not answer: never the page's outcome by itself."""


@functools.cache
def _script(name: str) -> str:
    text = (_FOLDER / name).read_text(encoding="utf-8")
    started = int(datetime.fromisoformat(CLOCK).timestamp() * 1000)
    return (
        text.replace("guard(START);", f"guard({started});").replace("${START}", str(started))
        if name == "guard.js"
        else text
    )


@functools.cache
def _axe() -> str:
    return (_FOLDER / "vendor" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def origin(request: RenderRequest) -> str:
    """Return the URL at which the page is served: one host per key, which no resolver knows."""
    name = re.sub(r"[^a-z0-9]+", "-", request.key.lower()).strip("-")[:30]
    digest = hashlib.sha256(request.key.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"https://{name or 'page'}-{digest}.test/"


class Visit:
    """Opens one page in a context of its own, measures it, and runs its task checks."""

    def __init__(
        self, browser: Browser, request: RenderRequest, settings: RenderSettings, kill: Callable[[], None]
    ) -> None:
        self._browser = browser
        self._kill = kill
        self._request = request
        self._settings = settings
        self._limits = settings.deadlines
        self._context: BrowserContext | None = None
        self._witness = Witness(origin(request), request.html, kill)
        self._facts = Facts()
        self._parts: dict[str, Any] = {}
        self._page_now: Page | None = None
        self._cdp: CDPSession | None = None
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
        if len(self._request.html) > MAX_HTML_BYTES:
            self._facts.too_large = f"{len(self._request.html)} characters"
            return await self._rendering(started)
        try:
            async with asyncio.timeout(self._limits.page):
                await self._measure()
        except TimeoutError:
            self._facts.timeout = self._facts.timeout or f"no end within {self._limits.page:g} s"
        except Stalled as stalled:
            self._facts.timeout = str(stalled)
        rendering = await self._rendering(started)
        if self._request.checks:
            if rendering.outcome in ("crash", "timeout", "too-large"):
                checks = failed_checks(self._request.checks, f"the page's outcome is {rendering.outcome}")
            else:
                checks = await self._check(reuse=rendering.outcome not in ("navigated-away", "unscored"))
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

    async def _open(self) -> Page:
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
        await self._own(self._witness.attach(context), "routing")
        page = await self._own(context.new_page(), "opening a page")
        self._witness.watch(page)
        cdp = await self._own(context.new_cdp_session(page), "opening a session")
        # Scripts see one clock; it is set before any script of any document.
        await self._own(page.add_init_script(_script("guard.js")), "preparing the page")
        self._page_now, self._cdp = page, cdp
        return page

    async def _own(self, step: Awaitable[T], what: str) -> T:
        """Await a step that concerns the browser, not yet the page."""
        try:
            return await asyncio.wait_for(step, self._limits.launch)
        except Exception as error:
            raise BrowserGone(f"{what}: {_first_line(error)}") from error

    async def _measure(self) -> None:
        page = await self._open()
        cdp = self._cdp
        assert cdp is not None
        with contextlib.suppress(_Ended, _Destroyed):
            await self._load(page)
            room, measured = await self._ready(cdp)
            self._parts["desktop"] = measured
            if measured["elements"] > MAX_ELEMENTS:
                self._facts.too_large = f"{measured['elements']} elements"
                return
            if self._settings.screenshots:
                await self._shoot(cdp, "desktop", DESKTOP_WIDTH, measured["height"])
            if self._settings.axe:
                await self._accessibility(cdp, room)
            await self._page(self._resize(cdp, PHONE_WIDTH), self._limits.measure, "resizing")
            phone = await self._evaluate(cdp, room, "geometry", self._limits.measure, "measuring")
            self._parts["phone"] = phone
            if self._settings.screenshots:
                await self._shoot(cdp, "phone", PHONE_WIDTH, phone["height"])

    async def _load(self, page: Page) -> None:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        try:
            async with asyncio.timeout(self._limits.load):
                await page.goto(self._witness.url, wait_until="commit", timeout=self._limits.load * 1000)
        except (PlaywrightTimeout, TimeoutError):
            raise Stalled(f"no document within {self._limits.load:g} s") from None
        except Exception as error:
            self._ended(error)

    async def _ready(self, cdp: CDPSession) -> tuple[int, dict[str, Any]]:
        """Wait until the document is loaded and settled; return the isolated world and what was measured there.

        A page that writes or navigates itself anew destroys the world; then the new document is waited for.
        """
        end = time.monotonic() + self._limits.load
        for last in (False, False, False, True):
            try:
                room = await self._page(self._world(cdp), self._limits.load, "loading")
                await self._evaluate(cdp, room, "ready", max(0.1, end - time.monotonic()), "loading")
                return room, await self._evaluate(cdp, room, "settle", self._limits.measure, "measuring")
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
        except Exception as error:
            self._ended(error)
            raise AssertionError("unreachable") from error

    def _ended(self, error: Exception) -> None:
        """Say what an error of the browser means: the page crashed, went away, or the browser is gone."""
        if self._witness.crashed or "crash" in str(error).lower():
            self._facts.crash = "its process ended"
            raise _Ended from None
        if self._witness.flood:
            self._facts.too_large = self._witness.flood
            raise _Ended from None
        if not self._browser.is_connected():
            raise BrowserGone(_first_line(error)) from error
        if "context" in str(error) or "navigat" in str(error) or "world" in str(error):
            raise _Destroyed from None
        raise BrowserGone(_first_line(error)) from error

    async def _world(self, cdp: CDPSession) -> int:
        tree = await cdp.send("Page.getFrameTree")
        made = await cdp.send(
            "Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "measure"}
        )
        return int(made["executionContextId"])

    async def _evaluate(self, cdp: CDPSession, room: int, part: str, limit: float, what: str) -> dict[str, Any]:
        limits = {
            "settle": int(self._limits.settle * 1000),
            "elements": MAX_ELEMENTS,
            "text": MAX_TEXT,
            "texts": 5_000,
        }
        said = await self._page(
            cdp.send(
                "Runtime.evaluate",
                {
                    "expression": f"({_script('measure.js').strip()})({json.dumps(part)}, {json.dumps(limits)})",
                    "contextId": room,
                    "awaitPromise": True,
                    "returnByValue": True,
                },
            ),
            limit,
            what,
        )
        value = said.get("result", {}).get("value")
        if isinstance(value, dict):
            self._facts.final_url = str(value.get("url", ""))
        else:
            raise Stalled(f"the measuring failed: {_exception(said)}")
        return value

    async def _accessibility(self, cdp: CDPSession, room: int) -> None:
        expression = f"{_axe()}\n;{_script('axe_run.js')}"
        said = await self._page(
            cdp.send(
                "Runtime.evaluate",
                {"expression": expression, "contextId": room, "awaitPromise": True, "returnByValue": True},
            ),
            self._limits.axe,
            "checking accessibility",
        )
        value = said.get("result", {}).get("value")
        if isinstance(value, list):
            self._parts["accessibility"] = tuple(value)
        else:
            self._parts["axe_failed"] = _exception(said)

    async def _resize(self, cdp: CDPSession, width: int) -> None:
        await cdp.send(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": VIEWPORT_HEIGHT, "deviceScaleFactor": 1, "mobile": False},
        )

    async def _shoot(self, cdp: CDPSession, name: str, width: int, content_height: int) -> None:
        height = max(VIEWPORT_HEIGHT, min(content_height, SCREENSHOT_MAX_HEIGHT))
        options: dict[str, Any] = {"format": "png", "optimizeForSpeed": True}
        if height > VIEWPORT_HEIGHT:
            options["captureBeyondViewport"] = True
            options["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        said = await self._page(self._capture(cdp, options), self._limits.screenshot, "taking a screenshot")
        # The browser goes on with the page while a thread reads the picture.
        self._pictures[name] = asyncio.create_task(asyncio.to_thread(pixels.read, said["data"], VIEWPORT_HEIGHT))

    async def _capture(self, cdp: CDPSession, options: Mapping[str, Any]) -> dict[str, Any]:
        from playwright.async_api import Error

        # "Unable to capture screenshot" comes when the compositor has no frame yet; the next try has one.
        for pause in (0.02, 0.1, 0.3):
            try:
                return await cdp.send("Page.captureScreenshot", dict(options))
            except Error as error:
                if "Unable to capture" not in str(error):
                    raise
                await asyncio.sleep(pause)
        return await cdp.send("Page.captureScreenshot", dict(options))

    async def _check(self, reuse: bool) -> tuple[CheckResult, ...]:
        page = self._page_now if reuse else None
        if page is not None and self._cdp is not None:
            try:
                await self._page(self._resize(self._cdp, DESKTOP_WIDTH), self._limits.measure, "resizing")
            except (Stalled, _Ended, _Destroyed):
                page = None
        return await CheckRunner(page, self._fresh, self._limits).run(self._request.checks)

    async def _fresh(self) -> Page:
        """Open the document anew in a new context: no state is left of what was there before."""
        await self.close()
        self._witness = Witness(self._witness.url, self._request.html, self._kill)
        page = await self._open()
        with contextlib.suppress(_Ended, _Destroyed, Stalled):
            await self._load(page)
            assert self._cdp is not None
            await self._ready(self._cdp)
        return page

    async def _rendering(self, started: float) -> Rendering:
        witness, desktop = self._witness, self._parts.get("desktop", {})
        facts = self._facts
        facts.crash = facts.crash or ("its process ended" if witness.crashed else "")
        facts.left_for = witness.left_for
        if not facts.left_for and facts.final_url and not facts.final_url.startswith(witness.url):
            facts.left_for = facts.final_url[:200]
        text = " ".join(desktop.get("text", "").split())
        pictures = {name: await task for name, task in self._pictures.items()}
        painted = pictures["desktop"].painted_share if "desktop" in pictures else None
        facts.errors, facts.blocked, facts.code_blocked = witness.errors, witness.blocked, witness.code_blocked
        facts.text, facts.painted = text, painted
        facts.measured = bool(desktop)
        outcome, detail = judge(facts)
        overflow = {
            str(width): int(self._parts[name]["overflow"])
            for name, width in (("desktop", DESKTOP_WIDTH), ("phone", PHONE_WIDTH))
            if name in self._parts
        }
        return Rendering(
            outcome=outcome,
            detail=detail or self._parts.get("axe_failed", ""),
            seconds=time.perf_counter() - started,
            visible_text=text,
            visible_characters=len(text),
            painted_share=painted,
            errors=tuple(witness.errors),
            console_errors=tuple(witness.console_errors),
            blocked=tuple(witness.blocked),
            overflow=overflow,
            text_faults={k: int(v) for k, v in desktop.get("faults", {}).items()},
            accessibility=self._parts.get("accessibility"),
            dom_hash=hashlib.sha256(desktop["html"].encode("utf-8", "replace")).hexdigest()
            if "html" in desktop
            else "",
            screenshots={name: picture.file for name, picture in pictures.items()},
        )


class _Ended(Exception):
    """The page ended by itself; the facts say how."""


class _Destroyed(Exception):
    """The document in which something was measured is gone."""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _exception(said: Mapping[str, Any]) -> str:
    details = said.get("exceptionDetails", {})
    text = details.get("exception", {}).get("description") or details.get("text") or "no value"
    return str(text).splitlines()[0][:200]
