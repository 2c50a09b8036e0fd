from __future__ import annotations

from collections.abc import Callable

from harness.checks.parse import parse_check
from harness.render import Renderer
from harness.render.tasks import render_task_pages, task_request
from harness.types import Rendering, Task

CHECK = parse_check({"why": "says hi", "level": "must", "see": {"text": "hi"}})
PAGE = "<!DOCTYPE html><p>hi"


def test_equal_pages_are_one_request_unless_their_checks_differ() -> None:
    plain, other = Task("a", "p"), Task("b", "q")
    checked = Task("a", "p", checks=(CHECK,))
    assert task_request(plain, PAGE) == task_request(other, PAGE)
    assert len({task_request(task, PAGE).key for task in (plain, checked, Task("b", "q", checks=(CHECK,)))}) == 3
    assert task_request(plain, PAGE).html == PAGE


def test_a_fragment_is_shown_inside_a_document(renderer: Renderer, measure: Callable[..., Rendering]) -> None:
    cell, row = Task("a", "p", scope="fragment"), "<tr><td>hi</td></tr>"
    shown, again, none = render_task_pages(renderer, [(cell, row), (Task("b", "q", scope="fragment"), row), (cell, "")])
    assert shown is not None
    assert shown is again
    assert none is None
    assert shown.dom_hash != measure(row).dom_hash, "without its table a row is mere text"
