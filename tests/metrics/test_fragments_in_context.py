"""Fragments stand where they would stand: nothing of the wrapper is held against them, and nothing is lost in it."""

from __future__ import annotations

import pytest

from harness.metrics import nu
from harness.metrics.extract import extract
from harness.metrics.facts import page_facts
from harness.metrics.html5 import tree_errors
from harness.metrics.metric import Evidence
from harness.metrics.registry import score_page
from harness.metrics.wrap import bare, wrap
from harness.types import Score, Task

LINK = '<link rel="stylesheet" href="https://cdn.jsdelivr.net/npm/bootstrap@5.3.0/dist/css/bootstrap.min.css">'
FORM = '<form action="/x"><label>Name <input name="n"></label> <button>Send</button></form>'

FINE = [
    "<tr><td>1</td></tr>",
    "<td>1</td><td>2</td>",
    "<th>1</th>",
    "<caption>c</caption>",
    "<col span=2>",
    "<colgroup><col><col></colgroup>",
    "<col><tr><td>1</td></tr>",
    "<thead><tr><th>1</th></tr></thead><tbody><tr><td>1</td></tr></tbody>",
    "<li>1</li><li>2</li>",
    "<dt>a</dt><dd>b</dd>",
    "<dd>b</dd>",
    "<option>1</option>",
    "<optgroup label=x><option>1</option></optgroup>",
    "<legend>x</legend><input aria-label=a>",
    "<summary>s</summary><p>x</p>",
    "<figcaption>x</figcaption><p>y</p>",
    "<rp>(</rp><rt>x</rt><rp>)</rp>",
    '<source src="a.mp4">',
    '<source srcset="a.png">',
    '<track src="a.vtt" kind="captions" srclang=en label=x>',
    '<area shape="rect" coords="0,0,1,1" href="#" alt="x">',
    '<circle cx="5" cy="5" r="4"/>',
    '<stop offset="0"/>',
    '<feGaussianBlur stdDeviation="2"/>',
    "<tspan>x</tspan>",
    "<mi>x</mi><mo>+</mo><mn>1</mn>",
    "<mtd><mi>x</mi></mtd>",
    f"{LINK}\n{FORM}",
    f"{FORM}\n{LINK}",
    f'<meta charset="utf-8">{FORM}',
    '<meta name=viewport content="width=device-width">\n\n<title>x</title>\n<p>x</p>',
    '<meta name="a" content="b">',
    "<title>T</title>",
    "<style>td{color:red}</style><tr><td>1</td></tr>",
    "<style>p{color:red}</style><script>document.body.id</script><p>x</p>",
    "<script>document.body.id</script><p>x</p>",
    '<base href="/x/"><a href="y">z</a>',
    f"<!-- rows -->{LINK}<tr><td>x</td></tr>",
    "text <b>x</b>",
    "<body><p>x</p></body>",
    "<head><meta charset=utf-8></head><p>x</p>",
    "<svg><title>x</title></svg>",
    "<template><tr><td>x</td></tr></template>",
    f'<!DOCTYPE html><html lang="en"><head><title>T</title></head><body>{FORM}</body></html>',
]


def scores(page: str, reference: str = "", report: nu.NuReport | None = None) -> dict[str, Score]:
    task = Task("t", "p", reference=reference, scope="fragment")
    return score_page(Evidence(task, page, extract(page, "eos", "fragment"), nu=report))


@pytest.mark.parametrize("fragment", FINE)
def test_parsers_find_no_error_of_ours(fragment: str) -> None:
    facts = page_facts(fragment, "fragment")
    assert not facts.errors
    assert tree_errors(bare(fragment, "fragment").html) == []
    assert facts.elements > 0
    assert facts.content
    document = wrap(fragment, "fragment")
    assert document.html.count("\n") - fragment.count("\n") in (0, 2)
    assert document.offset == bare(fragment, "fragment").offset


def test_nu_finds_no_error_of_ours(nu_choice: nu.NuChoice) -> None:
    reports = nu.check_pages(FINE, ["fragment"] * len(FINE))
    found = {page: report for page, report in zip(FINE, reports, strict=True) if report != nu.NuReport(())}
    assert found == {}


def test_a_fault_of_the_author_is_still_found(nu_choice: nu.NuChoice) -> None:
    pages = [f"{LINK}\n<form><b>x</form>", "<tr><td>1</td>x</tr>", "<td><p>x</b></td>", "<option><div></option></i>"]
    pages += ["<col span=2><tr><td>1</td></tr>", "<p>x</p><title>T</title>", f"{FORM}<style>p{{}}</style>"]
    for page, report in zip(pages, nu.check_pages(pages, ["fragment"] * len(pages)), strict=True):
        assert report is not None
        assert report.errors, page
    for page in pages[:4]:
        assert scores(page)["well_formed"].value == 0, page


@pytest.mark.parametrize(
    ("reference", "same", "other"),
    [
        ("<tr><td>compass</td><td><b>24</b></td></tr>", "<table><tr><td>compass</td><td><b>24</b></td></tr></table>",
         "<tr><td>compass <b>24</b></td></tr>"),
        ("<td>a</td><td>b</td>", "<table><tbody><tr><td>a</td><td>b</td></tr></tbody></table>", "<td>a b</td>"),
        ("<option>red</option><option>blue</option>", "<select><option>red</option><option>blue</option></select>",
         "<option>red blue</option>"),
        ("<li>one</li><li>two</li>", "<ul><li>one</li><li>two</li></ul>", "<li>one two</li>"),
        ('<circle r="4"/><rect width="3"/>', '<svg><circle r="4"/><rect width="3"/></svg>', '<circle r="4"/>'),
    ],
)  # fmt: skip
def test_the_same_elements_score_the_same_with_and_without_what_must_stand_around_them(
    reference: str, same: str, other: str
) -> None:
    for page in (reference, same):
        found = scores(page, reference)
        assert [found[name].value for name in ("bleu_dom", "tree_bleu_f1", "tag_similarity")] == [100, 100, 100]
    assert (scores(other, reference)["bleu_dom"].value or 0) < 80


def test_an_empty_fragment_has_no_content_of_ours() -> None:
    for page in ("<tr></tr>", "<li></li>", "<option></option>", "<td></td>"):
        assert scores(page)["parses"].value == 0


def test_the_head_takes_metadata_and_the_body_what_follows() -> None:
    document = wrap(f"{LINK}<style>p{{}}</style>\n<script>1</script><p>x", "fragment").html
    assert document.index("<style>") < document.index("</head><body>") < document.index("<script>")


def test_a_document_is_left_alone_in_every_suite() -> None:
    page = "<tr><td>1</td></tr>"
    assert wrap(page, "document").html == page
    assert "<td>" not in page_facts(page, "document").dom_tokens


@pytest.mark.parametrize("piece", ["<title>", "<style>", "<!--", "<meta ", '<link a="', "<!-- a -->", "<meta>"])
def test_a_beginning_repeated_without_end_is_wrapped_in_time(piece: str) -> None:
    assert wrap(piece * 100_000, "fragment").offset == 1
