from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite.leakage import flag, groups
from harness.types import Task


def table(title: str, *cells: str) -> str:
    rows = "".join(f"<tr><td>{cell}</td></tr>" for cell in cells)
    return f"<html><head><title>{title}</title></head><body><table>{rows}</table></body></html>"


BREAD = Task(
    "bread", "Create a table of the breads we sell every day", reference=table("Breads", "rye", "spelt", "oat")
)
SAME_PROMPT = Task("same-prompt", "create a table of the breads we sell every day!", reference="<p>Something else</p>")
SAME_PAGE = Task(
    "same-page",
    "Show what a bakery has to offer",
    reference="<!doctype html><title>Breads</title>\n<TABLE>\n<tr><td>rye<tr><td>spelt<tr><td>oat</TABLE>",
)
OTHER = Task("other", "Draw a red circle with SVG", reference='<svg><circle r="5" fill="red"></circle></svg>')
INPUT = Task("input", "Fix this page", input="<p>one", reference="<p>one</p>")
OTHER_INPUT = Task("other-input", "Fix this page", input="<table><tr><td>a<td>b</table>", reference="<table></table>")


def test_near_duplicates_by_prompt_or_page_share_a_group() -> None:
    found = groups([BREAD, OTHER, SAME_PAGE, INPUT, SAME_PROMPT, OTHER_INPUT])
    assert [[t.id for t in g] for g in found] == [
        ["bread", "same-page", "same-prompt"],
        ["other"],
        ["input"],
        ["other-input"],
    ]


def test_flag_names_the_training_rows() -> None:
    assert flag([BREAD, OTHER], [SAME_PROMPT, SAME_PAGE, INPUT]) == {"same-prompt": ["bread"], "same-page": ["bread"]}
    assert flag([BREAD], []) == flag([], [BREAD]) == {}


def test_duplicates_among_held_out_tasks_alone_are_no_leak() -> None:
    assert flag([OTHER], [BREAD, SAME_PROMPT]) == {}


def test_a_split_by_groups_leaves_nothing_to_flag() -> None:
    tasks = [BREAD, OTHER, SAME_PAGE, INPUT, SAME_PROMPT, OTHER_INPUT]
    found = groups(tasks)
    for cut in range(len(found) + 1):
        train = [t for group in found[:cut] for t in group]
        assert flag(train, [t for group in found[cut:] for t in group]) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=8))
def test_any_tasks_are_grouped_each_once(texts: list[tuple[str, str]]) -> None:
    tasks = [Task(str(i), prompt, reference=reference) for i, (prompt, reference) in enumerate(texts)]
    found = groups(tasks)
    assert sorted(t.id for g in found for t in g) == sorted(t.id for t in tasks)
    assert found == groups(tasks)


def test_html_alpaca() -> None:
    path = os.environ.get("HARNESS_TEST_HTML_ALPACA")
    if not path:
        pytest.skip("HARNESS_TEST_HTML_ALPACA names no file")
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    tasks = [Task(str(i), row["instruction"], row["input"], row["output"]) for i, row in enumerate(rows)]
    found = groups(tasks)
    assert max(map(len, found)) < 12, "no chain of likenesses swallows the suite"
    hello = next(g for g in found if any(t.id == "82" for t in g))
    assert {"82", "202", "263"} <= {t.id for t in hello}, "the Hello World pages"
