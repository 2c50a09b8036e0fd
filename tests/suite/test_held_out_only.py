"""Benchmarks: suites of which nothing is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.pipeline.config import RunConfig, resolve
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.new import make_suite
from tests.conftest import SUBJECTS, CommandLine


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": asked, "output": page}) + "\n" for _, asked, page in SUBJECTS[:6]))
    return path


@pytest.fixture
def bench(workplace: Path, rows: Path) -> str:
    """A benchmark, on which the models of the profile `own` are measured."""
    make_suite("bench", str(rows), workplace / "tasks", held_out_only=True)
    profile = workplace / "baselines" / "own"
    profile.mkdir()
    file = (workplace / "baselines" / "smollm2-135m" / "profile.yaml").read_text()
    (profile / "profile.yaml").write_text(file.replace("html_starter", "bench"))
    (profile / "base.yaml").write_text("description: As made.\n")
    (profile / "base-fewshot.yaml").write_text("few_shot: 2\n")
    (profile / "tuned.yaml").write_text("train: {}\n")
    (profile / "elsewhere.yaml").write_text("train: {suite: html_starter}\n")
    return "bench"


def test_all_rows_are_held_out(tmp_path: Path, rows: Path) -> None:
    made = make_suite("bench", str(rows), tmp_path / "tasks", held_out_only=True)
    assert "split: held-out" in made.files[0].read_text() and "held_out_share" not in made.files[0].read_text()
    assert any("all rows are held out" in note for note in made.notes)
    suite = load_suite(SuiteLocation("bench", made.folder))
    assert (len(suite.train), len(suite.held_out), suite.held_out_only) == (0, 6, True)
    (made.folder / "suite.yaml").write_text("title: B\nfiles: {held_out: [rows.jsonl]}\ncolumns: {reference: output}\n")
    same = load_suite(SuiteLocation("bench", made.folder))
    assert (same.split_hash, same.held_out_only) == (suite.split_hash, True)
    other = load_suite(SuiteLocation("bench", made.folder), rows)
    assert (other.split_hash, other.held_out_only) == (suite.split_hash, True)


def test_a_split_by_name_may_hold_out_everything(tmp_path: Path, rows: Path) -> None:
    text = "title: B\nhub: {path: a/b}\ncolumns: {reference: output}\nsplit: {all: held-out}\n"
    (tmp_path / "suite.yaml").write_text(text)
    location = SuiteLocation("b", tmp_path)
    assert len(load_suite(location, rows, "all").held_out) == 6 and load_suite(location, rows, "all").held_out_only
    assert load_suite(location, rows).train and not load_suite(location, rows).held_out_only


def test_what_learns_elsewhere_is_measured_on_it(bench: str) -> None:
    plan = resolve(RunConfig(profile="smollm2-135m", suites=(bench,), train_on="html_starter"))
    assert [spec.name for spec in plan.specs] == ["base", "base-fewshot", "tuned"]
    assert len(plan.measured[0].tasks) == 6 and {suite.name for suite in plan.learns_from.values()} == {"html_starter"}
    assert plan.notes == ()


def test_what_would_learn_from_it_is_refused(bench: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(RunConfig(profile="own", suites=(bench,)))
    assert str(refused.value) == (
        "tuned cannot learn from bench, which is held out as a whole (name a suite with training rows: "
        "--train-on SUITE, or `suite:` under `train:` in its model file)"
    )
    with pytest.raises(UsageError, match="tuned cannot learn from bench"):
        resolve(RunConfig(profile="own", models=("tuned",)), models_only=True)


def test_examples_come_from_where_the_run_learns_or_are_left_out(bench: str) -> None:
    plan = resolve(RunConfig(profile="own", models=("base", "elsewhere"), suites=(bench,)))
    assert [spec.name for spec in plan.specs] == ["base", "base-fewshot", "elsewhere"]
    assert {suite.name for suite in plan.learns_from.values()} == {"html_starter"} and plan.notes == ()
    plan = resolve(RunConfig(profile="own", models=("base", "base-fewshot"), suites=(bench,)))
    assert [spec.name for spec in plan.specs] == ["base"]
    assert plan.notes == ("base-fewshot is left out: bench is held out as a whole, so it has no examples to show",)
    with pytest.raises(UsageError, match=r"base-fewshot is left out: .* \(name another model\)"):
        resolve(RunConfig(profile="own", models=("base-fewshot",), suites=(bench,)))


def test_a_suite_that_lost_its_training_rows_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "same.json").write_text(json.dumps([{"prompt": "Draw it", "reference": "<p>x"}] * 2))
    (tmp_path / "suite.yaml").write_text("title: S\nfiles: {rows: [same.json]}\n")
    with pytest.raises(UsageError, match="near-duplicates of one another"):
        resolve(RunConfig(profile="smollm2-135m", models=("base",), suites=(str(tmp_path),)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("split: heldout", "splits are written NAME: {...}, a line each, or held-out"),
        ("split: {mine: held_out}", "{stratify: [length, kind]} or held-out"),
    ],
)
def test_a_misspelt_split_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "suite.yaml").write_text(f"title: S\nfiles: {{rows: [a.json]}}\n{text}\n")
    with pytest.raises(UsageError) as refused:
        load_suite(SuiteLocation("s", tmp_path))
    assert told in str(refused.value) and "\n" not in str(refused.value)


def test_the_commands_know_benchmarks(bench: str, rows: Path, command_line: CommandLine) -> None:
    code, said, _ = command_line("suites", "new", "other", "--from", str(rows), "--held-out-only")
    assert code == 0 and "all rows are held out" in said
    code, said, _ = command_line("suites", "list")
    assert code == 0 and "other" in said
    code, _, error = command_line("suites", "new", "empty", "--held-out-only")
    assert code == 2 and "add --from FILE" in error
