"""How a page is measured, whatever drives the browser: at the desktop's width, at the phone's, then by axe."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from harness.render import pixels
from harness.render.heard import Heard
from harness.render.measurements import Measured, MeasureFailed, PageMeasurer
from harness.render.outcome import Facts, classify_outcome
from harness.render.settings import (
    DESKTOP_WIDTH,
    MAX_ELEMENTS,
    PHONE_WIDTH,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.types import Block, Rendering, Violation

T = TypeVar("T")


class Stalled(Exception):
    """A page did not answer in time; the message says during what."""


class TooLarge(Exception):
    """More than anyone measures, which is no matter of time or of neighbours; the message says of what."""


class Tab(Protocol):
    """One page in a browser. Its driver opens it, serves its document, and says by exceptions why that ended early."""

    heard: Heard

    @property
    def measurer(self) -> PageMeasurer:
        """What asks the page, once it is open."""
        ...

    async def load(self) -> Measured:
        """Load the document and return what `measure.js` found when it had settled."""
        ...


async def answer(step: Awaitable[T], limit: float, what: str) -> T:
    """Await a step that the page has to answer within `limit` seconds.

    Raises:
        Stalled: it did not, or it failed while measuring.
    """
    try:
        async with asyncio.timeout(limit):
            return await step
    except TimeoutError:
        raise Stalled(f"no answer within {limit:g} s while {what}") from None
    except MeasureFailed as failed:
        raise Stalled(f"{what} failed: {failed}") from None


class Visit:
    """What is measured of one page, and the `Rendering` that is made of it."""

    def __init__(self, request: RenderRequest, settings: RenderSettings) -> None:
        self.facts = Facts(html=request.html)
        self.parts: dict[str, Measured] = {}
        """The results of `measure.js` by screen."""
        self._violations: tuple[Violation, ...] | None = None
        self.axe_failed = ""
        self._settings = settings
        self._started = time.perf_counter()
        self._pictures: dict[str, asyncio.Task[pixels.Picture]] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the visit began."""
        return time.perf_counter() - self._started

    async def measure(self, tab: Tab) -> None:
        """Load the page and measure all but its accessibility.

        Raises:
            TooLarge: it has too many elements.
            Stalled: it did not answer in time.
        """
        limit = self._settings.deadlines.measure
        self.parts["desktop"] = measured = await tab.load()
        if measured["elements"] > MAX_ELEMENTS:
            raise TooLarge(f"{measured['elements']} elements")
        await self._shoot(tab, "desktop", DESKTOP_WIDTH)
        await answer(tab.measurer.resize(PHONE_WIDTH), limit, "resizing")
        self.parts["phone"] = await answer(tab.measurer.measure("geometry"), limit, "measuring")
        await self._shoot(tab, "phone", PHONE_WIDTH)

    async def accessibility(self, tab: Tab) -> None:
        """Run axe, last of all: where it takes too long or fails, only its own result is missing.

        Raises:
            Stalled: the page did not answer before axe began.
        """
        limits = self._settings.deadlines
        await answer(tab.measurer.restore(), limits.measure, "resizing")
        try:
            async with asyncio.timeout(limits.axe):
                self._violations = await tab.measurer.accessibility()
        except TimeoutError:
            self.axe_failed = f"accessibility not measured: no answer within {limits.axe:g} s"
        except MeasureFailed as failed:
            self.axe_failed = f"accessibility not measured: {failed}"

    async def _shoot(self, tab: Tab, name: str, width: int) -> None:
        if not self._settings.screenshots:
            return
        picture = tab.measurer.shoot(width, self.parts[name]["height"])
        encoded = await answer(picture, self._settings.deadlines.screenshot, "taking a screenshot")
        # The browser goes on with the page while a thread reads the picture.
        self._pictures[name] = asyncio.create_task(asyncio.to_thread(pixels.read, encoded, VIEWPORT_HEIGHT))

    async def rendering(self, heard: Heard, url: str) -> Rendering:
        """Return what was measured of the page that was served at `url`."""
        pictures = {name: await task for name, task in self._pictures.items()}
        facts, parts, desktop = self.facts, self.parts, self.parts.get("desktop", Measured())
        last = str(parts.get("phone", desktop).get("url", url))
        facts.left_for = heard.left_for or ("" if last.startswith(url) else last[:200]) or facts.left_for
        facts.errors, facts.refused = heard.errors, heard.refused
        facts.text = " ".join(desktop.get("text", "").split())
        facts.painted = pictures["desktop"].drawn if "desktop" in pictures else None
        facts.measured = bool(desktop)
        outcome, detail = classify_outcome(facts)
        return Rendering(
            outcome=outcome,
            detail=detail or self.axe_failed,
            visible_text=facts.text,
            visible_characters=len(facts.text),
            painted_share=pictures["desktop"].painted_share if "desktop" in pictures else None,
            errors=tuple(error.text for error in heard.errors),
            console_errors=tuple(heard.console_errors),
            blocked=tuple(heard.blocked),
            overflow={
                str(width): int(parts[name]["overflow"])
                for name, width in (("desktop", DESKTOP_WIDTH), ("phone", PHONE_WIDTH))
                if name in parts
            },
            text_faults={name: int(count) for name, count in desktop.get("faults", {}).items()},
            accessibility=self._violations,
            dom_hash=_sha256(desktop["html"]) if "html" in desktop else "",
            screenshots={name: picture.file for name, picture in pictures.items()},
            blocks=tuple(Block(*block) for block in desktop["blocks"]) if "blocks" in desktop else None,
            seconds=self.seconds,
        )

    def end(self) -> None:
        """Wait for no more pictures."""
        for task in self._pictures.values():
            task.cancel()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
