from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.metrics.extract import extract
from harness.metrics.wrap import as_document
from harness.types import Scope

DOCUMENT = "<!DOCTYPE html>\n<html><body><p>Hi</p></body></html>"


@pytest.mark.parametrize(
    ("completion", "kind", "html"),
    [
        (DOCUMENT, "raw", DOCUMENT),
        (f"\n  {DOCUMENT}\n\n", "raw", DOCUMENT),
        ("<p>Hi</p>", "raw", "<p>Hi</p>"),
        ("<!-- note --><p>Hi</p>", "raw", "<!-- note --><p>Hi</p>"),
        (f"Sure!\n```html\n{DOCUMENT}\n```\nHope this helps.", "fenced", DOCUMENT),
        (f"```\n{DOCUMENT}\n```", "fenced", DOCUMENT),
        (f"~~~~ HTML title\n{DOCUMENT}\n~~~~", "fenced", DOCUMENT),
        ("```css\np{}\n```\n\n```html\n<p>Hi</p>\n```", "fenced", "<p>Hi</p>"),
        ("```html\n<p>Hi</p>``` done", "fenced", "<p>Hi</p>"),
        (f"Here you are: {DOCUMENT} That's all.", "wrapped", DOCUMENT),
        (f"{DOCUMENT}\n\n### Instruction:\nWrite <html><p>more</p></html>", "wrapped", DOCUMENT),
        (f"<think>a <b>page</b>?</think>\n{DOCUMENT}", "wrapped", DOCUMENT),
        ("Here is the `<form>`:\n<form></form>\n\nIt has no fields.", "wrapped", "<form></form>"),
        ("<p>Hi</p>\n\nThis code greets.", "wrapped", "<p>Hi</p>"),
        ("<html><p>One\n\nTwo", "raw", "<html><p>One\n\nTwo"),
        ("", "none", ""),
        ("Hello", "none", ""),
        ("I'm sorry, I cannot do that.", "none", ""),
        ("Use the <b> tag.", "none", ""),
        ("if 1 < 2 and 3 > 2: pass", "none", ""),
        ("```html\n```", "none", ""),
    ],
)
def test_kinds(completion: str, kind: str, html: str) -> None:
    page = extract(completion, "eos")
    assert (page.kind, page.html, page.truncated) == (kind, html, False)


def test_an_end_tag_in_a_script_a_comment_or_an_attribute_is_no_end() -> None:
    page = (
        "<html><!-- </html> --><script>const end = '</html>';</script>"
        "<iframe srcdoc=\"<html></html>\"></iframe>\r\n<p title='</html>'>é😀</p></html >"
    )
    assert extract(page + "\nbye").html == page


@pytest.mark.parametrize(
    ("completion", "reason", "scope", "truncated"),
    [
        ("<html><body><p>Hi", "length", "document", True),
        ("<html><body><p>Hi", "loop", "document", True),
        ("<html><body><p>Hi", "eos", "document", False),
        (DOCUMENT + "\n\nAnd now", "length", "document", False),
        ("```html\n<p>Hi", "length", "document", True),
        ("```html\n<p>Hi", "eos", "document", True),
        ("```html\n<p>Hi</p>\n```\nThis", "length", "fragment", False),
        ("<form>", "length", "fragment", True),
        ("Certainly! I will", "length", "document", True),
    ],
)
def test_truncation(completion: str, reason: str, scope: str, truncated: bool) -> None:
    assert extract(completion, reason, scope).truncated is truncated  # type: ignore[arg-type]


def test_a_completion_that_was_cut_off_keeps_its_tail() -> None:
    assert extract("<p>Hi</p>\n\nMore text", "length").html == "<p>Hi</p>\n\nMore text"


PIECES = ["<html>", "</html>", "<p>", "</p>", "<!doctype html>", "<!--", "-->", "<script>", "</script>", '<a b="']
PIECES += ["```", "```html\n", "~~~\n", "`", "<think>", "</think>", "text ", "\n", "\r", "\x00", "\ud800", "<", ">"]
WILD = st.text() | st.lists(st.sampled_from(PIECES)).map("".join)


@given(WILD, st.sampled_from(["eos", "stop", "length", "loop", None]), st.sampled_from(["document", "fragment"]))
@example("```<", "eos", "document")
def test_any_completion_gives_a_part_of_itself(completion: str, reason: str | None, scope: str) -> None:
    page = extract(completion, reason, scope)  # type: ignore[arg-type]
    assert page.html in completion
    assert page == extract(completion, reason, scope)  # type: ignore[arg-type]
    assert (page.kind == "none") == (page.html == "")
    assert page.html == page.html.strip()


@pytest.mark.parametrize("scope", ["document", "fragment"])
@pytest.mark.parametrize(
    "text",
    [
        "```" + "a" * 300_000 + "`",
        "```" + " " * 300_000 + "x",
        "~" * 300_000,
        "Hello " + "<p> " * 75_000,
        "<!-- a -->" * 30_000,
        "```\n" * 75_000,
    ],
    ids=["long label", "blank label", "tildes", "open tags on one line", "comments", "fences"],
)
def test_what_a_model_repeats_without_end_comes_back(text: str, scope: Scope) -> None:
    """A pattern that backtracks would not return from these within a day."""
    page = extract(text, "loop", scope)
    assert as_document(page.html, scope)[0].count(page.html) >= 1
