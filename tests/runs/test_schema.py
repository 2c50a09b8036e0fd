from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.runs.pairs import Pair
from harness.runs.read import load_run, read_overview, read_run, read_votes
from harness.runs.schema import SCHEMA, STEPS, upgraded

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
        run.begin(Manifest(started="2026-02-02T00:00:00+00:00"), {})


def test_files_from_before_versions_are_read_as_if_they_were_new(written: Callable[..., Path]) -> None:
    folder = written(None)
    assert read_run(folder).manifest.version == SCHEMA
    assert [row.version for row in load_run(folder).rows] == [SCHEMA]
    assert [vote.version for vote in read_votes(folder)] == [SCHEMA]
    read_all(folder)


def test_files_of_this_version_are_read(written: Callable[..., Path]) -> None:
    read_all(written(SCHEMA))


@pytest.mark.parametrize("name", FILES)
def test_a_newer_file_is_refused_in_one_line_and_left_as_it_is(written: Callable[..., Path], name: str) -> None:
    folder = written(SCHEMA, **{name.partition(".")[0]: SCHEMA + 1})
    before = {file: (folder / file).read_bytes() for file in FILES if file != "manifest.json"}
    if name == "journal.jsonl":  # it is read only where the same thing decided its rows
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"deciding": _deciding()}))
    with pytest.raises(
        HarnessError, match=rf"{name} is of schema {SCHEMA + 1}, newer than {SCHEMA}, which this harness reads"
    ) as said:
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
    steps = {
        0: STEPS[0],
        1: lambda old: {"schema": 2, "name": old["title"]},
        2: lambda old: old | {"schema": 3, "length": len(str(old["name"]))},
    }
    content = upgraded({"title": "abc"}, Path("x.json"), newest=3, steps=steps)
    assert content == {"schema": 3, "name": "abc", "length": 3}
    assert upgraded({"schema": 2, "name": "ab"}, Path("x.json"), newest=3, steps=steps)["length"] == 2


def test_a_run_of_schema_1_is_read_in_the_words_of_today(tmp_path: Path) -> None:
    check = {"metric": "chrf", "mutant": "hollow", "reference_wins": 9, "mutant_wins": 1, "ties": 2, "unmeasured": 0}
    watch = {"settings": {"metrics": ["chrf"]}, "development": ["a"], "kept_step": 8, "stopped_early": True}
    said = {"pair": "base:tuned", "word": "better", "sentence": "tuned beats base on s: Checks +9: sure."}
    files: dict[str, Any] = {
        "manifest.json": {
            "models": {"base": {"training": None}, "tuned": {"training": {"steps": 9, "watch": watch}}},
            "self_test": {"s": {"tasks": 12, "trials": [check], "refused": {}, "untested": []}},
        },
        "summary.json": {"suites": {"s": {"verdicts": {"base:tuned": said}}}, "verdicts": {}, "verdict": said},
        "samples.jsonl": ROW,
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps({"schema": 1, **content}) + "\n")
    run = read_run(tmp_path)
    (found,) = run.manifest.self_test["s"].checks
    assert (found.perturbation, found.perturbation_wins, found.measured) == ("hollow", 1, 12)
    training = run.manifest.models["tuned"].training
    assert training is not None and training.evaluation is not None
    assert (training.evaluation.kept_step, training.evaluation.stopped_early) == (8, True)
    for verdict in (run.summary.verdict, run.summary.suites["s"].verdicts[Pair("base", "tuned")]):
        assert verdict is not None
        assert (verdict.headline, verdict.figures) == ("tuned beats base on s", "Checks +9: sure.")
    written = json.dumps([run.manifest.as_json(), run.summary.as_json()])
    assert not [word for word in ("mutant", "trials", "watch") if f'"{word}' in written]


def test_what_a_newer_harness_wrote_beside_is_kept(tmp_path: Path) -> None:
    row = ROW | {"schema": SCHEMA, "invented": {"later": [1]}, "timing": {"generate_s": 1.0, "cooling_s": 2.0}}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": SCHEMA, "colour": "blue"}))
    (tmp_path / "samples.jsonl").write_text(json.dumps(row) + "\n")
    run = read_run(tmp_path)
    assert run.manifest.as_json()["colour"] == "blue"
    again = json.loads(json.dumps(run.rows[0].as_json()))
    assert (again["invented"], again["timing"]["cooling_s"]) == ({"later": [1]}, 2.0)
