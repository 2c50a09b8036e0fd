"""`score`: answers made elsewhere become a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from tests.conftest import CommandLine

HELD_OUT = ("museum", "menu", "alarm", "score", "recipe", "map")
PAGE = '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body><p>{}</p></body></html>'


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def answers(model: str | None = None, **texts: str) -> list[dict[str, Any]]:
    named = {} if model is None else {"model": model}
    return [{"task": task, "completion": texts.get(task, PAGE.format(task)), **named} for task in HELD_OUT]


def test_answers_of_two_models_become_a_run(tiny_workplace: Path, own_answers: Path, command_line: CommandLine) -> None:
    try:
        from harness.render.browser import find_browser

        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    theirs = answers("theirs", museum="", menu="no page")[:-1]
    file = write(tiny_workplace / "outputs.jsonl", *answers("ours"), *theirs, '{"task": "map", "comp')
    code, said, error = command_line("score", "small", str(file), "--name", "given")
    assert (code, error) == (0, "")
    words = " ".join(said.split())  # where lines end depends on how long the test's folder is called
    assert "the last line is torn and left out" in words
    assert "theirs: 1 of 6 answers are missing, not measured: map" in words
    folder = tiny_workplace / "reports" / "given"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["models"]["ours"]["backend"] == manifest["models"]["theirs"]["kind"] == "file"
    assert manifest["models"]["ours"]["file"]["name"] == "outputs.jsonl"
    assert manifest["profile"]["max_new_tokens"] is None
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    by_place = {(row["model"], row["task"]): row for row in rows}
    assert len([row for row in rows if row["model"] in ("ours", "theirs")]) == 12
    assert by_place["ours", "map"]["finish_reason"] == "stop"
    assert by_place["theirs", "museum"]["scores"]["extracted"] == 0
    missing = by_place["theirs", "map"]
    assert missing["outcome"] == "unscored" and set(missing["scores"].values()) == {None}
    assert "outputs.jsonl holds no answer" in missing["notes"]["extracted"]
    extracted = json.loads((folder / "summary.json").read_text())["suites"]["small"]["metrics"]["extracted"]
    assert (extracted["theirs"]["n"], extracted["theirs"]["unscored"]) == (5, 1)
    assert (folder / "index.html").is_file()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"task": "museums", "completion": ""}], ("line 1", "no task 'museums'", "did you mean 'museum'?")),
        ([{"task": "bakery", "completion": ""}], ("line 1", "bakery is a training task")),
        (["{torn\n", *answers()], ("line 1 is not valid JSON",)),
        ([*answers(), *answers()], ("line 7 answers task museum again: line 1 did",)),
        ([{"task": "map"}], ("line 1", "completion")),
        (["[]\n"], ("line 1 is no object",)),
        (answers("reference"), ("cannot be called 'reference'",)),
        (answers("a b"), ("cannot be called 'a b'",)),
        (
            [{"task": "map", "completion": "", "finish_reason": "maybe"}],
            ("line 1", "'maybe' is not understood"),
        ),
        ([{"task": "map", "completion": 7}], ("line 1", "completion")),
        (["\n"], ("holds no answers",)),
    ],
)
def test_a_wrong_file_is_one_line(
    tiny_workplace: Path, command_line: CommandLine, lines: list[Any], words: tuple[str, ...]
) -> None:
    file = write(tiny_workplace / "outputs.jsonl", *lines)
    code, _, error = command_line("score", "small", str(file))
    assert code == 2 and error.count("\n") == 1
    assert all(word in error for word in words), error


def test_a_missing_file_is_one_line(tiny_workplace: Path, command_line: CommandLine) -> None:
    code, _, error = command_line("score", "small", "nowhere.jsonl")
    assert code == 2 and "there is no file nowhere.jsonl" in error
