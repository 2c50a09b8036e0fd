from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.checks.parse import parse_check
from harness.render import Renderer, RenderRequest
from harness.types import Rendering

Measure = Callable[..., Rendering]
PAGE = """<!DOCTYPE html><html lang="en"><title>Shop</title><style>h1 { color: red; font-size: 40px }</style>
<h1>Shop</h1><p data-testid="note">Open daily</p><p hidden>Secret</p>
<ul><li>Tea</li><li>Cake</li></ul>
<form><label>E-mail <input type="email" required value="a@b.example"></label><input placeholder="Town">
<label>Size <select><option>small</option><option>large</option></select></label>
<button type="button" onclick="setTimeout(() => { out.textContent = 'Sent to ' + document.querySelector('input').value +
 ' ' + document.querySelector('select').value; localStorage.n = (+localStorage.n || 0) + 1;
 n.textContent = localStorage.n }, 200)">
Send</button><output id="out"></output><output id="n"></output></form>
<a href="#top" onkeydown="out.textContent = event.key">Top</a>"""
HOLDS: list[dict[str, Any]] = [
    {"see": {"role": "heading", "name": "shop", "level": 1}},
    {"see": {"text": "/open\\s+daily/i"}},
    {"see": {"test_id": "note"}},
    {"see": {"placeholder": "Town"}},
    {"see": {"css": "li", "has_text": "Cake"}},
    {"not_see": {"text": "Secret"}},
    {"not_see": {"text": "Nowhere"}},
    {"count": {"role": "listitem", "is": 2}},
    {"count": {"css": "li", "at_least": 1, "at_most": 2}},
    {"attribute": {"label": "E-mail", "attribute": "required"}},
    {"attribute": {"label": "/e-?mail/i", "attribute": "type", "is": "email"}},
    {"attribute": {"role": "link", "attribute": "href", "matches": "^#"}},
    {"style": {"role": "heading", "property": "color", "is": "rgb(255, 0, 0)"}},
    {"style": {"role": "heading", "property": "font-size", "at_least": 40}},
    {"value": {"label": "E-mail", "is": "a@b.example"}},
    {"aria": '- heading "Shop" [level=1]\n- list:\n  - listitem: Tea'},
    {
        "steps": [
            {"fill": {"label": "E-mail", "value": "c@d.example"}},
            {"select": {"label": "Size", "value": "large"}},
            {"click": {"role": "button", "name": "Send"}},
            {"see": {"text": "Sent to c@d.example large"}},
            {"see": {"css": "#n", "has_text": "1"}},
        ]
    },
    {
        "steps": [
            {"click": {"role": "button"}},
            {"count": {"css": "#n:empty", "is": 0}},
            {"see": {"css": "#n", "has_text": "1"}},
        ]
    },
    {"steps": [{"press": {"role": "link", "key": "Enter"}}, {"see": {"text": "Enter", "exact": True}}]},
]
FAILS: list[tuple[dict[str, Any], str]] = [
    ({"see": {"text": "Secret"}}, "there but not visible"),
    ({"see": {"role": "button", "name": "Buy"}}, "not there"),
    ({"not_see": {"text": "Open daily"}}, "is visible"),
    ({"count": {"css": "li", "is": 3}}, "it is '2'"),
    ({"attribute": {"label": "E-mail", "attribute": "disabled"}}, "not there"),
    ({"attribute": {"css": "video", "attribute": "src"}}, "nothing is there"),
    ({"style": {"role": "heading", "property": "color", "is": "rgb(0, 0, 0)"}}, "rgb(255, 0, 0)"),
    ({"style": {"role": "heading", "property": "font-size", "at_most": 39}}, "40px"),
    ({"value": {"css": "h1", "is": "x"}}, ""),
    ({"aria": '- heading "Shop" [level=2]'}, "accessibility tree"),
    (
        {"steps": [{"click": {"role": "button", "name": "Buy"}}, {"see": {"css": "body"}}]},
        "step 1 (click): nothing is there",
    ),
    ({"steps": [{"click": {"text": "Secret"}}, {"see": {"css": "body"}}]}, "step 1 (click)"),
]


def checks(*kinds: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"why": f"number {number}", "level": "must", **kind} for number, kind in enumerate(kinds)]


def test_every_kind_holds_on_a_page_that_does_it(measure: Measure) -> None:
    results = measure(PAGE, *checks(*HOLDS)).checks
    assert results is not None
    assert [(result.why, result.detail) for result in results if not result.passed] == []
    assert [result.why for result in results] == [f"number {number}" for number in range(len(HOLDS))]


def test_every_kind_fails_fast_with_a_reason(measure: Measure) -> None:
    started = time.perf_counter()
    results = measure(PAGE, *checks(*(kind for kind, _ in FAILS))).checks
    assert results is not None
    for result, (kind, reason) in zip(results, FAILS, strict=True):
        assert not result.passed, kind
        assert reason in result.detail, kind
    assert time.perf_counter() - started < 15  # a deadline, not a speed: nothing waits for Playwright's 30 s


def test_all_kinds_fail_on_an_empty_page_but_the_absent(measure: Measure) -> None:
    wanted = [kind for kind in HOLDS if "not_see" not in kind]
    results = measure("", *checks(*wanted)).checks
    assert results is not None and not any(result.passed for result in results)


@pytest.mark.parametrize(
    "html", ["<p>x<script>while (true);</script>", "<p>x<script>onclick = () => { while (true); }</script>"]
)
def test_a_page_that_hangs_fails_its_checks(hurried: Renderer, html: str) -> None:
    step = {"steps": [{"click": {"css": "p"}}, {"see": {"text": "never"}}]}
    kinds = checks({"see": {"text": "never"}}, step)
    results = hurried.render([RenderRequest("page", html, tuple(map(parse_check, kinds)))])["page"].checks
    assert results is not None and [result.passed for result in results] == [False, False]


def test_a_form_that_goes_away_keeps_its_page_for_the_check(measure: Measure) -> None:
    html = "<form action='https://example.org/'><button>Go</button></form><p>Here</p>"
    page = measure(html, *checks({"steps": [{"click": {"role": "button"}}, {"see": {"text": "Here"}}]}))
    assert page.outcome == "ok"
    assert page.checks is not None and page.checks[0].passed
