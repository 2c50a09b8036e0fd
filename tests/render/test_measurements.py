from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest
from PIL import Image

from harness.render import Deadlines, Renderer, RenderRequest, RenderSettings
from harness.types import Rendering

Measure = Callable[..., Rendering]
TOP = '<!DOCTYPE html><html lang="en"><title>Page</title>'


def test_a_plain_page_is_measured_in_full(measure: Measure) -> None:
    page = measure(f"{TOP}<h1>Hello</h1>\n<p>big   world</p>")
    assert page.outcome == "ok"
    assert page.visible_text == "Hello big world"
    assert page.visible_characters == len("Hello big world")
    assert page.overflow == {"1280": 0, "375": 0}
    assert page.text_faults == {"clipped": 0, "zero_size": 0, "invisible": 0}
    assert page.painted_share is not None and 0.0005 < page.painted_share < 0.05
    assert page.errors == page.console_errors == page.blocked == ()
    assert page.accessibility is None
    for name, width in (("desktop", 1280), ("phone", 375)):
        with Image.open(io.BytesIO(page.screenshots[name])) as image:
            assert image.size == (width, 800)
            assert image.mode == "P"
        assert len(page.screenshots[name]) < 20_000


def test_tall_pages_are_shown_to_8000_px(measure: Measure) -> None:
    page = measure(f"{TOP}<p>top</p><div style='height:3000px'></div><p>bottom</p>")
    with Image.open(io.BytesIO(page.screenshots["desktop"])) as image:
        assert 3000 < image.height < 3200
    page = measure(f"{TOP}<p>top</p><div style='height:400000px'></div>")
    with Image.open(io.BytesIO(page.screenshots["phone"])) as image:
        assert image.size == (375, 8000)


def test_painted_share_is_the_share_that_is_not_background(measure: Measure) -> None:
    page = measure(f"{TOP}<style>body{{margin:0}}div{{background:red;width:50%;height:400px}}</style><div></div>")
    assert page.painted_share == pytest.approx(0.25, abs=0.001)
    assert page.outcome == "ok"


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<p style='color:#fff'>white on white</p>", "invisible"),
        ("<div style='background:#123456'><p style='color:#123456'>same</p></div>", "invisible"),
        ("<p style='opacity:0'>see-through</p>", "invisible"),
        ("<p style='font-size:0'>nothing</p>", "zero_size"),
        ("<div style='width:60px;overflow:hidden;white-space:nowrap'>a line far too long for its box</div>", "clipped"),
        ("<div style='height:10px;overflow:hidden'>one<br>two<br>three</div>", "clipped"),
    ],
)
def test_text_that_nobody_can_read_is_counted(measure: Measure, html: str, fault: str) -> None:
    faults = measure(TOP + "<h1>Page</h1>" + html).text_faults
    assert faults[fault] == 1
    assert sum(faults.values()) == 1


@pytest.mark.parametrize(
    "html",
    [
        "<p style='display:none'>hidden on purpose</p>",
        "<p style='visibility:hidden'>hidden on purpose</p>",
        "<span style='position:absolute;width:1px;height:1px;overflow:hidden;clip:rect(0,0,0,0)'>for readers</span>",
        "<div style='overflow:auto;height:20px'>one<br>two<br>three</div>",
        "<select><option>a<option>b</select><meter value=1>one</meter><progress>some</progress>",
        "<div style='background:linear-gradient(#000,#111)'><p style='color:#fff'>white on dark</p></div>",
        "<div style='position:relative;height:50px;background:#000'><p style='position:fixed;color:#fff'>x</p></div>",
        "<details><summary>More</summary><p>closed</p></details>",
    ],
)
def test_text_that_is_fine_is_no_fault(measure: Measure, html: str) -> None:
    assert sum(measure(TOP + "<h1>Page</h1>" + html).text_faults.values()) == 0


def test_overflow_is_told_by_width(measure: Measure) -> None:
    page = measure(f"{TOP}<style>body{{margin:0}}</style><div style='width:500px'>x</div>")
    assert page.overflow == {"1280": 0, "375": 125}


def test_errors_and_console_errors_are_kept_apart(measure: Measure) -> None:
    page = measure(f"{TOP}<p>x<script>console.error('said'); Promise.reject(new Error('rejected')); nowhere()</script>")
    assert page.outcome == "script-error"
    assert any("nowhere is not defined" in error for error in page.errors)
    assert any("rejected" in error for error in page.errors)
    assert any("said" in line for line in page.console_errors)


def test_every_page_sees_the_same_place_and_time(measure: Measure) -> None:
    script = """document.body.textContent = [new Date().toISOString().slice(0, 16), Date.now() - new Date() < 50,
      new Date(2020, 0, 5).getDate(), navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone,
      matchMedia('(prefers-reduced-motion: reduce)').matches, matchMedia('(prefers-color-scheme: light)').matches,
      innerWidth, innerHeight, devicePixelRatio, navigator.onLine].join(' ')"""
    page = measure(f"{TOP}<body><script>{script}</script>")
    assert page.visible_text == "2025-01-15T12:00 true 5 en-US UTC true true 1280 800 1 false"


@pytest.mark.parametrize(
    "script",
    [
        "const say = new SpeechSynthesisUtterance('hi'); say.rate = 2; speechSynthesis.speak(say)",
        "speechSynthesis.getVoices().forEach(voice => voice.name); speechSynthesis.onvoiceschanged = () => {}",
        "Notification.requestPermission().then(said => { if (said === 'granted') new Notification('hi') })",
        "navigator.clipboard.writeText('hi')",
    ],
)
def test_what_desktop_browsers_have_is_no_fault_of_the_page(measure: Measure, script: str) -> None:
    page = measure(f"{TOP}<p>before<script>{script}; document.body.append(' after')</script>")
    assert (page.outcome, page.visible_text) == ("ok", "before after")


def test_a_page_is_told_that_it_copied(measure: Measure) -> None:
    copy = "navigator.clipboard.writeText('x').then(() => this.textContent = 'Copied!')"
    button = f'<button onclick="{copy}">Copy</button>'
    steps = [{"click": {"role": "button", "name": "Copy"}}, {"see": {"text": "Copied!"}}]
    (result,) = measure(TOP + button, {"why": "says so", "level": "must", "steps": steps}).checks or ()
    assert result.passed, result.detail


def test_nothing_is_left_for_the_next_page(measure: Measure) -> None:
    leave = (
        "localStorage.k = 1; sessionStorage.k = 1; document.cookie = 'k=1'; window.name = 'k'; history.pushState(1, '')"
    )
    look = "[localStorage.k, sessionStorage.k, document.cookie, window.name, history.state, history.length].join()"
    assert measure(f"{TOP}<p>x<script>{leave}</script>").outcome == "ok"
    for _ in range(3):  # the same origin in whichever browser is free
        assert measure(f"{TOP}<body><script>document.body.textContent = {look}</script>").visible_text == ",,,,,2"


def test_axe_finds_what_is_missing(browser_there: None) -> None:
    pages = {"bad": "<!DOCTYPE html><p>x<img src='data:,'>", "good": f"{TOP}<main><h1>x</h1></main>"}
    with Renderer(RenderSettings(axe=True, screenshots=False, workers=1)) as renderer:
        done = renderer.render(RenderRequest(name, html) for name, html in pages.items())
    assert done["good"].accessibility == ()
    found = {violation["id"] for violation in done["bad"].accessibility or ()}
    assert {"document-title", "html-has-lang", "image-alt"} <= found
    assert done["good"].screenshots == {} and done["good"].outcome == "ok"


def test_rendering_twice_tells_stable_from_random(browser_there: None) -> None:
    pages = {
        "still": f"{TOP}<h1>Still</h1>",
        "random": f"{TOP}<body><script>document.body.textContent = Math.random()</script>",
    }
    with Renderer(RenderSettings(axe=False, twice=True, workers=1)) as renderer:
        done = renderer.render(RenderRequest(name, html) for name, html in pages.items())
    assert done["still"].stable is True
    assert done["random"].stable is False


def test_requests_are_read_as_they_are_needed_and_told_in_the_calling_thread() -> None:
    read: list[int] = []
    ahead: list[int] = []
    threads = set()

    def pages():
        for number in range(16):
            read.append(number)
            yield RenderRequest(f"p{number}", f"{TOP}<p>{number}")

    def done(request: RenderRequest, rendering: Rendering) -> None:
        ahead.append(len(read) - len(ahead))
        threads.add(threading.get_ident())
        assert set(rendering.screenshots) == {"desktop", "phone"}

    patient = RenderSettings(axe=False, workers=2, deadlines=Deadlines(load=20, measure=20, screenshot=20, page=60))
    with Renderer(patient) as renderer:
        result = renderer.render(pages(), done)
    assert [result[f"p{number}"].visible_text for number in range(16)] == [str(number) for number in range(16)]
    assert max(ahead) <= 5
    assert threads == {threading.get_ident()}
    assert all(not rendering.screenshots for rendering in result.values())
