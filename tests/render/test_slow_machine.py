"""What a page did not do in time is its own fault only where the machine was quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.checks.parse import parse_check
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Score
from harness.metrics.registry import metric, score_metric
from harness.render import Renderer, RenderRequest, RenderSettings, pool
from harness.render.isolated_page import IsolatedPage
from harness.render.visit import Stalled
from harness.types import Rendering, Task

SLOW = """<!DOCTYPE html><title>x</title>
<button onclick="setTimeout(() => document.body.append('done'), 2500)">Go</button>"""
SAYS_DONE = {"steps": [{"click": {"role": "button", "name": "Go"}}, {"see": {"text": "done"}}]}
HANGS = "<!DOCTYPE html><title>x</title><p>x<script>for (;;);</script>"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that were measured alone, one entry a try."""
    found: list[str] = []
    alone = pool.Pool._alone

    async def told(self: Any, slot: Any, request: RenderRequest, *rest: Any) -> Any:
        found.append(request.key)
        return await alone(self, slot, request, *rest)

    monkeypatch.setattr(pool.Pool, "_alone", told)
    return found


@pytest.fixture(scope="module")
def renderer(browser_there: None) -> Iterator[Renderer]:
    with Renderer(RenderSettings(workers=1, axe=False, screenshots=False)) as warm:
        yield warm


def rendered(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch, quick: Iterator[bool], html: str, **check: Any
) -> Rendering:
    async def answered(self: Any, slot: Any) -> bool:
        return next(quick)

    monkeypatch.setattr(pool.Pool, "_quick", answered)
    monkeypatch.setattr(pool, "_LULL_S", 0.3)
    checks = (parse_check({"why": "it says so", "level": "must", **check}),) if check else ()
    return renderer.render([RenderRequest("page", html, checks)])["page"]


def told(*answers: bool) -> Iterator[bool]:
    """These answers, then the last one for ever."""
    yield from answers
    while True:
        yield answers[-1]


def test_on_a_quick_machine_a_late_answer_fails_at_once(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    found = rendered(renderer, monkeypatch, told(True), SLOW, **SAYS_DONE)
    assert found.checks is not None and not found.checks[0].passed
    assert found.checks[0].detail == "step 2 (see): text 'done' is not there"
    assert len(tries) == 1


def test_after_a_slow_moment_a_check_is_tried_again(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    found = rendered(renderer, monkeypatch, told(False, False, True), SLOW, **SAYS_DONE)
    assert found.checks is not None and not found.checks[0].passed
    assert found.outcome == "ok"
    assert len(tries) == 2


def test_a_machine_that_stays_slow_gives_the_checks_no_score_and_leaves_what_was_measured_of_the_page(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    found = rendered(renderer, monkeypatch, told(False), SLOW, **SAYS_DONE)
    assert (found.outcome, found.visible_text) == ("ok", "Go")
    assert found.checks is None
    assert found.checks_unmeasured.startswith("this machine is too slow now")
    assert len(tries) == 2
    task = Task("t", "a button", "", checks=(parse_check({"why": "it says so", "level": "must", **SAYS_DONE}),))
    evidence = Evidence(task, SLOW, extract(SLOW, "eos"), found)
    scores = {name: score_metric(metric(name), evidence) for name in ("renders", "checks_must", "checks_all")}
    assert scores["renders"] == Score(1.0)
    assert scores["checks_must"] == scores["checks_all"] == Score(None, found.checks_unmeasured)


def test_checks_that_were_not_measured_are_measured_again_the_next_time(
    browser_there: None, monkeypatch: pytest.MonkeyPatch, tries: list[str], tmp_path: Path
) -> None:
    with Renderer(RenderSettings(workers=1, axe=False, screenshots=False), cache_dir=tmp_path) as kept:
        assert rendered(kept, monkeypatch, told(False), SLOW, **SAYS_DONE).checks is None
        again = rendered(kept, monkeypatch, told(True), SLOW, **SAYS_DONE)
    assert again.checks is not None and not again.checks[0].passed
    assert len(tries) == 3


def test_a_page_that_is_never_done_gets_no_score_on_a_machine_that_stays_slow(
    hurried: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    found = rendered(hurried, monkeypatch, told(False), HANGS)
    assert found.outcome == "unscored"
    assert found.detail.startswith("this machine is too slow now")
    assert len(tries) == 2


def test_a_page_that_is_not_there_in_time_for_its_check_is_no_failure_on_a_slow_machine(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]
) -> None:
    load = IsolatedPage.load

    async def late(self: Any, part: str = "settle") -> Any:
        if part == "still":  # as a check with steps opens it anew
            raise Stalled("no document within 3 s")
        return await load(self, part)

    monkeypatch.setattr(IsolatedPage, "load", late)
    found = rendered(renderer, monkeypatch, told(False), SLOW, **SAYS_DONE)
    assert (found.outcome, found.checks) == ("ok", None)
    assert len(tries) == 2


def test_what_holds_is_not_doubted(renderer: Renderer, monkeypatch: pytest.MonkeyPatch, tries: list[str]) -> None:
    page = SLOW.replace("2500", "0")
    found = rendered(renderer, monkeypatch, told(False), page, **SAYS_DONE)
    assert found.checks is not None and found.checks[0].passed
    found = rendered(renderer, monkeypatch, told(False), page, see={"role": "button", "name": "Stop"})
    assert found.checks is not None and not found.checks[0].passed  # it is not there, and nothing brings it
    assert tries == ["page"]
