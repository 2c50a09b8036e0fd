from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from harness.errors import UsageError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, ["suites", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_new_suite_is_listed_at_once() -> None:
    assert "next: harness suites check mine" in _run("new", "mine")
    assert "mine" in _run("list")


def test_a_suite_made_elsewhere_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,answer\na list,<ul></ul>\na form,<form></form>\n", encoding="utf-8")
    told = _run("new", "mine", "--from", "rows.csv", "--to", "own")
    assert "reference: column 'answer'" in told
    assert f"--suites {Path('own/mine')}" in told
    assert (tmp_path / "own" / "mine" / "rows.csv").is_file()


@pytest.mark.parametrize("words", [("check", "nosuch"), ("check", "--data", "x"), ("new", "a", "--from", "gone.csv")])
def test_wrong_words_end_in_a_usage_error(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        CliRunner().invoke(app, ["suites", *words], catch_exceptions=False)
