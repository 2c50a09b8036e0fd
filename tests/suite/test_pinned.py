"""Rows are recognised by their content, whatever file they come from."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.suite.load import SuiteLocation, find_suite, load_suite, load_suite_file
from harness.types import Suite
from tests.conftest import ROOT

ROWS = [
    {
        "instruction": f"Überschrift {number}",
        "input": "<p>\u2028\n\"'" if number % 2 else "",
        "output": f"<h1>{number}</h1>\n",
    }
    for number in range(6)
]


def written_out(rows: list[dict[str, str]]) -> str:
    """The hash as its definition says it, in other words than the harness has."""
    texts = ["[" + ",".join(json.dumps(value, ensure_ascii=False) for value in row.values()) + "]" for row in rows]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def place(folder: Path, **more: Any) -> SuiteLocation:
    pinned = {"rows": 6, "sha256": written_out(ROWS), "first": {4: written_out(ROWS[:4]), 2: written_out(ROWS[:2])}}
    content = {
        "title": "Published",
        "hub": {"path": "nobody/nothing"},
        "columns": {"prompt": "instruction", "input": "input", "reference": "output"},
        "pinned": pinned,
    }
    folder.mkdir()
    (folder / "suite.yaml").write_text(json.dumps(content | more))
    return SuiteLocation(folder.name, folder)


def loaded(folder: Path, rows: list[dict[str, str]], suffix: str = ".jsonl") -> Suite:
    data = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with data.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return load_suite(place(folder / "published"), data)


OTHER = {"instruction": "Another", "input": "", "output": "<p>"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS, "the 6 published rows"),
        (ROWS[:4], "the first 4 of the 6 published rows"),
        (ROWS[:2], "the first 2 of the 6 published rows"),
        (ROWS[:3], "3 other rows than the 6 published ones; the first 2 are the same"),
        ([*ROWS[:4], OTHER, ROWS[5]], "6 other rows than the 6 published ones; the first 4 are the same"),
        ([*ROWS, OTHER], "7 other rows than the 6 published ones; the first 4 are the same"),
        (ROWS[::-1], "6 other rows than the 6 published ones"),
        ([ROWS[0] | {"output": "<h1>0</h1>"}, *ROWS[1:]], "6 other rows than the 6 published ones"),
    ],
    ids=["all", "first 4", "first 2", "first 3", "one differs", "one more", "order", "one letter"],
)
def test_rows_are_recognised_or_said_to_be_others(tmp_path: Path, rows: list[dict[str, str]], words: str) -> None:
    suite = loaded(tmp_path, rows)
    assert (suite.known_rows, suite.rows_sha256) == (words, written_out(rows))
    assert suite.notes == (f"these are {words}",)
    assert len(suite.train) + len(suite.held_out) == len(rows)


def test_the_form_of_the_file_does_not_matter(tmp_path: Path) -> None:
    assert loaded(tmp_path, ROWS, ".csv").known_rows == "the 6 published rows"


def test_a_suite_that_pins_nothing_says_nothing_of_its_rows(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    suite = load_suite(place(tmp_path / "own", pinned=None), data)
    assert (suite.known_rows, suite.notes, suite.rows_sha256) == ("", (), written_out(ROWS))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pinned": {"rows": 6, "sha256": "f1ce"}}, r"pinned\.sha256"),
        ({"pinned": {"rows": 6, "sha256": "0" * 64, "first": {"many": "0" * 64}}}, r"pinned\.first"),
        ({"hub": None, "files": {"held_out": ["a.yaml"]}}, "`pinned` is for `hub` and `rows`"),
    ],
)
def test_a_wrong_pin_is_one_line(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_suite_file(place(tmp_path / "wrong", **wrong))


def test_the_known_rows_of_html_alpaca() -> None:
    suite = find_suite("html_alpaca", ROOT / "tasks")
    pinned = load_suite_file(suite).pinned
    assert pinned is not None and (pinned.rows, list(pinned.first)) == (636, [500])
    file = os.environ.get("HARNESS_TEST_HTML_ALPACA")
    if file is None:
        pytest.skip("HARNESS_TEST_HTML_ALPACA names no rows")
    assert load_suite(suite, Path(file)).known_rows == "the first 500 of the 636 published rows"
