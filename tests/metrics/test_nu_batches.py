from __future__ import annotations

import json
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from harness.metrics import nu, nu_batch, nu_server

GOOD = '<!DOCTYPE html><html lang="en"><title>T</title><p>x</p></html>'


def fake_java(folder: Path, body: str) -> nu.NuChoice:
    """A stand-in for a JVM without a servlet that fails where `body` says so; it gets the file names as `files`."""
    program = folder / "java"
    code = f"#!{sys.executable}\nimport json, os, sys\nfiles = [a for a in sys.argv if a.endswith('.html')]\n"
    code += "if not files:\n    sys.exit('there is no such class')\n"
    program.write_text(code + textwrap.dedent(body), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return nu.NuChoice(str(program), "vnu.jar", "0", "fake")


def silent(reports: list[nu.NuReport | None]) -> list[bool]:
    assert None not in reports
    return [bool(report.silent) for report in reports if report is not None]


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
    assert deep is not None
    assert deep.silent.startswith(nu.OVERRAN)


def test_fragments_are_wrapped_and_keep_their_lines(nu_choice: nu.NuChoice) -> None:
    row, form = nu.check_pages(["<tr><td>1</td></tr>", "<form>\n<b>x\n</form>"], ["fragment", "fragment"])
    assert row == nu.NuReport((), ())
    assert form is not None
    assert {m.line for m in form.errors} <= {1, 2, 3}


def test_without_nu_pages_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nu, "find_nu", lambda: None)
    assert nu.check_pages([GOOD, GOOD]) == [None, None]


def test_where_the_servlet_does_not_start_a_page_that_kills_the_jvm_costs_no_other_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = fake_java(
        tmp_path,
        """
        if any("DEADLY" in open(name).read() for name in files):
            os.abort()
        print(json.dumps({"messages": []}))
        """,
    )
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    assert silent(nu.check_pages([GOOD, GOOD, "DEADLY", GOOD, GOOD])) == [False, False, True, False, False]


def test_where_the_servlet_does_not_start_a_page_that_hangs_costs_its_deadline_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = fake_java(
        tmp_path,
        """
        import time
        if any("SLOW" in open(name).read() for name in files):
            time.sleep(60)
        print(json.dumps({"messages": []}))
        """,
    )
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    monkeypatch.setattr(nu_batch, "_START_SECONDS", 1.0)
    monkeypatch.setattr(nu_batch, "_SECONDS_PER_PAGE", 0.1)
    monkeypatch.setattr(nu_batch, "PAGE_SECONDS", 1.0)
    fine, slow = nu.check_pages([GOOD, "SLOW"])
    assert fine == nu.NuReport(())
    assert slow is not None
    assert slow.silent.startswith(nu.OVERRAN)


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


def test_a_page_that_nu_itself_could_not_check_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"type": "non-document-error", "subType": "internal", "url": "file:/x/1.html", "message": "Oops."}
    choice = fake_java(tmp_path, f"print({json.dumps({'messages': [said]})!r})")
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    assert silent(nu.check_pages([GOOD, GOOD])) == [False, True]


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("<div>" * 1001, "open elements"),
        ("<b></i>" * 1001, "open elements"),
        ("x" * 1_000_001, "characters"),
        ("<p " + " ".join(f"a{n}" for n in range(2_001)) + ">", "attributes"),
        ("<p " + " ".join(f"a{n}" for n in range(1_000)) + ">x" + "<p a b c>" * 1000, None),
        ("<div></div>" * 5000, None),
        ("<ul>" + "<li>x" * 5000 + "</ul>", None),
        ("<p>a<br>" * 5000, None),
    ],
)
def test_pages_that_would_take_nu_minutes_are_named_and_not_given_to_it(page: str, why: str | None) -> None:
    found = nu.too_much(page)
    assert found is None if why is None else why in str(found)
    assert found is None or found.startswith(nu.OVERRAN)


def test_a_page_left_out_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = fake_java(tmp_path, "print(json.dumps({'messages': []}))")
    monkeypatch.setattr(nu, "find_nu", lambda: choice)
    assert silent(nu.check_pages([GOOD, "<div>" * 2000, GOOD])) == [False, True, False]


def test_the_servlet_says_what_the_command_line_says(nu_choice: nu.NuChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts and their order; the columns of some tokenizer errors differ by one."""
    monkeypatch.setattr(nu_batch, "_PAGES_PER_JVM", 200)
    folder = Path(__file__).parent / "corpus"
    pages = [path.read_bytes() for path in sorted(folder.rglob("*.html"))]
    pages += [b"", b"x", "<p>caf\u00e9 \u5b57".encode(), b"<!DOCTYPE html><meta charset=latin1><title>\xc3\xa9</title>"]
    pages += [b'<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd"><p>x']
    pages += [
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><p>x",
        b"\xef\xbb\xbf<p>x",
        b"<div>" * 900,
    ]
    served = nu_server.checkers(nu_choice.java, nu_choice.jar).check(pages)
    batched = nu_batch.check(nu_choice.java, nu_choice.jar, pages)

    def errors(said: list[dict[str, object]] | str) -> list[object]:
        assert not isinstance(said, str)
        return [message["message"] for message in said if message["type"] == "error"]

    assert [errors(said) for said in served] == [errors(said) for said in batched]
