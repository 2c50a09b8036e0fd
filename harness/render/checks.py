"""Runs task checks (`harness.checks`) on a loaded page; nothing here waits long."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.checks import words
from harness.checks.words import ACTIONS, LOCATORS, Check, Compared, Scalar, Step, as_pattern, regex
from harness.render.settings import Deadlines
from harness.types import CheckResult, Rendering

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

_POLL = 0.05
_ARIA_LIMIT = 0.3
_LEADING_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?|-?\.\d+)")


def never_checked(rendering: Rendering, checks: Sequence[Check]) -> Rendering:
    """Return a rendering whose outcome fails all of its checks, untried."""
    if not checks:
        return rendering
    detail = f"the page's outcome is {rendering.outcome}"
    return replace(rendering, checks=tuple(CheckResult(check.why, check.level, False, detail) for check in checks))


class CheckRunner:
    """Runs the checks of one page: those that only read share a page, those with steps get a fresh one each."""

    def __init__(self, page: Page | None, fresh: Callable[[], Awaitable[Page]], limits: Deadlines) -> None:
        self._page = page
        self._fresh = fresh
        self._limits = limits
        self.ran_out_of_time = False
        """A check failed by a limit of time: by the page's own doing only where the machine was quick."""

    async def run(self, checks: Sequence[Check]) -> tuple[CheckResult, ...]:
        """Return one result for each check, in their order."""
        end = time.monotonic() + self._limits.checks
        results: dict[int, CheckResult] = {}
        # Reading first, so that one page serves all of it before any step changes something.
        for index in sorted(range(len(checks)), key=lambda i: checks[i].acts):
            check = checks[index]
            if time.monotonic() > end:
                passed, detail = self._too_late(f"not reached within {self._limits.checks:g} s")
            else:
                passed, detail = await self._one(check)
            results[index] = CheckResult(check.why, check.level, passed, detail)
        return tuple(results[index] for index in range(len(checks)))

    async def _one(self, check: Check) -> tuple[bool, str]:
        if check.acts or self._page is None:
            self._page = await self._fresh()
        patience = self._limits.check_action if check.acts else 0.0
        for number, step in enumerate(check.steps, 1):
            passed, detail = await self._guarded(self._page, step, patience)
            if not passed:
                return False, f"step {number} ({step.kind}): {detail}" if check.acts else detail
        return True, ""

    async def _guarded(self, page: Page, step: Step, patience: float) -> tuple[bool, str]:
        """Try for `patience` seconds until it holds; whatever the page does, answer soon after that."""
        from playwright.async_api import Error

        end = time.monotonic() + patience
        try:
            async with asyncio.timeout(self._limits.check_action + 0.5):
                if step.kind in ACTIONS and isinstance(step.words, words.Locator):
                    return await self._act(page, step.kind, step.words)
                while True:
                    passed, detail = await _holds(page, step)
                    if passed or not patience:
                        return passed, detail
                    if time.monotonic() >= end:
                        return self._too_late(detail)
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            return self._too_late("the page did not answer")
        except Error as error:
            return False, (str(error).strip().splitlines() or ["the browser refused it"])[0][:200]

    async def _act(self, page: Page, kind: str, wanted: words.Locator) -> tuple[bool, str]:
        from playwright.async_api import TimeoutError as PlaywrightTimeout

        locator = locate(page, wanted)
        # Missing things fail at once, after one search for what an earlier step still brings.
        for _ in range(4):
            if await locator.count():
                break
            await asyncio.sleep(_POLL)
        else:
            return False, f"nothing is there for {describe(wanted)}"
        first, limit = locator.first, self._limits.check_action * 1000
        try:
            match wanted:
                case words.Entry() if kind == "fill":
                    await first.fill(str(wanted.value), timeout=limit)
                case words.Entry():
                    await first.select_option(str(wanted.value), timeout=limit)
                case words.Key():
                    await first.press(wanted.key, timeout=limit, no_wait_after=True)
                case _:
                    await first.click(timeout=limit, no_wait_after=True)
        except PlaywrightTimeout:
            return self._too_late(f"{describe(wanted)} could not be used within {self._limits.check_action:g} s")
        return True, ""

    def _too_late(self, detail: str) -> tuple[bool, str]:
        self.ran_out_of_time = True
        return False, detail


def locate(page: Page, wanted: words.Locator) -> Locator:
    """Return Playwright's locator for the words of a check."""
    if wanted.role is not None:
        name = None if wanted.name is None else as_pattern(wanted.name)
        # The role is one of Playwright's: the words were checked when the suite was loaded.
        locator = page.get_by_role(wanted.role, name=name, level=wanted.level, exact=wanted.exact)  # type: ignore[arg-type]
    elif wanted.label is not None:
        locator = page.get_by_label(as_pattern(wanted.label), exact=wanted.exact)
    elif wanted.placeholder is not None:
        locator = page.get_by_placeholder(as_pattern(wanted.placeholder), exact=wanted.exact)
    elif wanted.text is not None:
        locator = page.get_by_text(as_pattern(wanted.text), exact=wanted.exact)
    elif wanted.test_id is not None:
        locator = page.get_by_test_id(wanted.test_id)
    else:
        locator = page.locator(f"css={wanted.css}")
    return locator if wanted.has_text is None else locator.filter(has_text=as_pattern(wanted.has_text))


def describe(wanted: words.Locator) -> str:
    """Return the locator as a reader would say it."""
    said = ((key, getattr(wanted, key)) for key in (*LOCATORS, "name", "level", "has_text"))
    return ", ".join(f"{key} {value!r}" for key, value in said if value is not None)


@dataclass(frozen=True, slots=True)
class Found:
    """What a locator finds on a page, as far as its check asks for it."""

    count: int
    visible: int = 0
    value: str | None = None
    """The attribute, style or form value of the first."""


async def _holds(page: Page, step: Step) -> tuple[bool, str]:
    if isinstance(step.words, str):
        return await _aria(page, step.words)
    return held(step, await _find(page, step.words, step.kind))


async def _find(page: Page, wanted: words.Locator, kind: str) -> Found:
    locator = locate(page, wanted)
    if not isinstance(wanted, Compared):
        visible = await locator.filter(visible=True).count()
        return Found(await locator.count() if kind == "see" and not visible else visible, visible)
    count = await locator.count()
    if isinstance(wanted, words.Count) or not count:
        return Found(count)
    first, limit = locator.first, 1000.0
    if isinstance(wanted, words.Attribute):
        return Found(count, value=await first.get_attribute(wanted.attribute, timeout=limit))
    if isinstance(wanted, words.Style):
        script = "(element, name) => getComputedStyle(element).getPropertyValue(name)"
        return Found(count, value=await first.evaluate(script, wanted.property, timeout=limit))
    return Found(count, value=await first.input_value(timeout=limit))


def held(step: Step, found: Found) -> tuple[bool, str]:
    """Return whether what was found is what an expectation of a locator wants, and if not, why."""
    wanted = step.words
    assert not isinstance(wanted, str)
    if not isinstance(wanted, Compared):
        if (found.visible > 0) == (step.kind == "see"):
            return True, ""
        if step.kind == "not_see":
            return False, f"{describe(wanted)} is visible"
        return False, f"{describe(wanted)} is {'there but not visible' if found.count else 'not there'}"
    if isinstance(wanted, words.Count):
        return compare(found.count, wanted)
    if not found.count:
        return False, f"nothing is there for {describe(wanted)}"
    return compare(found.value, wanted)


async def _aria(page: Page, template: str) -> tuple[bool, str]:
    from playwright.async_api import expect

    try:
        await expect(page.locator("body")).to_match_aria_snapshot(template, timeout=_ARIA_LIMIT * 1000)
    except AssertionError:
        return False, "the page's accessibility tree does not hold the template"
    return True, ""


def compare(value: Scalar | None, wanted: Compared) -> tuple[bool, str]:
    """Return whether `value` meets `is`, `matches`, `at_least`, `at_most` (or, without any, is there at all)."""
    if value is None:
        return False, "it is not there"
    text = str(value)
    number = _LEADING_NUMBER.match(text)
    held = (
        (wanted.is_ is None or text == as_text(wanted.is_))
        and (wanted.matches is None or regex(wanted.matches).search(text) is not None)
        and (wanted.at_least is None or (number is not None and float(number[1]) >= wanted.at_least))
        and (wanted.at_most is None or (number is not None and float(number[1]) <= wanted.at_most))
    )
    return held, "" if held else f"it is {text[:100]!r}"


def as_text(value: Scalar) -> str:
    """Return a YAML scalar the way HTML writes it: YAML reads `true` and `false` as booleans."""
    return str(value).lower() if isinstance(value, bool) else str(value)
