"""Runs task checks on a loaded page. The vocabulary is that of `harness.metrics.checks`; nothing here waits long."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from harness.metrics.checks import LOCATORS, as_pattern, regex
from harness.render.settings import Deadlines
from harness.types import CheckResult

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

_POLL = 0.05
_ARIA_LIMIT = 0.3
_ACTIONS: Final = ("fill", "click", "press", "select")
_LEADING_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?|-?\.\d+)")


def failed_checks(checks: Sequence[Mapping[str, Any]], detail: str) -> tuple[CheckResult, ...]:
    """Return every check as failed: a page that could not be loaded does nothing that was asked."""
    return tuple(CheckResult(check["why"], check["level"], False, detail) for check in checks)


class CheckRunner:
    """Runs the checks of one page: those that only read share a page, those with steps get a fresh one each."""

    def __init__(self, page: Page | None, fresh: Callable[[], Awaitable[Page]], limits: Deadlines) -> None:
        self._page = page
        self._fresh = fresh
        self._limits = limits

    async def run(self, checks: Sequence[Mapping[str, Any]]) -> tuple[CheckResult, ...]:
        """Return one result for each check, in their order."""
        end = time.monotonic() + self._limits.checks
        results: dict[int, CheckResult] = {}
        # Reading first, so that one page serves all of it before any step changes something.
        for index in sorted(range(len(checks)), key=lambda i: "steps" in checks[i]):
            check = checks[index]
            if time.monotonic() > end:
                passed, detail = False, f"not reached within {self._limits.checks:g} s"
            else:
                passed, detail = await self._one(check)
            results[index] = CheckResult(check["why"], check["level"], passed, detail)
        return tuple(results[index] for index in range(len(checks)))

    async def _one(self, check: Mapping[str, Any]) -> tuple[bool, str]:
        if "steps" in check:
            self._page = await self._fresh()
            for number, step in enumerate(check["steps"], 1):
                ((kind, wanted),) = step.items()
                passed, detail = await self._guarded(kind, wanted, patience=self._limits.check_action)
                if not passed:
                    return False, f"step {number} ({kind}): {detail}"
            return True, ""
        if self._page is None:
            self._page = await self._fresh()
        kind = next(key for key in check if key not in ("why", "level"))
        return await self._guarded(kind, check[kind], patience=0.0)

    async def _guarded(self, kind: str, wanted: Any, patience: float) -> tuple[bool, str]:
        """Try for `patience` seconds until it holds; whatever the page does, answer soon after that."""
        from playwright.async_api import Error

        assert self._page is not None
        end = time.monotonic() + patience
        try:
            async with asyncio.timeout(self._limits.check_action + 0.5):
                if kind in _ACTIONS:
                    return await self._act(kind, wanted)
                while True:
                    passed, detail = await _holds(self._page, kind, wanted)
                    if passed or time.monotonic() >= end:
                        return passed, detail
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return False, "the page did not answer"
        except Error as error:
            return False, (str(error).strip().splitlines() or ["the browser refused it"])[0][:200]

    async def _act(self, kind: str, wanted: Mapping[str, Any]) -> tuple[bool, str]:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        assert self._page is not None
        locator = locate(self._page, wanted)
        # Missing things fail at once, after one search for what an earlier step still brings.
        for _ in range(4):
            if await locator.count():
                break
            await asyncio.sleep(_POLL)
        else:
            return False, f"nothing is there for {describe(wanted)}"
        first, limit = locator.first, self._limits.check_action * 1000
        try:
            if kind == "fill":
                await first.fill(str(wanted["value"]), timeout=limit)
            elif kind == "click":
                await first.click(timeout=limit, no_wait_after=True)
            elif kind == "press":
                await first.press(str(wanted["key"]), timeout=limit, no_wait_after=True)
            else:
                await first.select_option(str(wanted["value"]), timeout=limit)
        except PlaywrightTimeout:
            return False, f"{describe(wanted)} could not be used within {self._limits.check_action:g} s"
        return True, ""


def locate(page: Page, wanted: Mapping[str, Any]) -> Locator:
    """Return Playwright's locator for the words of a check."""
    kind = next(key for key in LOCATORS if key in wanted)
    options: dict[str, Any] = {"exact": wanted["exact"]} if "exact" in wanted else {}
    target = wanted[kind]
    locator: Locator
    if kind == "role":
        options |= {"name": as_pattern(wanted["name"])} if "name" in wanted else {}
        options |= {"level": wanted["level"]} if "level" in wanted else {}
        locator = page.get_by_role(target, **options)
    elif kind == "label":
        locator = page.get_by_label(as_pattern(target), **options)
    elif kind == "placeholder":
        locator = page.get_by_placeholder(as_pattern(target), **options)
    elif kind == "text":
        locator = page.get_by_text(as_pattern(target), **options)
    elif kind == "test_id":
        locator = page.get_by_test_id(target)
    else:
        locator = page.locator(f"css={target}")
    return locator.filter(has_text=as_pattern(wanted["has_text"])) if "has_text" in wanted else locator


def describe(wanted: Mapping[str, Any]) -> str:
    """Return the locator as a reader would say it."""
    words = (f"{key} {wanted[key]!r}" for key in (*LOCATORS, "name", "level", "has_text") if key in wanted)
    return ", ".join(words)


async def _holds(page: Page, kind: str, wanted: Any) -> tuple[bool, str]:
    if kind == "aria":
        return await _aria(page, wanted)
    locator = locate(page, wanted)
    if kind in ("see", "not_see"):
        visible = await locator.filter(visible=True).count()
        if (visible > 0) == (kind == "see"):
            return True, ""
        if kind == "not_see":
            return False, f"{describe(wanted)} is visible"
        found = await locator.count()
        return False, f"{describe(wanted)} is {'there but not visible' if found else 'not there'}"
    if kind == "count":
        return compare(await locator.count(), wanted)
    if not await locator.count():
        return False, f"nothing is there for {describe(wanted)}"
    first, limit = locator.first, 1000.0
    value: str | None
    if kind == "attribute":
        value = await first.get_attribute(wanted["attribute"], timeout=limit)
    elif kind == "style":
        value = await first.evaluate(
            "(element, name) => getComputedStyle(element).getPropertyValue(name)", wanted["property"], timeout=limit
        )
    elif kind == "value":
        value = await first.input_value(timeout=limit)
    else:
        raise ValueError(f"no such kind of check: {kind}")
    return compare(value, wanted)


async def _aria(page: Page, template: str) -> tuple[bool, str]:
    from playwright.async_api import expect

    try:
        await expect(page.locator("body")).to_match_aria_snapshot(template, timeout=_ARIA_LIMIT * 1000)
    except AssertionError:
        return False, "the page's accessibility tree does not hold the template"
    return True, ""


def compare(value: Any, wanted: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether `value` meets `is`, `matches`, `at_least`, `at_most` (or, without any, is there at all)."""
    if value is None:
        return False, "it is not there"
    text = str(value)
    if "is" in wanted and text != as_text(wanted["is"]):
        return False, f"it is {text[:100]!r}"
    if "matches" in wanted and regex(wanted["matches"]).search(text) is None:
        return False, f"it is {text[:100]!r}"
    for word, sign in (("at_least", 1), ("at_most", -1)):
        if word in wanted:
            number = _LEADING_NUMBER.match(text)
            if number is None or sign * float(number[1]) < sign * float(wanted[word]):
                return False, f"it is {text[:100]!r}"
    return True, ""


def as_text(value: Any) -> str:
    """Return a YAML scalar the way HTML writes it: YAML reads `true` and `false` as booleans."""
    return str(value).lower() if isinstance(value, bool) else str(value)
