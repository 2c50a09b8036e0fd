"""Pages whose parts move, are drawn by components, or scroll otherwise: what a reader is left with counts."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from harness.metrics.visual import visual_similarity
from harness.types import Rendering

Measure = Callable[..., Rendering]
TOP = '<!DOCTYPE html><html lang="en"><title>Page</title>'
WORDS = "<h1>Hello</h1><p>some words here</p>"
FADE = "@keyframes fade{from{opacity:0;transform:translateX(-90%)}to{opacity:1;transform:none}}"

MOVING = {
    "appears": f"<style>{FADE}body{{animation:fade 2s}}</style>{WORDS}",
    "appears later": f"<style>{FADE}body{{animation:fade 1s 3s both}}</style>{WORDS}",
    "pulses for ever": f"<style>{FADE}body{{animation:fade 2s infinite alternate}}</style>{WORDS}",
    "waited for without end": f"{WORDS}<script>(async () => await document.body.animate([{{opacity: 0}}, "
    "{opacity: 1}], {duration: 999, iterations: Infinity}).finished)()</script>",
    "would go at a touch": "<style>@keyframes go{to{opacity:0}}body{animation:go 1s paused forwards}"
    f"body:hover{{animation-play-state:running}}</style>{WORDS}",
    "by a script": f"{WORDS}<script>document.body.animate([{{opacity: 0}}, {{opacity: 1}}], 2000)</script>",
    "revealed when seen": f"<style>h1{{opacity:0;transition:opacity 1s}}h1.on{{opacity:1}}</style>{WORDS}<script>new "
    "IntersectionObserver(all => all.forEach(one => one.target.classList.add('on')))"
    ".observe(document.querySelector('h1'))</script>",
    "a cover that goes": "<style>@keyframes go{to{opacity:0}}#c{position:fixed;inset:0;background:navy;animation:go 1s "
    f"1s forwards}}</style><div id=c>Loading</div>{WORDS}<script>c.onanimationend = () => c.remove()</script>",
    "in a component": "<x-a></x-a><script>customElements.define('x-a', class extends HTMLElement { connectedCallback() "
    "{ this.attachShadow({mode: 'open'}).innerHTML = "
    f"'<style>{FADE}h1{{animation:fade 2s}}</style>{WORDS}' }} }})</script>",
}  # fmt: skip


@pytest.mark.parametrize("name", MOVING)
def test_an_animation_is_seen_at_its_end(measure: Measure, name: str) -> None:
    still, moving = measure(TOP + WORDS), measure(TOP + MOVING[name])
    assert moving.outcome == "ok"
    assert visual_similarity(moving, still).value == pytest.approx(100.0)


def test_what_an_animation_hides_is_hidden(measure: Measure) -> None:
    gone = measure(f"{TOP}<style>@keyframes go{{to{{opacity:0}}}}h1{{animation:go 9s forwards}}</style>{WORDS}")
    assert visual_similarity(gone, measure(f"{TOP}<h1 style='opacity:0'>Hello</h1><p>some words here")).value == 100.0


@pytest.mark.parametrize("count", [1, "infinite"])
def test_what_is_paused_stays_where_it_stands(measure: Measure, count: object) -> None:
    style = f"div{{background:red;height:50px;animation:grow 9s linear -3s {count} paused both}}"
    page = measure(f"{TOP}<style>@keyframes grow{{from{{width:0}}to{{width:1000px}}}}{style}</style><div></div>")
    assert [round(block.width) for block in page.blocks or ()] == [333]


def test_a_transition_to_the_phones_width_is_no_overflow(measure: Measure) -> None:
    style = "body{margin:0}div{width:1200px;transition:all 1s}@media(max-width:600px){div{width:100%}}"
    page = measure(f"{TOP}<style>{style}</style><div>x</div>")
    assert page.overflow == {"1280": 0, "375": 0}


def test_checks_that_read_see_no_transition_back_from_the_phones_width(measure: Measure) -> None:
    style = "div{width:700px;transition:all 1s}@media(max-width:600px){div{width:50px}}"
    check = {"why": "wide", "level": "must", "style": {"css": "div", "property": "width", "is": "700px"}}
    (result,) = measure(f"{TOP}<style>{style}</style><div>x</div>", check).checks or ()
    assert result.passed, result.detail


@pytest.mark.parametrize(
    "component",
    [
        "<div><template shadowrootmode=open>%s</template></div>",
        "<div><template shadowrootmode=open><div><template shadowrootmode=open>%s</template></div></template></div>",
        "<div><template shadowrootmode=open><slot></slot></template>%s</div>",
    ],
)
def test_the_words_of_a_component_are_blocks(measure: Measure, component: str) -> None:
    plain, other = measure(TOP + WORDS), measure(TOP + component % "<p>nothing of that sort at all</p>")
    page = measure(TOP + component % WORDS)
    assert visual_similarity(page, plain).value == pytest.approx(100.0)
    assert visual_similarity(page, other).value == 0.0


def test_words_in_a_slot_stand_on_what_is_behind_the_slot(measure: Measure) -> None:
    component = "<div style='color:#fff'><template shadowrootmode=open><p style='background:#000'><slot></slot></p>"
    page = measure(f"{TOP}{component}</template>white words</div>")
    assert page.text_faults["invisible"] == 0
    assert [block.text for block in page.blocks or () if block.kind == "text"] == ["white words"]


@pytest.mark.parametrize(
    ("component", "shown"),
    [
        ("<template shadowrootmode=open><b>New!</b></template>New", "Some text New!"),
        ("<template shadowrootmode=open><slot>nothing</slot></template>New", "Some text New"),
        ("<template shadowrootmode=open><slot>nothing</slot></template>", "Some text nothing"),
    ],
)
def test_words_that_a_component_does_not_show_are_none(measure: Measure, component: str, shown: str) -> None:
    page = measure(f"{TOP}<p>Some <span>{component}</span> text")
    assert page.text_faults["zero_size"] == 0
    (block,) = page.blocks or ()
    words = block.text.split()
    assert sorted(words) == sorted(shown.split()) and block.x == 8


def test_words_in_an_element_without_a_box_are_seen(measure: Measure) -> None:
    page, plain = (measure(f"{TOP}<p style='display:{how}'>Hello</p>") for how in ("contents", "inline"))
    assert page.blocks == plain.blocks != ()


def test_formulas_are_graphics(measure: Measure) -> None:
    pages = ["<math><mi>x</mi><mo>=</mo><mn>5</mn></math>", "<math><mfrac><mi>a</mi><mi>b</mi></mfrac></math>"]
    first, second = (measure(TOP + page) for page in pages)
    assert visual_similarity(first, first).value == pytest.approx(100.0)
    assert (visual_similarity(first, second).value or 0.0) < 90


@pytest.mark.parametrize("doctype", ["<!DOCTYPE html>", ""])
def test_what_is_placed_freely_scrolls_the_page_with_a_doctype_or_without(measure: Measure, doctype: str) -> None:
    wide = "<div style='position:absolute;left:0;width:1700px;height:9px;background:red'></div>"
    tall = "<p style='position:absolute;top:2500px'>below</p>"
    page = measure(f"{doctype}<title>Page</title><body>{wide}{tall}")
    assert page.overflow == {"1280": 420, "375": 1325}
    with Image.open(io.BytesIO(page.screenshots["desktop"])) as image:
        assert image.height > 2500


@pytest.mark.parametrize("opened", ["", "document.open(); "])
def test_a_document_that_is_written_anew_and_never_closed_is_there(measure: Measure, opened: str) -> None:
    page = measure(f"{TOP}<p>old<script>onload = () => {{ {opened}document.write('<p>new') }}</script>")
    assert page.outcome == "ok" and page.visible_text == "new"
