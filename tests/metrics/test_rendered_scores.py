from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from harness.checks.words import Check, Locator, Step
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence
from harness.metrics.registry import score_page
from harness.types import CheckResult, Outcome, Rendering, Score, Task

MUST = Check("says x", "must", (Step("see", Locator(text="x")),))
SHOULD = replace(MUST, level="should")
BROWSER_METRICS = ("renders", "accessible", "overflow_free", "checks_must", "checks_all")


def score(text: str = "<p>x</p>", rendering: Rendering | None = None, why: str = "", **task: Any) -> dict[str, Score]:
    details = Task("t", "p", **{"checks": (MUST, MUST, SHOULD), **task})
    return score_page(Evidence(details, text, extract(text, "eos", details.scope), rendering=rendering, why_not=why))


def seen(outcome: Outcome = "ok", passed: tuple[bool, ...] = (True, True), **more: Any) -> Rendering:
    checks = (*(CheckResult("why", "must", p) for p in passed), CheckResult("why", "should", False))
    return Rendering(outcome, **{"accessibility": (), "overflow": {"1280": 0, "375": 0}, "checks": checks, **more})


def test_a_good_page() -> None:
    assert [score(rendering=seen())[name].value for name in BROWSER_METRICS] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_has_its_numbers(outcome: Outcome) -> None:
    scores = score(rendering=seen(outcome, detail="why"))
    values = {name: scores[name].value for name in BROWSER_METRICS}
    if outcome == "unscored":
        assert set(values.values()) == {None}
        assert {scores[name].note for name in BROWSER_METRICS} == {"why"}
    else:
        assert values["renders"] == float(outcome in ("ok", "blocked-resource"))
        gone = outcome in ("crash", "timeout", "too-large", "navigated-away", "blank")
        assert values["accessible"] == values["overflow_free"] == float(not gone)


def test_no_page_fails_everything() -> None:
    scores = score("I cannot do that.")
    assert {scores[name].value for name in BROWSER_METRICS} == {0.0}


def test_an_unmeasured_page_is_null_with_the_reason() -> None:
    scores = score(why="no browser was found")
    assert {(scores[n].value, scores[n].note) for n in BROWSER_METRICS} == {(None, "no browser was found")}


def test_checks_of_a_page_that_never_loaded_failed_and_checks_that_did_not_run_are_null() -> None:
    assert score(rendering=Rendering("crash"))["checks_must"].value == 0
    assert score(rendering=Rendering("timeout"))["checks_all"].value == 0
    assert score(rendering=Rendering("ok"))["checks_must"].value is None


def test_only_must_checks_count() -> None:
    scores = score(rendering=seen(passed=(True, False)))
    assert (scores["checks_must"].value, scores["checks_all"].value) == (0.5, 0.0)
    assert "checks_must" not in score(rendering=seen(), checks=(SHOULD,))
    assert "checks_all" not in score(rendering=seen(), checks=())


@pytest.mark.parametrize(
    ("violation", "task", "expected"),
    [
        ({"id": "image-alt", "impact": "critical"}, {}, 0),
        ({"id": "color-contrast", "impact": "serious"}, {}, 0),
        ({"id": "region", "impact": "moderate"}, {}, 1),
        ({"id": "document-title", "impact": "serious"}, {}, 0),
        ({"id": "document-title", "impact": "serious"}, {"ignore": frozenset({"missing-title"})}, 1),
        ({"id": "html-has-lang", "impact": "serious"}, {}, 0),
        ({"id": "html-has-lang", "impact": "serious"}, {"scope": "fragment"}, 1),
    ],
)
def test_accessible_counts_grave_findings(violation: dict[str, str], task: dict[str, Any], expected: float) -> None:
    assert score(rendering=seen(accessibility=(violation,)), **task)["accessible"].value == expected


def test_accessible_is_null_when_axe_did_not_run() -> None:
    assert score(rendering=seen(accessibility=None))["accessible"].value is None


@pytest.mark.parametrize(("pixels", "expected"), [(0, 1), (1, 1), (2, 0), (400, 0)])
def test_overflow(pixels: int, expected: float) -> None:
    assert score(rendering=seen(overflow={"1280": 0, "375": pixels}))["overflow_free"].value == expected
