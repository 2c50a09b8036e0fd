from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.suite.columns import guess_columns, told_columns
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.new import make_suite
from tests.conftest import CommandLine

WORDS = ("river", "teapot", "lantern", "compass", "harvest", "walnut")


def asked(word: str) -> str:
    return f"{word} by {word}, a page of {word}s with {word} headings and more {word}"


def page(word: str) -> str:
    return f"<html><head><title>{word}</title></head><body><p>{word}; two {word}s</p></body></html>"


MISLEADING: dict[str, tuple[Any, dict[str, str]]] = {
    "the names are swapped": (
        lambda w: {"prompt": page(w), "completion": asked(w)},
        {"prompt": "completion", "reference": "prompt"},
    ),
    "the answer is called input": (
        lambda w: {"input": page(w), "output": asked(w)},
        {"prompt": "output", "reference": "input"},
    ),
    "the page is called source": (
        lambda w: {"caption": asked(w), "source": page(w)},
        {"prompt": "caption", "reference": "source"},
    ),
    "the answer is called title": (
        lambda w: {"title": page(w), "text": asked(w)},
        {"prompt": "text", "reference": "title"},
    ),
    "`html` holds file names": (
        lambda w: {"html": f"{w}.html", "wish": asked(w), "content": page(w)},
        {"prompt": "wish", "reference": "content"},
    ),
    "`answer` holds notes": (
        lambda w: {"prompt": asked(w), "answer": f"good, the {w} is there", "markup": page(w)},
        {"prompt": "prompt", "reference": "markup"},
    ),
    "the request names tags": (
        lambda w: {"text": f"Put <h1>{w}</h1> there: {asked(w)}", "body": page(w)},
        {"prompt": "text", "reference": "body"},
    ),
    "the answer stands in a fence, behind words": (
        lambda w: {"response": f"Gladly:\n```html\n{page(w)}\n```", "message": asked(w)},
        {"prompt": "message", "reference": "response"},
    ),
    "an earlier answer is not given away": (
        lambda w: {"prompt": asked(w), "response": page(w), "original_response": page(w) * 2},
        {"prompt": "prompt", "reference": "response"},
    ),
    "rejected answers are longer, and first": (
        lambda w: {"ask": asked(w), "response_rejected": page(w) * 3, "response_chosen": page(w)},
        {"prompt": "ask", "reference": "response_chosen"},
    ),
    "rejected answers within": (
        lambda w: {"ask": asked(w), "rejected": {"html": page(w) * 3}, "chosen": {"html": page(w)}},
        {"prompt": "ask", "reference": "chosen.html"},
    ),
    "the page to be changed is longer": (
        lambda w: {"task": asked(w), "before_html": page(w) * 3, "after_html": page(w)},
        {"prompt": "task", "reference": "after_html", "input": "before_html"},
    ),
    "rejected answers are longer": (
        lambda w: {"ask": asked(w), "good": page(w), "rejected": page(w) * 3},
        {"prompt": "ask", "reference": "good"},
    ),
    "only the rejected one is a page": (
        lambda w: {"prompt": asked(w), "completion": f"the {w}", "rejected": page(w)},
        {"prompt": "prompt", "reference": "completion"},
    ),
    "questions about pages": (
        lambda w: {"question": asked(w), "context": page(w), "answer": f"It shows a {w}."},
        {"prompt": "question", "input": "context", "reference": "answer"},
    ),
    "one instruction for all": (
        lambda w: {"instruction": "Write HTML.", "input": asked(w), "output": page(w)},
        {"prompt": "instruction", "input": "input", "reference": "output"},
    ),
    "one prompt for all, and a description": (
        lambda w: {"prompt": "Write HTML.", "description": asked(w), "model": "some model", "html": page(w)},
        {"prompt": "prompt", "input": "description", "reference": "html"},
    ),
    "names at the end of paths": (
        lambda w: {"data": {"question": asked(w), "note": asked(w) * 3, "html": page(w)}, "meta": {"id": w}},
        {"prompt": "data.question", "reference": "data.html"},
    ),
}


@pytest.mark.parametrize(("make", "expected"), MISLEADING.values(), ids=MISLEADING)
def test_values_come_before_names(tmp_path: Path, make: Any, expected: dict[str, str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(make(word)) + "\n" for word in WORDS))
    made = make_suite("mine", str(tmp_path / "a.jsonl"), tmp_path / "tasks")
    assert made.columns == expected
    suite = load_suite(SuiteLocation("mine", made.folder))
    assert suite.train and suite.held_out and len((*suite.train, *suite.held_out)) == len(WORDS)


def test_columns_can_be_told(tmp_path: Path, command_line: CommandLine) -> None:
    rows = [
        {"prompt": asked(w), "short": w, "answer": {"html": page(w), "others": [{"html": page(w) * 2}]}} for w in WORDS
    ]
    rows.append({"prompt": "Nothing came of this one", "short": "nothing", "answer": None})
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def new(columns: str) -> tuple[int, str, str]:
        command = ("suites", "new", f"s{abs(hash(columns))}", "--from", str(data), "--to", str(tmp_path / "own"))
        return command_line(*command, "--columns", columns)

    code, said, _ = new("prompt=short, reference=answer.others.0.html, input=prompt")
    assert code == 0
    flat = " ".join(said.split())
    assert "prompt: column 'short', for example \"river\"" in flat
    assert "input: column 'prompt', for example \"river by river" in flat
    assert "reference: column 'answer.others.0.html', for example \"<html><head><title>river" in flat
    suite = load_suite(SuiteLocation("s", next((tmp_path / "own").iterdir())))
    task = next(task for task in (*suite.train, *suite.held_out) if task.prompt == "river")
    assert (task.input, task.reference) == (asked("river"), page("river") * 2)
    assert "columns that are not read: short" not in flat and "columns that are not read: answer.html" in flat
    code, said, _ = new("prompt=short,input=")
    assert code == 0 and "input: none" in said and "reference: column 'answer.html'" in said
    assert "columns that are not read: prompt, answer.others" in said
    for wrong, told in {
        "prompt=shrt": "has no column 'shrt' (did you mean 'short'?)",
        "ref=answer": "a task has no 'ref' (did you mean",
        "short": "--columns short is not NAME=COLUMN",
        "reference=": "no column is named for reference",
        "reference=answer.htm": "has no column 'answer.htm' (did you mean 'answer.html'?)",
    }.items():
        code, _, error = new(wrong)
        assert code == 2 and told in " ".join(error.split()), wrong
    assert len(list((tmp_path / "own").iterdir())) == 2


def test_a_column_may_have_a_comma_in_its_name() -> None:
    assert told_columns("prompt=out{put}, ü,reference=b=c") == {"prompt": "out{put}, ü", "reference": "b=c"}


def test_what_is_told_is_not_guessed_again() -> None:
    rows = [{"a": asked(w), "b": page(w), "c": w} for w in WORDS]
    assert guess_columns(["a", "b", "c"], rows, "x", {"prompt": "b", "reference": "a"}) == {
        "prompt": "b",
        "reference": "a",
    }
    with pytest.raises(UsageError, match=r"for the prompt; it has a, b \(name it: --columns prompt=COLUMN\)"):
        guess_columns(["a", "b"], [{"a": page(w), "b": "1"} for w in WORDS], "x", {"reference": "a"})
