from __future__ import annotations

from pathlib import Path

import pytest

from harness.metrics import form, nu
from harness.metrics.extract import extract
from harness.metrics.facts import page_facts
from harness.metrics.html5 import tree_errors
from harness.metrics.metric import Evidence, NuReport
from harness.metrics.registry import messages, score_page
from harness.metrics.wrap import as_document
from harness.types import Message, Task

CORPUS = Path(__file__).parent / "corpus"
PAGES = {label: sorted((CORPUS / label).glob("*.html")) for label in ("valid", "syntax", "rules", "gross")}

MISSED_BY_NU = {"unknown-entity", "obsolete-attributes"}
"""Nu only warns of attributes that are obsolete, and says nothing of a name that no entity has."""


def evidence(text: str, reason: str | None = "eos", **task: object) -> Evidence:
    details = Task(id="t", prompt="p", **task)  # type: ignore[arg-type]
    return Evidence(details, text, extract(text, reason, details.scope))


def values(text: str, **task: object) -> dict[str, float | None]:
    return {name: score.value for name, score in score_page(evidence(text, **task)).items()}


def test_the_corpus_is_large_enough() -> None:
    assert sum(map(len, PAGES.values())) >= 60


@pytest.mark.parametrize("page", PAGES["valid"], ids=lambda p: p.stem)
def test_valid_pages_raise_no_alarm(page: Path) -> None:
    scores = values(page.read_text(encoding="utf-8"))
    assert [scores[tier] for tier in ("extracted", "parses", "well_formed", "lxml_clean")] == [1, 1, 1, 1]


@pytest.mark.parametrize("page", PAGES["gross"], ids=lambda p: p.stem)
def test_what_is_no_page_does_not_parse(page: Path) -> None:
    scores = values(page.read_text(encoding="utf-8"))
    assert (scores["parses"], scores["well_formed"]) == (0, 0)


@pytest.mark.parametrize("page", PAGES["syntax"], ids=lambda p: p.stem)
def test_broken_syntax_is_not_well_formed(page: Path) -> None:
    scores = values(page.read_text(encoding="utf-8"))
    assert scores["parses"] == 1
    assert scores["well_formed"] == 0


def test_nu_agrees_with_the_labels(nu_choice: nu.NuChoice) -> None:
    pages = [(label, path.stem, path.read_text(encoding="utf-8")) for label in PAGES for path in PAGES[label]]
    reports = nu.check_pages([text for _, _, text in pages])
    wrong = {
        f"{label}/{name}"
        for (label, name, _), report in zip(pages, reports, strict=True)
        if report is None or (label == "valid") != (not report.errors)
    }
    assert {name.partition("/")[2] for name in wrong} <= MISSED_BY_NU, wrong


def test_a_missing_doctype_counts_unless_the_suite_ignores_it() -> None:
    page = "<html><head><title>T</title></head><body><p>x</p></body></html>"
    assert values(page)["well_formed"] == 0
    scores = values(page, ignore=frozenset({"missing-doctype"}))
    assert (scores["well_formed"], scores["doctype"], scores["titled"], scores["closed"]) == (1, 0, 1, 1)


def test_what_nu_says_of_doctype_and_title_can_be_ignored_and_css_never_counts() -> None:
    said = NuReport(
        errors=(
            Message("nu", "Start tag seen without seeing a doctype first. Expected “<!DOCTYPE html>”."),
            Message("nu", "Element “head” is missing a required instance of child element “title”."),
        ),
        css=(Message("nu-css", "CSS: “colour”: Property “colour” doesn't exist."),),
    )
    ignore = frozenset({"missing-doctype", "missing-title"})
    page = extract("<p>x")
    assert form.conforming(Evidence(Task("t", "p", ignore=ignore), "<p>x", page, nu=said)).value == 1
    assert form.conforming(Evidence(Task("t", "p"), "<p>x", page, nu=said)).value == 0
    only_title = NuReport(said.errors[1:])
    assert (
        form.conforming(Evidence(Task("t", "p", ignore=frozenset({"missing-doctype"})), "", page, nu=only_title)).value
        == 0
    )


def test_conforming_is_null_with_the_install_line_where_nu_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nu, "find_nu", lambda: None)
    for text in ("<p>x", "no page"):
        score = form.conforming(evidence(text))
        assert score.value is None
        assert nu.INSTALL_HINT in score.note


@pytest.mark.parametrize(
    "fragment",
    [
        "<form><button>Go</button></form>",
        "<tr><td>1</td></tr>",
        "<td>1</td>",
        "<li>1</li>",
        "<option>1</option>",
        "<dt>a</dt><dd>b</dd>",
        "<thead><tr><th>1</th></tr></thead>",
        '<meta name="a" content="b">',
        "<title>T</title>",
        "<!-- rows --><tr><td>1</td></tr>",
        "just <b>text</b>",
    ],
)
def test_fragments_are_wrapped_in_what_they_need(fragment: str) -> None:
    document, offset = as_document(fragment, "fragment")
    assert offset == 1
    assert tree_errors(document) == []
    scores = values(fragment, scope="fragment")
    assert scores["well_formed"] == 1
    assert not {"doctype", "titled", "closed"} & set(scores)


def test_a_fragment_written_as_a_document_is_judged_as_one() -> None:
    assert values("<html><body><form></form></body></html>", scope="fragment")["well_formed"] == 0


def test_messages_of_fragments_carry_the_authors_lines() -> None:
    found = messages(evidence("<form>\n<p>\n<b>x</p>\n</form>", scope="fragment"))
    assert {m.line for m in found if m.source == "html5lib"} <= {3, 4}
    assert found


def test_prose_that_mentions_a_tag_is_not_a_page() -> None:
    assert values("Dear <name>, <b></b>")["parses"] == 0


@pytest.mark.parametrize(
    ("start", "standard"),
    [
        ("<!DOCTYPE html>", True),
        ("<!doctype HTML>\n", True),
        ("<!-- hi --><!DOCTYPE html>", True),
        ('<!DOCTYPE html SYSTEM "about:legacy-compat">', True),
        ('<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 3.2//EN">', False),
        ("<p>early</p><!DOCTYPE html>", False),
        ("", False),
    ],
)
def test_doctype(start: str, standard: bool) -> None:
    assert page_facts(f"{start}<title>T</title>", "document").doctype is standard


def test_a_title_in_svg_or_without_text_is_no_title() -> None:
    assert not page_facts("<title> </title><p>x", "document").title
    assert not page_facts("<svg><title>Dot</title></svg>", "document").title


def test_every_position_of_a_template_error_points_into_the_source() -> None:
    html = "<!DOCTYPE html>\n<title>T</title>\n<template>\n  <b><i>x</b></i></template>"
    assert [(m.line, m.source) for m in tree_errors(html)] == [(4, "html5lib")] * 2
