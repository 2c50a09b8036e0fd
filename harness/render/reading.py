"""Task checks that only read, asked of a page over the DevTools protocol by Playwright's own selector engine.

Playwright's driver between this program and the browser costs more than what a check reads. So the script by which the
installed Playwright finds elements is asked of it once, and runs in the isolated world of each page: what it finds is
what Playwright's locators find. ARIA templates alone are read by the driver itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from harness.checks import words
from harness.checks.words import Check, Step
from harness.render.checks import Found, held, locate
from harness.render.measurements import MeasureFailed, PageMeasurer
from harness.types import CheckResult

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

READABLE: Final = frozenset({"see", "not_see", "count", "attribute", "style", "value"})
"""The kinds of checks that are read here."""

_ENGINE = "new (module.exports.InjectedScript"
# The first of what is found stays in the isolated world, for what has to be asked of it in the page's own.
_READ = """
((queries) => {
  const engine = ENGINE;
  const all = (selector) => engine.querySelectorAll(engine.parseSelector(selector), document);
  globalThis.firsts = [];
  return queries.map(([kind, selector, attribute]) => {
    const found = all(selector), first = found[0];
    globalThis.firsts.push(first);
    if (kind === "see" || kind === "not_see") return [found.length, all(`${selector} >> visible=true`).length, null];
    if (!first || kind === "count" || kind === "style") return [found.length, 0, null];
    if (kind === "attribute") return [found.length, 0, first.getAttribute(attribute)];
    const control = engine.retarget(first, "follow-label");
    if (!control || !/^(INPUT|TEXTAREA|SELECT)$/.test(control.nodeName)) throw new Error("no form control");
    return [found.length, 0, control.value];
  });
})(QUERIES)
"""
_STYLE = "function (name) { return getComputedStyle(this).getPropertyValue(name); }"


def readable(checks: Sequence[Check]) -> bool:
    """Whether all of `checks` that do not act can be read by a `CheckReader`."""
    return all(check.acts or all(step.kind in READABLE for step in check.steps) for check in checks)


@dataclass(frozen=True, slots=True)
class CheckReader:
    """Playwright's script that finds elements, and a page of Playwright's whose locators say what is to be found."""

    engine: str
    page: Page
    """Closed: nothing is asked of it but the words of its locators."""

    @classmethod
    async def of(cls, browser: Browser) -> CheckReader:
        """Ask the installed Playwright for its script.

        Raises:
            LookupError: it has none that is known.
            playwright.async_api.Error: the browser failed.
        """
        context = await browser.new_context(offline=True, service_workers="block")
        try:
            page = await context.new_page()
            await page.locator("css=p").count()
            session = await context.new_cdp_session(page)
            numbers: list[str] = []
            session.on("Debugger.scriptParsed", lambda told: numbers.append(str(told["scriptId"])))
            await session.send("Debugger.enable")
            for number in numbers:
                told = await session.send("Debugger.getScriptSource", {"scriptId": number})
                source = str(told["scriptSource"]).strip().removesuffix(";")
                if _ENGINE in source:
                    return cls(source, page)
        finally:
            await context.close()
        raise LookupError("this version of Playwright finds elements by other means")

    async def read(self, measurer: PageMeasurer, checks: Sequence[Check]) -> tuple[CheckResult, ...]:
        """Return the results of `checks`, none of which acts, on the page as it stands.

        Raises:
            MeasureFailed: the page, or the words of a check, are for Playwright's driver to judge.
        """
        steps = [check.steps[0] for check in checks]
        queries = json.dumps([self._query(step) for step in steps])
        told = await measurer.evaluate(_READ.replace("QUERIES", queries).replace("ENGINE", self.engine))
        if not isinstance(told, list):
            raise MeasureFailed("the checks gave nothing")
        founds = await asyncio.gather(*(self._found(measurer, n, step, told[n]) for n, step in enumerate(steps)))
        results = [held(step, found) for step, found in zip(steps, founds, strict=True)]
        return tuple(
            CheckResult(check.why, check.level, passed, detail)
            for check, (passed, detail) in zip(checks, results, strict=True)
        )

    def _query(self, step: Step) -> tuple[str, str, str | None]:
        assert isinstance(step.words, words.Locator)
        # What Playwright's client sends to its driver for this locator.
        selector = str(locate(self.page, step.words)._impl_obj._selector)
        return step.kind, selector, step.words.attribute if isinstance(step.words, words.Attribute) else None

    async def _found(self, measurer: PageMeasurer, number: int, step: Step, told: JsonValue) -> Found:
        assert isinstance(told, list)
        count, visible, value = told
        if isinstance(step.words, words.Style) and count:
            value = await measurer.ask(f"firsts[{number}]", _STYLE, step.words.property)
        return Found(int(str(count)), int(str(visible)), None if value is None else str(value))
