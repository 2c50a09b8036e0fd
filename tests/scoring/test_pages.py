from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.render.browser import find_browser
from harness.scoring import pages
from harness.types import Rendering
from tests.conftest import ROOT, CommandLine
from tests.pipeline.test_faults import obeying_permissions

GOOD = '<!DOCTYPE html><html lang="en"><head><title>T</title></head><body><p>Hi</p></body></html>'


class Browser:
    """Stands in for the renderer: every page is fine. The real one has its own tests."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def render(self, requests: object) -> dict[str, Rendering]:
        pages = list(requests)  # type: ignore[call-overload]
        self.calls.append(len(pages))
        return {r.key: Rendering("ok", accessibility=(), overflow={"1280": 0}) for r in pages}


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    stand_in = Browser()
    monkeypatch.setattr(pages, "_renderer", lambda stack: (stand_in, ""))
    monkeypatch.setattr(pages.nu, "find_nu", lambda: None)
    return stand_in


def run(*paths: Path) -> tuple[int, list[dict[str, object]]]:
    lines: list[str] = []
    code = pages.audit_files(paths, lines.append, json=True)
    return code, [json.loads(line) for line in lines]


def test_a_good_file(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(GOOD, encoding="utf-8")
    code, (row,) = run(tmp_path / "a.html")
    assert code == 0
    assert set(row) == {"file", "outcome", "scores", "notes", "messages"}
    assert row["outcome"] == "ok"
    assert row["scores"]["well_formed"] == 1  # type: ignore[index]
    assert row["scores"]["conforming"] is None  # type: ignore[index]
    assert "not installed" in row["notes"]["conforming"]  # type: ignore[index]


def test_bad_files_get_a_line_and_cost_no_other_its_measure(browser: Browser, tmp_path: Path) -> None:
    files = {
        "1.html": b"",
        "2.html": b"  \n ",
        "3.html": b"\x89PNG\0\0\0binary",
        "4.html": GOOD.encode(),
        "6.html": GOOD.replace("Hi", "é").encode("latin-1"),
        "7.html": GOOD.encode("utf-16"),
        "8.html": b"no markup at all",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "5.html").mkdir()
    (tmp_path / "loop.html").symlink_to(tmp_path / "loop.html")
    code, rows = run(*(tmp_path / f"{i}.html" for i in range(1, 10)), tmp_path / "loop.html")
    assert code == 1
    said = {Path(str(row["file"])).name: row.get("error", row.get("outcome")) for row in rows}
    assert said.pop("loop.html")
    assert said == {
        "1.html": "the file is empty",
        "2.html": "the file is empty",
        "3.html": "not a text file",
        "4.html": "ok",
        "5.html": "no .html or .htm file in this folder",
        "6.html": "ok",
        "7.html": "ok",
        "8.html": "blank",
        "9.html": "there is no such file",
    }


def test_a_folder_of_many_files_is_taken_in_batches(browser: Browser, tmp_path: Path) -> None:
    for index in range(2 * pages._BATCH + 3):
        (tmp_path / f"{index:03}.htm").write_text(GOOD, encoding="utf-8")
    code, rows = run(tmp_path)
    assert code == 0
    assert len(rows) == 2 * pages._BATCH + 3
    assert [row["file"] for row in rows] == sorted(str(row["file"]) for row in rows)
    assert browser.calls == [pages._BATCH, pages._BATCH, 3]


def test_text_for_people_names_faults_and_cannot_steer_the_terminal(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[31m.html"
    path.write_text("<!DOCTYPE html><title>\x1b]0;owned\x07</title><p></b\x1b[2J>", encoding="utf-8")
    lines: list[str] = []
    pages.audit_files([path], lines.append)
    (text,) = lines
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "fails: Well-formed" in text
    assert "[html5lib]" in text


def test_without_a_browser_the_rest_is_still_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.render

    def none_there(*_: object) -> None:
        raise HarnessError("no browser was found", "install chromium")

    monkeypatch.setattr(harness.render, "Renderer", none_there)
    monkeypatch.setattr(pages.nu, "find_nu", lambda: None)
    (tmp_path / "a.html").write_text(GOOD, encoding="utf-8")
    code, (row,) = run(tmp_path / "a.html")
    assert code == 1
    assert row["outcome"] == "unscored"
    assert row["scores"]["well_formed"] == 1  # type: ignore[index]
    assert "no browser was found" in row["notes"]["renders"]  # type: ignore[index]


def test_nothing_to_audit_is_not_done(tmp_path: Path, browser: Browser) -> None:
    assert run()[0] == 1


def test_what_may_not_be_read_costs_no_other_its_measure(tmp_path: Path) -> None:
    """The real command, as a user whom permissions bind."""
    for name in ("good.html", "forbidden.html", "locked/in.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GOOD, encoding="utf-8")
    (tmp_path / "forbidden.html").chmod(0)
    (tmp_path / "locked").chmod(0)
    command = [*obeying_permissions(), sys.executable, "-m", "harness", "audit", "--json", "forbidden.html", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    (tmp_path / "locked").chmod(0o755)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (1, "")
    assert {row["file"]: row.get("error", row.get("scores", {}).get("well_formed")) for row in rows} == {
        "forbidden.html": "cannot be read: Permission denied",
        "good.html": 1.0,
        "locked": "cannot be read: Permission denied",
    }


@pytest.mark.parametrize("body", ['<svg width="40" height="40"><rect width="40" height="40"/></svg>', "<input>"])
def test_what_shows_something_without_a_word_is_not_blank(tmp_path: Path, body: str) -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    (tmp_path / "a.html").write_text(GOOD.replace("<p>Hi</p>", body), encoding="utf-8")
    _, (row,) = run(tmp_path / "a.html")
    assert row["outcome"] == "ok"


def test_the_name_of_before_names_the_new_one_and_does_the_work(
    browser: Browser, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "a.html").write_text(GOOD, encoding="utf-8")
    now = command_line("audit", "--json", str(tmp_path))
    assert (now[0], now[2]) == (0, "")
    said = "`judge` is now called `audit`; the old name goes with the next version\n"
    assert command_line("judge", "--json", str(tmp_path)) == (*now[:2], said)
    commands = [line.strip("│ ").split(" ")[0] for line in command_line("--help")[1].splitlines() if line.strip("│ ")]
    assert "audit" in commands
    assert "judge" not in commands
