"""Pages that share a process come out as if alone, and know nothing of one another."""

from __future__ import annotations

import dataclasses
import sys

import psutil
import pytest

from harness.render import Deadlines, Renderer, RenderRequest, RenderSettings
from harness.types import Rendering

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages share a process on Linux only")

WRITES = """<!DOCTYPE html><title>x</title><p id=out>Writer</p><script>
document.cookie = 'left=1; max-age=9999'; document.cookie = 'left=1; domain=test; max-age=9999';
localStorage.left = sessionStorage.left = 1; name = 'left';
for (let i = 0; i < 5; i++) history.pushState({left: i}, '', '?left' + i);
indexedDB.open('left').onsuccess = () => {};
new BroadcastChannel('left').postMessage('left');
caches.open('left').then((cache) => cache.put('/left', new Response('left')));
setInterval(() => new BroadcastChannel('left').postMessage('left'), 5);
addEventListener('pagehide', () => { localStorage.later = name = 'later'; });
Date.left = Object.prototype.left = Array.prototype.left = 1;
</script>"""
READS = """<!DOCTYPE html><title>x</title><p id=out>Reader</p><script>
out.textContent = JSON.stringify([document.cookie, localStorage.length, sessionStorage.length, name, history.length,
  history.state, Date.left, [].left, opener, document.referrer, performance.getEntriesByType('navigation').length,
  navigator.serviceWorker.controller, location.search]);
</script>"""
TELLS = """<!DOCTYPE html><title>x</title><style>@media (hover: hover) { p { color: red } }</style><p>Tells
<p style='font-family:serif'>Serif<p style='font-family:cursive'>Cursive<p style='font-family:monospace'>Mono
<script>document.write([navigator.language, navigator.languages, navigator.onLine, navigator.userAgent, Date(),
Intl.DateTimeFormat().resolvedOptions().timeZone, Intl.NumberFormat().resolvedOptions().locale, screen.width,
screen.height, innerWidth, innerHeight, outerWidth, outerHeight, devicePixelRatio, document.hasFocus(),
document.visibilityState, history.length, navigator.webdriver, navigator.maxTouchPoints, navigator.platform,
...['(prefers-reduced-motion: reduce)', '(prefers-color-scheme: light)', '(pointer: fine)', '(forced-colors: active)',
'(prefers-contrast: more)', '(orientation: landscape)'].map((query) => matchMedia(query).matches)].join('<br>'))
console.error('said', 1);</script><img alt=missing src=missing.png><link rel=stylesheet href=https://cdn.example/x.css>"""
TALL = "<!DOCTYPE html><title>x</title><body style='margin:0'><p>Tall<div style='height:3000px;background:navy'></div>"
PLAIN = "<!DOCTYPE html><title>x</title><p>Plain"


def render(by: RenderSettings | Renderer, **pages: str) -> dict[str, Rendering]:
    if isinstance(by, RenderSettings):
        with Renderer(by) as renderer:
            return render(renderer, **pages)
    done: dict[str, Rendering] = {}
    by.render(
        (RenderRequest(key, html) for key, html in pages.items()),
        # Which of two things at once was said first is chance.
        lambda request, rendering: done.__setitem__(
            request.key,
            dataclasses.replace(rendering, seconds=0, console_errors=tuple(sorted(rendering.console_errors))),
        ),
    )
    return done


def test_a_page_comes_out_of_a_shared_process_as_out_of_its_own(visits: list[tuple[str, str, int]]) -> None:
    pages = {"writes": WRITES, "tells": TELLS, "tall": TALL, "reads": READS, "plain": PLAIN, "empty": ""}
    # what is asked is what comes out, not how long it takes: a page with axe is the heaviest
    settings = RenderSettings(workers=1, axe=True, deadlines=Deadlines(shared=20, shared_axe=20, close=20))
    shared = render(settings, **pages)
    assert [(key, why) for key, why, _ in visits] == [(key, "") for key in pages]
    assert len({process for *_, process in visits}) == 1
    alone = render(dataclasses.replace(settings, shared_process=False), **pages)
    assert len(visits) == len(pages)
    for key in pages:
        assert shared[key] == alone[key]
    assert shared["tells"].outcome == "blocked-resource"
    assert "en-US" in shared["tells"].visible_text and "said 1" in shared["tells"].console_errors


def test_a_root_that_a_page_replaces_as_it_loads_is_measured_no_more(
    visits: list[tuple[str, str, int]], lane: Renderer
) -> None:
    page = "<p>Text<script>onload = () => document.documentElement.replaceWith(document.createElement('html'))</script>"
    done = render(lane, **{f"p{number}": page for number in range(6)})
    assert {(key, why) for key, why, _ in visits} == {(key, "") for key in done}
    assert {(rendering.outcome, rendering.visible_text) for rendering in done.values()} == {("blank", "")}


def test_nothing_of_a_page_reaches_the_next_one(visits: list[tuple[str, str, int]], lane: Renderer) -> None:
    first = render(lane, reads=READS)["reads"]
    assert first.visible_text.startswith('["",0,0,"",2,null,null,null,null,"",1,null,""]')
    later = render(RenderSettings(workers=1, axe=False), writes=WRITES, reads=READS)["reads"]
    assert later == first
    assert visits[1][2] == visits[2][2] != 0


def test_the_same_page_again_finds_nothing_of_itself(visits: list[tuple[str, str, int]]) -> None:
    counts = "<p>x<script>document.write(localStorage.visits = 1 + +(localStorage.visits || 0))</script>"
    with Renderer(RenderSettings(workers=1, axe=False, twice=True)) as renderer:
        done = [renderer.render([RenderRequest("same", counts)])["same"] for _ in range(2)]
    assert {(rendering.visible_text, rendering.stable) for rendering in done} == {("x1", True)}
    assert len(visits) == 4


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("<p>x<script>throw 1</script>", "an uncaught error"),
        ("<p>x<script>alert(1)</script>", "a dialog"),
        ("<p>x<script>new Worker('data:text/javascript,1')</script>", "a worker"),
        ("<p>x<script>new WebSocket('wss://home.example')</script>", "a socket"),
        ("<p>x<script>location = 'https://elsewhere.example/'</script>", "a navigation or a preflight"),
        ("<p>x<script>for (;;);</script>", "no answer in time"),
        ("<p>x<script>addEventListener('unload', () => { for (;;); })</script>", ""),
    ],
)
def test_the_process_of_a_page_that_misbehaves_is_thrown_away(
    visits: list[tuple[str, str, int]], lane: Renderer, page: str, why: str
) -> None:
    done = render(lane, before=PLAIN, bad=page, after=PLAIN)
    assert done["before"].outcome == done["after"].outcome == "ok"
    (_, _, process), (_, said, _), (_, _, later) = visits
    assert said == why or not why
    assert process != later or not why


def test_processes_are_recycled(visits: list[tuple[str, str, int]]) -> None:
    settings = RenderSettings(workers=1, axe=False, pages_per_process=2, pages_per_browser=5)
    done = render(settings, **{f"p{number}": PLAIN for number in range(6)})
    assert {rendering.outcome for rendering in done.values()} == {"ok"}
    processes = [process for *_, process in visits]
    assert processes[0] == processes[1] != processes[2] == processes[3] != processes[4] != processes[5]


def test_a_lane_whose_browser_dies_goes_on_with_another(browser_there: None) -> None:
    with Renderer(RenderSettings(workers=1, axe=False)) as renderer:
        assert renderer.render([RenderRequest("a", PLAIN)])["a"].outcome == "ok"
        assert renderer._pool is not None
        slot = renderer._pool._all[0]
        assert slot.shared is not None and slot.shared._connection is not None
        first = slot.shared.pid
        slot.shared._connection.kill()
        assert renderer.render([RenderRequest("b", PLAIN)])["b"].outcome == "ok"
        assert renderer.render([RenderRequest("c", PLAIN)])["c"].outcome == "ok"
        assert slot.shared.pid != first


def test_both_browsers_start_with_the_arguments_of_playwright_and_the_safeguards(browser_there: None) -> None:
    """Playwright's own change with its versions: what one kind of page gets, the other gets too."""
    with Renderer(RenderSettings(workers=1, axe=False)) as renderer:
        done = renderer.render([RenderRequest("shared", PLAIN), RenderRequest("alone", "<p>x<script>throw 1</script>")])
        assert {key: rendering.outcome for key, rendering in done.items()} == {"shared": "ok", "alone": "script-error"}
        assert renderer._pool is not None
        slot = renderer._pool._all[0]
        (browser,) = renderer._pool._browsers()
        alone, shared = (
            {argument for argument in process.cmdline() if argument.startswith("--")}
            for process in (browser, psutil.Process(slot.shared.pid if slot.shared else None))
        )

    def features(arguments: set[str]) -> set[str]:
        (listed,) = (each for each in arguments if each.startswith("--disable-features="))
        return set(listed.removeprefix("--disable-features=").split(","))

    assert features(shared) - features(alone) == {
        "IsolateOrigins",
        "site-per-process",
        "SpareRendererForSitePerProcess",
    }
    assert features(alone) <= features(shared)
    differ = {each.partition("=")[0] for each in alone ^ shared}
    assert differ == {
        "--disable-features",
        "--disable-site-isolation-trials",
        "--renderer-process-limit",
        "--lang",
        "--user-data-dir",
    }
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in shared
