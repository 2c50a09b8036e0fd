"""Answers files as other tools write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.generate.completions_file import GivenAnswers, answers_of, read_answers
from harness.types import Completion, Task

PAGE = "<html><p>Hi</p></html>"


def completions(path: Path, *rows: dict[str, Any], encoding: str = "utf-8") -> list[Completion]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding=encoding)
    given = GivenAnswers.read("m", path, 1)
    return given.complete([Task(str(row["task"]), "p") for row in rows])


def test_a_byte_order_mark_is_none_of_the_text(tmp_path: Path) -> None:
    (done,) = completions(tmp_path / "a.jsonl", {"task": "a", "completion": PAGE}, encoding="utf-8-sig")
    assert (done.text, done.finish_reason) == (PAGE, "stop")


def test_null_is_that_rows_error(tmp_path: Path) -> None:
    first, second, third = completions(
        tmp_path / "a.jsonl",
        {"task": "a", "completion": None},
        {"task": "b", "completion": None, "finish_reason": "content_filter"},
        {"task": "c", "completion": PAGE},
    )
    assert (first.text, first.finish_reason, first.unanswered) == ("", "error", "") and "null" in first.note
    assert second.finish_reason == "error" and "filter" in second.note
    assert (third.text, third.finish_reason) == (PAGE, "stop")


@pytest.mark.parametrize(
    ("word", "text", "reason"),
    [
        ("stop", PAGE, "stop"),
        ("stop", "<p>Hi", "eos"),
        ("end_turn", "<p>Hi", "eos"),
        ("length", "<p>Hi", "length"),
        ("MAX_TOKENS", "<p>Hi", "length"),
        ("loop", "<p>Hi", "loop"),
        ("content_filter", PAGE, "error"),
        ("tool_calls", "<p>Hi", "eos"),
        (None, "<script>'</html>'</script>", "eos"),
        (None, f"<think>{PAGE}</think>", "eos"),
    ],
)
def test_finish_words_of_others(tmp_path: Path, word: str | None, text: str, reason: str) -> None:
    (done,) = completions(tmp_path / "a.jsonl", {"task": "a", "completion": text, "finish_reason": word})
    assert (done.text, done.finish_reason) == (text, reason)


def test_numbers_are_ids_and_parts_are_joined(tmp_path: Path) -> None:
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "<p>"},
        {"type": "text", "text": "Hi</p>"},
    ]
    first, second = completions(tmp_path / "a.jsonl", {"task": 7, "completion": parts}, {"task": "8", "completion": ""})
    assert (first.task, first.text, second.text) == ("7", "<p>Hi</p>", "")
    (tmp_path / "b.jsonl").write_text('{"task": 7, "completion": ""}\n{"task": "7", "completion": ""}\n')
    with pytest.raises(UsageError, match="line 2 answers task 7 again: line 1 did"):
        read_answers(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").write_text('{"task": "7", "completion": ""}\n{"task": 7, "completion": "", "model": "b"}\n')
    with pytest.raises(UsageError, match="line 2 answers task 7 again"):  # the file's name is that of the first
        read_answers(tmp_path / "b.jsonl")


def test_a_colon_in_a_models_name_is_an_at_sign(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"task": "a", "completion": "", "model": "qwen2.5:0.5b"}, {"task": "a", "completion": "", "model": "b"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = read_answers(path)
    assert list(file.written.items()) == [("qwen2.5@0.5b", "qwen2.5:0.5b"), ("b", "b")]
    assert list(answers_of("qwen2.5@0.5b", file)) == [("a", 0)]
    path.write_text(path.read_text() + json.dumps({"task": "a", "completion": "", "model": "qwen2.5@0.5b"}))
    with pytest.raises(UsageError, match="would be one model"):
        read_answers(path)
