"""Rows are checked before anything is computed from them: one line names file, line, field and value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.compare.runs import freeze
from harness.errors import HarnessError
from harness.runs.read import load_run
from tests.compare.compare_data import make_rows

WriteRun = Callable[..., Path]


def change(row: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    for key in outer:
        row = row[key]
    if value is ...:
        del row[last]
    else:
        row[last] = value


BROKEN = [
    ("suite", 7, "suite is 7, not text"),
    ("task", "", "task is '', not text"),
    ("model", None, "model is None, not text"),
    ("model", ..., "model is missing "),
    ("sample", "0", "sample is '0', not a whole number from 0"),
    ("sample", -1, "sample is -1, not a number from 0"),
    ("sample", True, "sample is True, not a whole number from 0"),
    ("prompt_sha", 5, "prompt_sha is 5, not text"),
    ("scores", [1], r"scores is \[1\], not an object"),
    ("scores", ..., "scores is missing"),
    ("scores.chrf", "high", "scores.chrf is 'high', not null or a number"),
    ("scores.chrf", float("nan"), "scores.chrf is nan, not"),
    ("scores.chrf", float("inf"), "scores.chrf is inf, not"),
    ("scores.chrf", 101, "scores.chrf is 101.0, not"),
    ("scores.checks_must", 50.0, "scores.checks_must is 50.0, not null or a number from 0 to 1"),
    ("scores.conforming", 0.5, "scores.conforming is 0.5, not null, 0 or 1"),
    ("scores.conforming", [1], r"scores.conforming is \[1\], not"),
    ("scores.unknown", "x", "scores.unknown is 'x', not"),
    ("counts", "none", "counts is 'none', not an object"),
    ("counts.bleu_dom", 3, "counts.bleu_dom is 3, not a list"),
    ("counts.bleu_dom", [1, "2"], "counts.bleu_dom.1 is '2', not a number"),
    ("counts.bleu_dom", [1, -2], "counts.bleu_dom.1 is -2, not a number from 0"),
    ("counts.bleu_dom", [1, 2, 3], "counts.bleu_dom is .*, not 10 numbers "),
    ("sample", "x" * 500, "sample is 'x{20,60}…, not"),
]


@pytest.mark.parametrize(("field", "value", "said"), BROKEN)
def test_a_row_that_cannot_be_is_named(write_run: WriteRun, field: str, value: Any, said: str) -> None:
    folder = write_run("r", make_rows(3))
    lines = (folder / "samples.jsonl").read_text("utf-8").splitlines()
    row = json.loads(lines[3])
    change(row, field, value)
    lines[3] = json.dumps(row)
    (folder / "samples.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(HarnessError, match=rf"samples\.jsonl line 4: {said}") as error:
        load_run(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_row_that_stands_twice_is_named(write_run: WriteRun) -> None:
    rows = make_rows(3)
    folder = write_run("r", [*rows, rows[1]])
    with pytest.raises(HarnessError, match=r"line 7: sample 0 of tuned on task .* stands at .*line 2 already"):
        load_run(folder)


def test_frozen_scores_are_checked_alike(write_run: WriteRun, tmp_path: Path) -> None:
    path = freeze(load_run(write_run("r", make_rows(3))), tmp_path / "frozen.json")
    whole = json.loads(path.read_text("utf-8"))
    for key, value, said in [
        ("rows", [*whole["rows"][:2], {**whole["rows"][2], "scores": 3}], "rows 3: scores is 3, not"),
        ("rows", [7], "rows 1: no JSON object"),
        ("rows", {}, "rows is no list"),
        ("tasks", [{"suite": "s"}], "tasks 1: task is missing"),
        ("manifest", 1, "it has no manifest"),
    ]:
        path.write_text(json.dumps({**whole, key: value}), "utf-8")
        with pytest.raises(HarnessError, match=rf"frozen\.json.*{said}"):
            load_run(path)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (
            {"scorers": {"conforming": {"scale": "grade", "kind": "form"}}},
            "scorers.conforming.scale is 'grade', not binary",
        ),
        ({"scorers": {"conforming": {"scale": "binary"}}}, "scorers.conforming.kind is missing"),
        ({"scorers": [1]}, r"scorers is \[1\], not an object"),
        ({"models": {"base": 3}}, r"models.base is 3, not an object"),
    ],
)
def test_a_manifest_that_cannot_be_is_named(write_run: WriteRun, manifest: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError, match=rf"manifest\.json: {said}"):
        load_run(write_run("r", make_rows(3), **manifest))


def test_a_group_that_is_no_text_is_named(write_run: WriteRun) -> None:
    folder = write_run("r", make_rows(2))
    lines = [json.loads(line) for line in (folder / "tasks.jsonl").read_text("utf-8").splitlines()]
    lines[1]["group"] = ["starter-0000"]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.raises(HarnessError, match=r"tasks\.jsonl line 2: group is \['starter-0000'\], not text"):
        load_run(folder)
