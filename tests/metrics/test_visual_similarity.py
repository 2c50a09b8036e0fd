"""Looks, in the real browser: near is near, other is other, nothing is nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.metrics import VisualSimilarity
from harness.metrics.parser_pool import NotMeasured
from harness.metrics.visual import visual_similarity
from harness.render import Renderer, RenderRequest, RenderSettings, render_html
from harness.types import Rendering

SHOP = """<!DOCTYPE html><html lang="en"><title>Teas</title><style>
header { background: #246; color: white; padding: 20px }
.card { border: 1px solid #999; display: inline-block; width: 200px; margin: 9px }
%s</style>
<header><h1>Shop of teas</h1><p>Fresh <b>teas</b> each day</p></header>
<div class="card"><h2>Mint</h2><p>Green and cold</p><button>Buy mint</button></div>
<div class="card"><h2>Rose</h2><p>Red and sweet</p><button>Buy rose</button></div>
<form><label>Name <input placeholder="Your name"></label><select><option>Small<option>Large</select></form>
<svg width="100" height="100">%s</svg></html>"""
CIRCLE = '<circle cx="50" cy="50" r="40" fill="red"/>'
PLAIN = '<!DOCTYPE html><html lang="en"><title>%s</title>%s<h1>%s</h1><p>About the %s, 1907.</p></html>'

PAGES = {
    "shop": SHOP % ("", CIRCLE),
    "shop again": SHOP % ("", CIRCLE),
    "moved 3 px": SHOP % ("body { position: relative; left: 3px; top: 3px }", CIRCLE),
    "centred": SHOP % ("body { max-width: 800px; margin: auto }", CIRCLE),
    "larger": SHOP % ("body { zoom: 1.25 }", CIRCLE),
    "recoloured": SHOP % ("body * { color: #b00020 !important }", CIRCLE),
    "dark": SHOP % ("body { background: black; color: #eee }", CIRCLE),
    "no frames": SHOP % (".card { border: none }", CIRCLE),
    "square": SHOP % ("", '<path d="M0 0h100v100z" fill="blue"/>'),
    "text unseen": SHOP % ("body, body * { color: white !important; background: white !important }", CIRCLE),
    "other": "<!DOCTYPE html><title>x</title><table><tr><td>Nothing alike<td>is written here</table>",
    "empty": "<!DOCTYPE html><title>x</title>",
    "plain": PLAIN % ("Teapot", "", "Teapot", "teapot"),
    "plain moved": PLAIN % ("Teapot", '<body style="padding-left:3px">', "Teapot", "teapot"),
    "plain card": PLAIN % ("Teapot", '<main style="max-width:600px;margin:auto">', "Teapot", "teapot"),
    "plain hollow": "<!DOCTYPE html><html lang='en'><head><title>Teapot</title></head><body></body></html>",
    "boxes without edges": "<!DOCTYPE html><title>x</title><div style='background:#fff'><p>One line of words</p></div>",
    "without boxes": "<!DOCTYPE html><title>x</title><div><p>One line of words</p></div>",
    "inline parts": "<!DOCTYPE html><title>x</title><p>One <b>line</b> of <i>words</i></p>",
}


@pytest.fixture(scope="module")
def rendered() -> Iterator[dict[str, Rendering]]:
    with Renderer(RenderSettings(axe=False)) as renderer:
        keys = {name: f"page{number}" for number, name in enumerate(PAGES)}
        found = renderer.render(RenderRequest(keys[name], html) for name, html in PAGES.items())
        yield {name: found[key] for name, key in keys.items()}


def likeness(rendered: dict[str, Rendering], page: str, reference: str = "shop") -> float:
    value = visual_similarity(rendered[page], rendered[reference]).value
    assert value is not None
    return value


def test_the_same_page_is_alike_and_an_empty_one_is_not(rendered: dict[str, Rendering]) -> None:
    assert likeness(rendered, "shop again") == pytest.approx(100)
    assert likeness(rendered, "empty") == 0
    assert likeness(rendered, "shop", "empty") == 0
    assert likeness(rendered, "empty", "empty") == 100


@pytest.mark.parametrize(
    ("page", "low", "high"),
    [
        ("moved 3 px", 99, 99.99),
        ("centred", 85, 99),
        ("larger", 75, 95),
        ("recoloured", 85, 99),
        ("dark", 60, 95),
        ("no frames", 70, 98),
        ("square", 90, 99.9),
        ("text unseen", 10, 70),
        ("other", 0, 10),
    ],
)
def test_a_person_would_sign(rendered: dict[str, Rendering], page: str, low: float, high: float) -> None:
    assert low <= likeness(rendered, page) <= high


def test_small_shifts(rendered: dict[str, Rendering]) -> None:
    assert likeness(rendered, "plain moved", "plain") > 99
    assert 80 < likeness(rendered, "plain card", "plain") < 99
    assert likeness(rendered, "plain hollow", "plain") == 0


def test_likeness_is_symmetric(rendered: dict[str, Rendering]) -> None:
    for page in ("centred", "dark", "no frames", "text unseen"):
        assert likeness(rendered, page) == pytest.approx(likeness(rendered, "shop", page))


def test_what_shows_nothing_is_no_block(rendered: dict[str, Rendering]) -> None:
    """A white box on white, and the elements in which a line of words happens to be written, change nothing."""
    assert likeness(rendered, "boxes without edges", "without boxes") == pytest.approx(100)
    blocks = rendered["inline parts"].blocks
    assert blocks is not None
    assert [(block.kind, block.text) for block in blocks] == [("text", "One line of words")]


def test_a_page_without_picture_or_blocks_is_a_named_null(rendered: dict[str, Rendering]) -> None:
    page = rendered["shop"]
    with pytest.raises(NotMeasured, match="no screenshot of the page"):
        visual_similarity(replace(page, screenshots={}), page)
    with pytest.raises(NotMeasured, match="blocks of the reference"):
        visual_similarity(page, replace(page, blocks=None))
    with pytest.raises(NotMeasured, match="cannot be read"):
        visual_similarity(replace(page, screenshots={"desktop": b"no picture"}), page)


def test_it_works_alone() -> None:
    result = VisualSimilarity(render_html).compute(
        predictions=[PAGES["plain card"], PAGES["empty"]], references=[PAGES["plain"], PAGES["plain"]]
    )
    near, nothing = result["scores"]
    assert 80 < near < 99
    assert nothing == 0
    assert result["visual_similarity"] == pytest.approx((near + nothing) / 2)
