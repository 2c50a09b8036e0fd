from __future__ import annotations

import pytest

from harness.render.outcome import Facts, judge

SEEN = {"measured": True, "text": "Hello", "painted": 0.1}


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({}, "ok"),
        ({"text": "", "painted": 0.0}, "blank"),
        ({"text": "", "painted": 0.3}, "ok"),
        ({"text": "Hi", "painted": 0.0}, "ok"),
        ({"blocked": ["https://a.test/x.png"]}, "blocked-resource"),
        ({"errors": ["x is not defined"]}, "script-error"),
        ({"left_for": "https://a.test/"}, "navigated-away"),
        ({"too_large": "9 elements"}, "too-large"),
        ({"timeout": "slow"}, "timeout"),
        ({"crash": "gone"}, "crash"),
        ({"crash": "gone", "timeout": "slow", "too_large": "9", "errors": ["x"], "left_for": "y"}, "crash"),
        ({"timeout": "slow", "too_large": "9", "errors": ["x"], "left_for": "y"}, "timeout"),
        ({"too_large": "9", "errors": ["x"], "left_for": "y"}, "too-large"),
        ({"errors": ["x"], "left_for": "y"}, "navigated-away"),
        ({"errors": ["x"], "blocked": ["z"], "text": "", "painted": 0.0}, "script-error"),
        ({"blocked": ["z"], "text": "", "painted": 0.0}, "blank"),
        ({"measured": False}, "unscored"),
    ],
)
def test_the_first_outcome_that_applies_is_the_one(facts: dict[str, object], outcome: str) -> None:
    assert judge(Facts(**(SEEN | facts)))[0] == outcome


@pytest.mark.parametrize(
    ("error", "code_blocked", "outcome"),
    [
        ("$ is not defined", True, "blocked-resource"),
        ("Failed to fetch", True, "blocked-resource"),
        ("Cannot read properties of undefined (reading 'x')", True, "blocked-resource"),
        ("$ is not defined", False, "script-error"),
        ("Invalid or unexpected token", True, "script-error"),
        ("my own words", True, "script-error"),
    ],
)
def test_only_what_the_missing_network_explains_is_excused(error: str, code_blocked: bool, outcome: str) -> None:
    facts = Facts(**SEEN, errors=[error], blocked=["https://cdn.test/x.js"], code_blocked=code_blocked)
    assert judge(facts)[0] == outcome
