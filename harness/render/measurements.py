"""What is asked of a loaded page over the DevTools protocol: measures, accessibility, screenshots.

All scripts run in an isolated world, where the page's own scripts can't reach. Errors and deadlines are the caller's.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypedDict, cast

from pydantic import JsonValue

from harness.render.devtools import Told
from harness.render.settings import (
    CLOCK,
    DESKTOP_WIDTH,
    FONTS,
    MAX_ELEMENTS,
    MAX_TEXT,
    SCREENSHOT_MAX_HEIGHT,
    VIEWPORT_HEIGHT,
    Deadlines,
)
from harness.types import BlockKind, Violation

_FOLDER = Path(__file__).parent
_MAX_TEXT_NODES = 5_000
_MAX_BLOCKS = 1_000
_MAX_BLOCK_TEXT = 500


class MeasureFailed(Exception):
    """A measuring script ended without a value; the message says why."""


@functools.cache
def script(name: str) -> str:
    """Return one of the scripts beside this module, with the clock set."""
    text = (_FOLDER / name).read_text(encoding="utf-8").strip()
    started = str(int(datetime.fromisoformat(CLOCK).timestamp() * 1000))
    return text.replace("guard(START);", f"guard({started});").replace("${START}", started)


@functools.cache
def _axe() -> str:
    return script("vendor/axe-core/axe.min.js") + "\n;" + script("axe_run.js")


class Measured(TypedDict, total=False):
    """What `measure.js` returns: of a page whose sizes alone are asked for, or that is too large, a part of it."""

    url: str
    overflow: int
    height: int
    elements: int
    text: str
    faults: dict[str, int]
    html: str
    blocks: list[tuple[BlockKind, str, float, float, float, float]]


class Talks(Protocol):
    """A DevTools session, Playwright's or our own."""

    def send(self, method: str, params: Mapping[str, object] | None = None, /) -> Awaitable[Told]:
        """Send a command and return its answer."""
        ...


class PageMeasurer:
    """Measures the page behind one DevTools session."""

    def __init__(self, cdp: Talks, limits: Deadlines) -> None:
        self._cdp = cdp
        self._world: int | None = None
        self._limits = json.dumps(
            {
                "settle": int(limits.settle * 1000),
                "elements": MAX_ELEMENTS,
                "text": MAX_TEXT,
                "texts": _MAX_TEXT_NODES,
                "blocks": _MAX_BLOCKS,
                "blockText": _MAX_BLOCK_TEXT,
            }
        )

    async def set_fonts(self) -> None:
        """Say what the generic font families are, before the page is opened."""
        if sys.platform == "linux":
            await self._cdp.send("Page.setFontFamilies", {"fontFamilies": FONTS})

    async def enter(self, frame: str | None = None) -> None:
        """Make an isolated world in the present document; another document needs another one.

        `frame` is the main frame's id, where the caller knows it.
        """
        if frame is None:
            tree = await self._cdp.send("Page.getFrameTree")
            frame = str(tree["frameTree"]["frame"]["id"])
        made = await self._cdp.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "measure"})
        self._world = int(made["executionContextId"])

    async def measure(self, part: str) -> Measured:
        """Return what `measure.js` finds: `ready` waits for the load, `settle` measures all, `whole` does both.

        `still` waits like `settle` and measures sizes only, `geometry` does not wait. All end what is animated first.

        Raises:
            MeasureFailed: the script ended without a value.
        """
        value = await self.evaluate(f"({script('measure.js')})({json.dumps(part)}, {self._limits})")
        if not isinstance(value, dict):
            raise MeasureFailed(f"{part} gave {type(value).__name__}")
        return cast(Measured, value)

    async def accessibility(self) -> tuple[Violation, ...]:
        """Return axe-core's violations of WCAG 2.0 and 2.1 A and AA.

        Raises:
            MeasureFailed: axe ended with an error.
        """
        value = await self.evaluate(_axe())
        if not isinstance(value, list):
            raise MeasureFailed(f"axe gave {type(value).__name__}")
        return tuple(cast(list[Violation], value))

    async def resize(self, width: int) -> None:
        """Set the viewport's width in CSS px."""
        window = {"width": width, "height": VIEWPORT_HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        screen = {"screenWidth": width, "screenHeight": VIEWPORT_HEIGHT}
        await self._cdp.send("Emulation.setDeviceMetricsOverride", window | screen)

    async def restore(self) -> None:
        """Set the desktop's width again, and end the transitions that this begins.

        Raises:
            MeasureFailed: the script ended without a value.
        """
        await self.resize(DESKTOP_WIDTH)
        await self.measure("geometry")

    async def shoot(self, width: int, content_height: int) -> str:
        """Return a picture of the whole page, down to 8,000 px, as a base64 PNG."""
        height = max(VIEWPORT_HEIGHT, min(content_height, SCREENSHOT_MAX_HEIGHT))
        options: dict[str, object] = {"format": "png", "optimizeForSpeed": True}
        if height > VIEWPORT_HEIGHT:
            options["captureBeyondViewport"] = True
            options["clip"] = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        # "Unable to capture screenshot" comes when the compositor has no frame yet; the next try has one.
        for pause in (0.02, 0.1, 0.3):
            try:
                return str((await self._cdp.send("Page.captureScreenshot", options))["data"])
            except Exception as error:
                if "Unable to capture" not in str(error):
                    raise
                await asyncio.sleep(pause)
        return str((await self._cdp.send("Page.captureScreenshot", options))["data"])

    async def evaluate(self, expression: str) -> JsonValue:
        """Return the value of an expression in the isolated world.

        Raises:
            MeasureFailed: it ended with an exception; the message is the first line of that.
        """
        here = {"expression": expression, "contextId": self._world, "awaitPromise": True, "returnByValue": True}
        return _value(await self._cdp.send("Runtime.evaluate", here))

    async def ask(self, element: str, function: str, argument: str) -> JsonValue:
        """Return what a function says in the page's own world, with an element of the isolated one as its `this`.

        Raises:
            MeasureFailed: it ended with an exception, or there is no such element.
        """
        send = self._cdp.send
        found = await send("Runtime.evaluate", {"expression": element, "contextId": self._world})
        if "objectId" not in found.get("result", {}):
            raise MeasureFailed(f"{element} is no element")
        node = (await send("DOM.describeNode", {"objectId": found["result"]["objectId"]}))["node"]
        own = (await send("DOM.resolveNode", {"backendNodeId": node["backendNodeId"]}))["object"]
        call = {"functionDeclaration": function, "arguments": [{"value": argument}], "returnByValue": True}
        return _value(await send("Runtime.callFunctionOn", call | {"objectId": own["objectId"]}))


def _value(said: Told) -> JsonValue:
    if "exceptionDetails" in said:
        details = said["exceptionDetails"]
        thrown = details.get("exception")
        text = str((thrown and thrown.get("description")) or details.get("text", "an exception"))
        raise MeasureFailed(text.splitlines()[0][:200])
    return said["result"].get("value") if "result" in said else None
