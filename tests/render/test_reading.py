"""Checks that only read say the same in a shared process and through Playwright's driver."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.checks.parse import parse_check
from harness.checks.words import Check
from harness.render import Renderer, RenderRequest, RenderSettings
from harness.render.measurements import PageMeasurer
from harness.render.reading import CheckReader
from harness.types import CheckResult, Rendering
from tests.render.test_running_checks import FAILS, HOLDS, PAGE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages share a process on Linux only")
Visits = list[tuple[str, str, int]]

STEPS = {"steps": [{"click": {"role": "button", "name": "Send"}}, {"see": {"text": "Sent to"}}]}
LIES = """<!DOCTYPE html><title>x</title><h1 style="color: red">Red</h1><script>
const honest = getComputedStyle;
getComputedStyle = (element) => new Proxy(honest(element), { get: (style, name) => name === 'getPropertyValue'
  ? () => 'rgb(1, 2, 3)' : style[name] });</script>"""


def written(*kinds: dict[str, Any]) -> tuple[Check, ...]:
    return tuple(parse_check({"why": str(number), "level": "must", **kind}) for number, kind in enumerate(kinds))


def results(renderer: Renderer, html: str, checks: Sequence[Check]) -> tuple[CheckResult, ...] | None:
    return renderer.render([RenderRequest("page", html, tuple(checks))])["page"].checks


def test_every_kind_says_the_same_as_through_the_driver(visits: Visits, lane: Renderer, alone: Renderer) -> None:
    kinds = [kind for kind in [*HOLDS, *(kind for kind, _ in FAILS)] if not kind.keys() & {"aria", "steps"}]
    kinds.remove({"value": {"css": "h1", "is": "x"}})
    checks = written(*kinds, STEPS, {"style": {"css": "video", "property": "color", "is": "rgb(255, 0, 0)"}})
    shared = results(lane, PAGE, checks)
    assert [(key, why) for key, why, _ in visits] == [("page", "")]
    assert shared is not None and {result.passed for result in shared} == {True, False}
    assert shared == results(alone, PAGE, checks)


@pytest.mark.parametrize(
    ("html", "kind", "why"),
    [
        (PAGE, {"value": {"css": "h1", "is": "x"}}, "Error: no form control"),
        (PAGE, {"see": {"css": "h1:is-no-such-thing"}}, None),
        (LIES, {"style": {"css": "h1", "property": "color", "is": "rgb(1, 2, 3)"}}, ""),
    ],
)
def test_what_is_unusual_comes_out_as_through_the_driver(
    visits: Visits, lane: Renderer, alone: Renderer, html: str, kind: dict[str, Any], why: str | None
) -> None:
    checks = written(kind, {"see": {"css": "html"}})
    found = results(lane, html, checks)
    assert why is None or visits[0][1] == why
    assert found == results(alone, html, checks)


def test_an_aria_template_is_left_to_the_driver(visits: Visits, lane: Renderer) -> None:
    found = results(lane, PAGE, written({"aria": '- heading "Shop" [level=1]'}, {"see": {"text": "Tea"}}))
    assert found is not None and all(result.passed for result in found)
    assert visits == []


def test_a_playwright_without_such_an_engine_checks_through_its_driver(
    visits: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.render.reading._ENGINE", "no such script")
    with Renderer(RenderSettings(workers=1, axe=False)) as renderer:
        found = results(renderer, PAGE, written({"see": {"text": "Tea"}}))
    assert found is not None and found[0].passed
    assert visits == []


def test_a_page_in_the_place_of_several_answers_is_measured_once(
    tmp_path: Path, visits: Visits, alone: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    shoot = PageMeasurer.shoot

    async def counted(self: PageMeasurer, width: int, content_height: int) -> str:
        measured.append(f"{width}")
        return await shoot(self, width, content_height)

    monkeypatch.setattr(PageMeasurer, "shoot", counted)
    sets = {
        "first": written({"see": {"text": "Tea"}}, STEPS, {"see": {"text": "Nowhere"}}),
        "second": written(STEPS, {"count": {"css": "li", "is": 2}}),
        "third": written({"aria": '- heading "Shop" [level=1]'}),
        "none": (),
    }
    done: dict[str, Rendering] = {}
    with Renderer(RenderSettings(workers=1, axe=False), cache_dir=tmp_path) as renderer:
        renderer.render(
            [RenderRequest(key, PAGE, checks) for key, checks in sets.items()],
            lambda request, rendering: done.__setitem__(request.key, rendering),
        )
    assert measured == ["1280", "375"]
    assert (
        len({(page.outcome, page.dom_hash, page.visible_text, page.screenshots["desktop"]) for page in done.values()})
        == 1
    )
    passed = {key: page.checks and [result.passed for result in page.checks] for key, page in done.items()}
    assert passed == {"first": [True, True, False], "second": [True, True], "third": [True], "none": None}
    assert done["first"].checks == results(alone, PAGE, sets["first"])


def test_a_reader_is_asked_for_once(visits: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    of = CheckReader.of

    async def counted(browser: Any) -> CheckReader:
        asked.append(browser)
        return await of(browser)

    monkeypatch.setattr(CheckReader, "of", counted)
    with Renderer(RenderSettings(workers=2, axe=False, screenshots=False)) as renderer:
        checks = written({"see": {"text": "Tea"}})
        done = renderer.render(RenderRequest(f"p{number}", PAGE, checks) for number in range(4))
    assert len(asked) == 1 and len(visits) == 4
    assert all(page.checks is not None and page.checks[0].passed for page in done.values())
