from __future__ import annotations

import pytest

from harness.render.excuse import ScriptError
from harness.render.outcome import Facts, classify_outcome

SEEN = {"measured": True, "text": "Hello", "painted": 0.1}


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({}, "ok"),
        ({"text": "", "painted": 0.0}, "blank"),
        ({"text": "", "painted": 0.3}, "ok"),
        ({"text": "Hi", "painted": 0.0}, "ok"),
        ({"refused": [("image", "https://a.test/x.png")]}, "blocked-resource"),
        ({"errors": [ScriptError("x is not defined")]}, "script-error"),
        ({"left_for": "https://a.test/"}, "navigated-away"),
        ({"too_large": "9 elements"}, "too-large"),
        ({"timeout": "slow"}, "timeout"),
        ({"crash": "gone"}, "crash"),
        (
            {"crash": "gone", "timeout": "slow", "too_large": "9", "errors": [ScriptError("x")], "left_for": "y"},
            "crash",
        ),
        ({"timeout": "slow", "too_large": "9", "errors": [ScriptError("x")], "left_for": "y"}, "timeout"),
        ({"too_large": "9", "errors": [ScriptError("x")], "left_for": "y"}, "too-large"),
        ({"errors": [ScriptError("x")], "left_for": "y"}, "navigated-away"),
        ({"errors": [ScriptError("x")], "refused": [("image", "z")], "text": "", "painted": 0.0}, "script-error"),
        ({"refused": [("image", "z")], "text": "", "painted": 0.0}, "blank"),
        ({"measured": False}, "unscored"),
    ],
)
def test_the_first_outcome_that_applies_is_the_one(facts: dict[str, object], outcome: str) -> None:
    assert classify_outcome(Facts(**(SEEN | facts)))[0] == outcome
