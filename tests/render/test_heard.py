from __future__ import annotations

from harness.render.excuse import ScriptError
from harness.render.heard import LINE, Heard
from harness.render.settings import MAX_ERRORS, MAX_EVENTS


def test_lines_are_kept_once_shortened_and_not_without_end() -> None:
    heard = Heard()
    for number in range(2 * MAX_ERRORS):
        for _ in range(2):
            heard.say(f"{number} " + "x" * 1000)
            heard.fail(ScriptError(f"{number} " + "x" * 1000))
    for lines in (heard.console_errors, [error.text for error in heard.errors]):
        assert len(lines) == len(set(lines)) == MAX_ERRORS
        assert {len(line) for line in lines} == {LINE}


def test_the_icon_that_browsers_ask_for_by_themselves_is_no_refused_resource() -> None:
    heard = Heard()
    for path in ("favicon.ico", "a.png", "a.png"):
        heard.refuse(f"https://page.test/{path}", "image")
    assert heard.blocked == ["https://page.test/a.png"]
    assert heard.refused == [("image", "https://page.test/a.png")]


def test_a_flood_begins_once_and_says_of_what() -> None:
    heard = Heard()
    began = [heard.count("requests") for _ in range(MAX_EVENTS + 2)]
    assert began == [*[False] * MAX_EVENTS, True, False]
    assert not any(heard.count("windows") for _ in range(MAX_EVENTS + 2))
    assert heard.flood == f"more than {MAX_EVENTS} requests"
