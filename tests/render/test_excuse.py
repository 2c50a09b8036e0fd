from __future__ import annotations

import time

import pytest

from harness.render.excuse import ScriptError, own_errors

JQUERY = ("script", "https://code.jquery.com/jquery-3.7.1.min.js")
CHART = ("script", "https://cdn.jsdelivr.net/npm/chart.js")
OWN = ("script", "https://page.test/script.js")
FONT = ("font", "https://fonts.gstatic.com/s/roboto.woff2")
STYLE = ("stylesheet", "https://fonts.googleapis.com/css2?family=Roboto")
IMAGE = ("image", "https://page.test/cat.png")
BEACON = ("ping", "https://page.test/beacon")
DATA = ("fetch", "https://page.test/api.json")
MISSING_ELEMENT = ScriptError("Cannot read properties of null (reading 'addEventListener')", "TypeError")


def undefined(property_: str, script: str) -> tuple[ScriptError, str]:
    """The error that Chromium reports where `script` asks nothing for a property, and the page."""
    html = f"<!DOCTYPE html>\n<script>{script}</script>"
    column = html.splitlines()[1].index("." + property_) + 2
    return ScriptError(f"Cannot read properties of undefined (reading '{property_}')", "TypeError", 2, column), html


def missing(name: str) -> ScriptError:
    return ScriptError(f"{name} is not defined", "ReferenceError")


@pytest.mark.parametrize("refused", [FONT, STYLE, IMAGE, BEACON, DATA, JQUERY, CHART, OWN], ids=lambda r: r[1][-12:])
def test_a_missing_element_is_the_pages_own_fault_whatever_was_refused(refused: tuple[str, str]) -> None:
    assert own_errors([MISSING_ELEMENT], [refused], "") == [MISSING_ELEMENT]


@pytest.mark.parametrize(
    ("name", "refused", "excused"),
    [
        ("$", JQUERY, True),
        ("jQuery", JQUERY, True),
        ("Chart", CHART, True),
        ("google", ("script", "https://maps.googleapis.com/maps/api/js?key=1"), True),
        ("Splitting", ("script", "https://unpkg.com/splitting/dist/splitting.min.js"), True),
        ("startGame", OWN, True),
        ("startGame", JQUERY, False),
        ("Chart", JQUERY, False),
        ("$", FONT, False),
        ("$", STYLE, False),
        ("$", DATA, False),
        ("module", OWN, False),
    ],
)
def test_a_missing_name_is_excused_by_a_script_that_defines_it(
    name: str, refused: tuple[str, str], excused: bool
) -> None:
    assert (own_errors([missing(name)], [refused], "") == []) is excused


@pytest.mark.parametrize(
    ("text", "name", "refused", "excused"),
    [
        ("window.Chart is not a constructor", "TypeError", CHART, True),
        ("$(...).slick is not a function", "TypeError", ("script", "https://cdn.test/slick.min.js"), True),
        ("Cannot destructure property 'createApp' of 'window.Vue' as it is undefined.", "TypeError",
         ("script", "https://unpkg.com/vue@3"), True),
        ("list.foreach is not a function", "TypeError", CHART, False),
        ("Failed to fetch", "TypeError", DATA, True),
        ("Failed to fetch", "TypeError", JQUERY, False),
        ("Failed to fetch dynamically imported module: https://page.test/m.js", "TypeError", OWN, True),
        ("Failed to execute 'send' on 'XMLHttpRequest': Failed to load 'https://page.test/a'.", "NetworkError",
         ("xhr", "https://page.test/a"), True),
        ("Failed to execute 'drawImage' on 'CanvasRenderingContext2D': The HTMLImageElement provided is in the "
         "'broken' state.", "InvalidStateError", IMAGE, True),
        ("Failed to execute 'drawImage' on 'CanvasRenderingContext2D': The HTMLImageElement provided is in the "
         "'broken' state.", "InvalidStateError", FONT, False),
        ("A network error occurred.", "NetworkError", FONT, True),
        ("Cannot read properties of undefined (reading 'cssRules')", "TypeError", STYLE, True),
        ("Cannot read properties of undefined (reading 'cssRules')", "TypeError", FONT, False),
        ("Invalid or unexpected token", "SyntaxError", JQUERY, False),
        ("$ is not defined", "Error", JQUERY, False),
        ("my own words", "", JQUERY, False),
    ],
)  # fmt: skip
def test_each_kind_of_error_is_excused_by_its_own_kind_of_resource(
    text: str, name: str, refused: tuple[str, str], excused: bool
) -> None:
    assert (own_errors([ScriptError(text, name)], [refused], "") == []) is excused


@pytest.mark.parametrize(
    ("property_", "script", "refused", "excused"),
    [
        ("register", "window.Chart.register(1)", CHART, True),
        ("register", "window.Chart.register(1)", JQUERY, False),
        ("name", "const items = []; items[0].name", OWN, False),
        ("name", "const data = await load(); data.name", DATA, True),
        ("name", "const data = {}.x; data.name", DATA, False),
    ],
)
def test_where_the_error_was_thrown_tells_whose_property_is_missing(
    property_: str, script: str, refused: tuple[str, str], excused: bool
) -> None:
    error, html = undefined(property_, script)
    assert (own_errors([error], [refused], html) == []) is excused


def test_what_a_stopped_script_left_undefined_is_excused_with_it() -> None:
    html = "<script>const chart = new Chart()</script><script>chart.update(); other()</script>"
    assert own_errors([missing("Chart"), missing("chart"), missing("other")], [CHART], html) == [missing("other")]
    assert own_errors([missing("chart")], [CHART], html) == [missing("chart")]


def test_nothing_refused_excuses_nothing() -> None:
    assert own_errors([missing("$"), MISSING_ELEMENT], [], "") == [missing("$"), MISSING_ELEMENT]


@pytest.mark.parametrize(
    "piece", ["function ", "let{", "(X ", "X=a ", "(", "function(X", "X => ", "const [X,", "const X ", "X.", "X(", "(X"]
)
def test_no_page_makes_the_search_for_causes_slow(piece: str) -> None:
    html = piece * (1_000_000 // len(piece))
    errors = [missing("X"), ScriptError("Cannot read properties of undefined (reading 'a')", "TypeError", 1, 400_000)]
    started = time.process_time()
    own_errors(errors, [OWN, JQUERY, DATA], html)
    assert time.process_time() - started < 5
