"""Pages without a word that show something, pages that show nothing, and errors beside refused resources."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.types import Rendering

Measure = Callable[..., Rendering]
TOP = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Page</title>'
BUG = "<h1>Menu</h1><script>document.getElementById('nav').addEventListener('click', () => alert(1))</script>"

SHOWN = {
    "svg": '<svg width="400" height="300"><rect x="10" y="10" width="80" height="280" fill="navy"/></svg>',
    "small svg": '<svg width="20" height="20"><circle cx="10" cy="10" r="5"/></svg>',
    "canvas": '<canvas id="c"></canvas><script>c.getContext("2d").fillRect(9, 9, 50, 50)</script>',
    "gradient": "<style>html{height:100%}body{background:linear-gradient(red,blue)}</style><body>",
    "borders": '<div style="border:1px solid #ccc;width:60px;height:60px"></div>',
    "background": '<div style="background:teal;width:60px;height:60px"></div>',
    "pseudo-element": "<style>p::before{content:'';display:block;width:40px;height:40px;background:red}</style><p></p>",
    "input": '<input aria-label="Name">',
    "check box": '<input type="checkbox" aria-label="Yes">',
    "radio button": '<input type="radio" aria-label="Yes">',
    "slider": '<input type="range" aria-label="Much">',
    "progress": '<progress value="0.5" aria-label="Half"></progress>',
    "rule": "<hr>",
    "frame": '<iframe title="x" srcdoc="<p>Hi</p>"></iframe>',
    "video": '<video controls width="300" height="150"></video>',
    "below the first screen": '<p style="height:1500px"></p><p style="width:80px;height:80px;background:red"></p>',
    "math": "<math><mfrac><mi>x</mi><mn>2</mn></mfrac></math>",
}  # fmt: skip
EMPTY = {
    "nothing": "<body></body>",
    "empty elements": '<div id="root"></div><p></p>',
    "white on white": '<div style="background:#fff;width:60px;height:60px"></div>',
    "hidden": '<svg style="visibility:hidden" width="80" height="80"><rect width="80" height="80"/></svg>',
    "one colour all over": "<style>body{background:#f4f4f4}</style><body>",
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_shows_something_is_not_blank(measure: Measure, name: str) -> None:
    assert measure(TOP + SHOWN[name]).outcome == "ok"


@pytest.mark.parametrize("name", EMPTY)
def test_what_shows_nothing_is_blank(measure: Measure, name: str) -> None:
    assert measure(TOP + EMPTY[name]).outcome == "blank"


@pytest.mark.parametrize(
    ("beside", "body", "outcome"),
    [
        ("", BUG, "script-error"),
        ('<link rel="stylesheet" href="https://fonts.googleapis.com/css2?family=Roboto">', BUG, "script-error"),
        ('<script src="https://code.jquery.com/jquery.min.js"></script>', BUG, "script-error"),
        ("<style>@font-face{font-family:F;src:url(//f.test/f.woff2)}h1{font-family:F}</style>", BUG, "script-error"),
        ("<script>navigator.sendBeacon('/b','x')</script>", BUG, "script-error"),
        ('<script src="https://code.jquery.com/jquery.min.js"></script>', "<h1>x</h1><script>$('h1').hide()</script>",
         "blocked-resource"),
        ('<script src="https://cdn.jsdelivr.net/npm/chart.js"></script>',
         "<h1>x</h1>\n<script>\n  window.Chart.register(1)\n</script>", "blocked-resource"),
        ('<script src="https://cdn.jsdelivr.net/npm/chart.js"></script>',
         "<h1>x</h1>\n<script>\n  const chart = [];\n  chart[0].register(1)\n</script>", "script-error"),
        ('<script src="app.js"></script>', "<button>x</button><script>go()</script>", "blocked-resource"),
        ("", "<h1>x</h1><script>fetch('/data.json').then(r => r.json())</script>", "blocked-resource"),
    ],
)  # fmt: skip
def test_an_error_is_excused_only_by_what_would_have_prevented_it(
    measure: Measure, beside: str, body: str, outcome: str
) -> None:
    assert measure(f"{TOP}{beside}<body>{body}").outcome == outcome
