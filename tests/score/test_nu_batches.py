from __future__ import annotations

import json
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from harness.score import nu

GOOD = '<!DOCTYPE html><html lang="en"><title>T</title><p>x</p></html>'


def fake_java(folder: Path, body: str) -> nu.NuChoice:
    """A stand-in for a JVM that fails where `body` says so; it gets the file names as `files`."""
    program = folder / "java"
    code = f"#!{sys.executable}\nimport json, os, sys\nfiles = [a for a in sys.argv if a.endswith('.html')]\n"
    program.write_text(code + textwrap.dedent(body), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return nu.NuChoice(str(program), "vnu.jar", "0", "fake")


def test_real_pages(nu_choice: nu.NuChoice) -> None:
    pages = [
        GOOD,
        "<p>a</b>",
        GOOD.replace("<p>", '<p style="colour: red">'),
        GOOD.replace("x", "caf\u00e9 \ud800"),
        "",
        "<div>" * 3_000,
    ]
    good, broken, css, surrogate, empty, deep = nu.check_pages(pages)
    assert good == nu.NuReport((), ())
    assert broken is not None
    assert any("Stray end tag" in m.text and m.line == 1 and m.column for m in broken.errors)
    assert css is not None
    assert (css.errors, len(css.css)) == ((), 1)
    assert surrogate is not None
    assert surrogate.errors
    assert empty is not None
    assert empty.errors
    assert deep is None or deep.errors


def test_fragments_are_wrapped_and_keep_their_lines(nu_choice: nu.NuChoice) -> None:
    row, form = nu.check_pages(["<tr><td>1</td></tr>", "<form>\n<b>x\n</form>"], ["fragment", "fragment"])
    assert row == nu.NuReport((), ())
    assert form is not None
    assert {m.line for m in form.errors} <= {1, 2, 3}


def test_without_nu_pages_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nu, "find_nu", lambda: None)
    assert nu.check_pages([GOOD, GOOD]) == [None, None]


def test_one_page_that_kills_the_jvm_costs_no_other_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = fake_java(
        tmp_path,
        """
        if any("DEADLY" in open(name).read() for name in files):
            os.abort()
        print(json.dumps({"messages": []}))
        """,
    )
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    reports = nu.check_pages([GOOD, GOOD, "DEADLY", GOOD, GOOD])
    assert [report is None for report in reports] == [False, False, True, False, False]


def test_a_jvm_that_dies_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "tried"
    choice = fake_java(
        tmp_path,
        f"""
        if not os.path.exists({str(flag)!r}):
            open({str(flag)!r}, "w").close()
            sys.exit(3)
        print(json.dumps({{"messages": []}}))
        """,
    )
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    assert nu.check_pages([GOOD]) == [nu.NuReport((), ())]


def test_a_page_that_nu_itself_could_not_check_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"type": "non-document-error", "subType": "internal", "url": "file:/x/1.html", "message": "Oops."}
    choice = fake_java(tmp_path, f"print({json.dumps({'messages': [said]})!r})")
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    assert nu.check_pages([GOOD, GOOD]) == [nu.NuReport((), ()), None]


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("<div>" * 1001, "open elements"),
        ("<b></i>" * 1001, "open elements"),
        ("x" * 1_000_001, "characters"),
        ("<div></div>" * 5000, None),
        ("<ul>" + "<li>x" * 5000 + "</ul>", None),
        ("<p>a<br>" * 5000, None),
    ],
)
def test_pages_that_would_take_nu_minutes_are_named_and_not_given_to_it(page: str, why: str | None) -> None:
    found = nu.too_much(page)
    assert found is None if why is None else why in str(found)


def test_a_page_left_out_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = fake_java(tmp_path, "print(json.dumps({'messages': []}))")
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    reports = nu.check_pages([GOOD, "<div>" * 2000, GOOD])
    assert [report is None for report in reports] == [False, True, False]
