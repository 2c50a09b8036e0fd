from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.runs.read import load_run, read_overview, read_run
from harness.runs.schema import SCHEMA, STEPS, upgraded
from harness.vote.ballots import read_votes

ROW = {"suite": "s", "task": "t", "model": "base", "sample": 0, "scores": {}, "notes": {}}
TASK = {"suite": "s", "task": "t", "prompt": "p"}
VOTE = {"suite": "s", "task": "t", "left": "base", "right": "tuned", "chosen": "tie"}
FILES: dict[str, Any] = {
    "manifest.json": {"run": "r", "deciding": "d", "started": "2026-01-01T00:00:00+00:00", "models": {}},
    "summary.json": {"suites": {}},
    "tasks.jsonl": TASK,
    "samples.jsonl": ROW,
    "journal.jsonl": ROW,
    "votes.jsonl": VOTE,
    "agreement.json": {"pairs": {}},
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(default: int | None, **versions: int) -> Path:
        folder = tmp_path / "r"
        folder.mkdir(exist_ok=True)
        for name, content in FILES.items():
            version = versions.get(name.partition(".")[0], default)
            (folder / name).write_text(json.dumps(content | ({} if version is None else {"schema": version})) + "\n")
        return folder

    return write


def read_all(folder: Path) -> None:
    read_run(folder)
    read_overview(folder)
    load_run(folder)
    read_votes(folder)
    with RunFolder(folder.name, folder.parent) as run:
        run.begin({"started": "2026-02-02T00:00:00+00:00"}, {})


def test_files_from_before_versions_are_read_as_if_they_were_new(written: Callable[..., Path]) -> None:
    folder = written(None)
    assert read_run(folder).manifest["schema"] == SCHEMA
    assert [row["schema"] for row in load_run(folder).rows] == [SCHEMA]
    assert [vote["schema"] for vote in read_votes(folder)] == [SCHEMA]
    read_all(folder)


def test_files_of_this_version_are_read(written: Callable[..., Path]) -> None:
    read_all(written(SCHEMA))


@pytest.mark.parametrize("name", FILES)
def test_a_newer_file_is_refused_in_one_line_and_left_as_it_is(written: Callable[..., Path], name: str) -> None:
    folder = written(SCHEMA, **{name.partition(".")[0]: SCHEMA + 1})
    before = {file: (folder / file).read_bytes() for file in FILES if file != "manifest.json"}
    if name == "journal.jsonl":  # it is read only where the same thing decided its rows
        manifest = json.loads((folder / "manifest.json").read_text())
        with RunFolder(folder.name, folder.parent) as run:
            run.write_json("manifest.json", manifest | {"deciding": _deciding()})
    with pytest.raises(HarnessError, match=rf"{name} is of schema 2, newer than 1, which this harness reads") as said:
        read_all(folder)
    assert "\n" not in str(said.value)
    assert {file: (folder / file).read_bytes() for file in before} == before


def _deciding() -> str:
    from harness.storage.cache import content_key

    return content_key({})


def test_frozen_scores_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frozen.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "manifest": {}, "rows": [], "tasks": []}))
    with pytest.raises(HarnessError, match="newer than"):
        load_run(path)


@pytest.mark.parametrize("version", ["1", -1, 1.5, True, None])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(HarnessError, match="no known schema"):
        upgraded({"schema": version}, Path("manifest.json"))


def test_every_older_version_has_its_step_and_steps_follow_one_another() -> None:
    assert set(STEPS) == set(range(SCHEMA))
    steps = STEPS | {
        1: lambda old: {"schema": 2, "name": old["title"]},
        2: lambda old: old | {"schema": 3, "length": len(old["name"])},
    }
    content = upgraded({"title": "abc"}, Path("x.json"), newest=3, steps=steps)
    assert content == {"schema": 3, "name": "abc", "length": 3}
    assert upgraded({"schema": 2, "name": "ab"}, Path("x.json"), newest=3, steps=steps)["length"] == 2
