"""A run's folder that an older harness wrote opens in every command that reads one.

`old_run/` was written in the first days of schema 1, by a harness whose self-test still had mutants and whose pictures
are gone. Files of schema 0 are the same without a version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runs.schema import STEPS
from harness.vote.server import VoteServer
from tests.conftest import CommandLine

WRITTEN = Path(__file__).parent / "old_run"
VOTE = {"suite": "small", "task": "map", "left": "tuned", "right": "base", "chosen": "tuned", "voter": "ann"}
AS_WRITTEN = 1


@pytest.fixture(params=[0, AS_WRITTEN])
def old_run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder's run `old`, with a vote, in that version of its files."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports" / "old"
    folder.mkdir(parents=True)
    for file in WRITTEN.iterdir():
        lines = file.read_text("utf-8").splitlines() if file.suffix == ".jsonl" else [file.read_text("utf-8")]
        contents = [json.loads(line) for line in lines]
        assert {content["schema"] for content in contents} == {AS_WRITTEN}
        if request.param == 0:
            contents = [{key: value for key, value in content.items() if key != "schema"} for content in contents]
        (folder / file.name).write_text("".join(json.dumps(content) + "\n" for content in contents), "utf-8")
    vote = VOTE if request.param == 0 else VOTE | {"schema": request.param}
    (folder / "votes.jsonl").write_text(json.dumps(vote) + "\n", "utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    yield folder
    for name in ("manifest.json", "samples.jsonl", "tasks.jsonl", "votes.jsonl"):
        assert (folder / name).read_bytes() == before[name]


def test_every_older_version_is_tried() -> None:
    assert {0, AS_WRITTEN} >= set(STEPS)


def test_an_old_run_is_reported(old_run: Path, command_line: CommandLine) -> None:
    code, said, error = command_line("report", "old", "--export", "csv,markdown")
    assert (code, error) == (0, "")
    assert "tuned" in said and "base" in said
    page = (old_run / "index.html").read_text("utf-8")
    assert "The lift is broken" in page and "What people say" in page
    assert (old_run.parent / "index.html").is_file()
    assert "old" in (old_run.parent / "index.html").read_text("utf-8")


def test_an_old_run_is_compared_and_gates(old_run: Path, command_line: CommandLine) -> None:
    assert command_line("compare", "old", "--freeze")[0] == 0
    code, said, error = command_line("compare", "old:base", "baselines/scores/old.json:tuned", "--gate")
    assert (code, error) == (0, "")
    assert "held: " in said and "conforming" in said
    code, said, _ = command_line("compare", "old", "--rules", "conforming mean >= 2")
    assert (code, "FAILED" in said) == (100, True)


def test_an_old_run_is_voted_on(old_run: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VoteServer, "serve_forever", lambda self: None)
    code, said, error = command_line("vote", "old")
    assert (code, error) == (0, "")
    assert "pairs to judge" in said and "The report shows them" in said
    assert json.loads((old_run / "agreement.json").read_text("utf-8"))["pairs"]["base:tuned"]["win_rate"] == 1.0
