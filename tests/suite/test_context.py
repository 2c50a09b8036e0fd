"""The turns before the last answer: they are part of what is asked, wherever a task is asked."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest

from harness.model.prompt import PromptRenderer, few_shot_examples
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.new import make_suite
from harness.train.data import IGNORED_LABEL, training_rows
from harness.types import Task
from tests.conftest import SUBJECTS

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}<assistant>"


class Letters:
    """A tokenizer of one token a letter, with a chat template."""

    chat_template = CHAT
    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return jinja2.Template(CHAT).render(messages=messages)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    lines = []
    for name, asked, page in SUBJECTS[:6]:
        turns = [
            {"role": "system", "content": "You write HTML."},
            {"role": "user", "content": f"Show {asked}"},
            {"role": "assistant", "content": f"<p>first {name}</p>"},
            {"role": "user", "content": "Now in blue"},
            {"role": "assistant", "content": page},
        ]
        lines.append(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "talks.jsonl").write_text("".join(lines))
    made = make_suite("talks", str(tmp_path / "talks.jsonl"), tmp_path / "tasks")
    suite = load_suite(SuiteLocation("talks", made.folder))
    return [*suite.train, *suite.held_out]


def context(task: Task) -> tuple[str, ...]:
    name, asked, _ = next(subject for subject in SUBJECTS if subject[2] == task.reference)
    return ("You write HTML.", f"Show {asked}", f"<p>first {name}</p>", "Now in blue")


@pytest.mark.parametrize("chat", [True, False])
def test_the_context_reaches_every_prompt_once_and_in_order(tasks: list[Task], chat: bool) -> None:
    renderer = PromptRenderer("Write: {{ prompt }}", chat, Letters())
    examples = few_shot_examples(tasks[1:], 1)
    for shown in ((), examples):
        text = renderer.text(tasks[0], shown)
        told = [part for task in (*shown, tasks[0]) for part in context(task)]
        places, start = [], 0
        for part in told:
            start = text.index(part, start)
            places.append(start)
        assert places == sorted(set(places))
        assert all(text.count(part) == told.count(part) for part in told)
        assert text.count("<user>") == (len(shown) + 1) * chat


def test_training_learns_the_last_answer_alone(tasks: list[Task]) -> None:
    renderer = PromptRenderer("Write: {{ prompt }}", True, Letters())
    rows, _ = training_rows(tasks, renderer, None)
    for task, row in zip(tasks, rows, strict=True):
        learnt = "".join(chr(label) for label in row.labels if label not in (IGNORED_LABEL, 0))
        asked = "".join(map(chr, row.input_ids[: row.labels.count(IGNORED_LABEL)]))
        assert learnt == task.reference
        assert asked == renderer.text(task)


def test_the_hash_of_a_request_is_over_its_context(tasks: list[Task]) -> None:
    assert all(task.prompt.endswith("User:\nNow in blue") for task in tasks)
    assert len({task.prompt_sha for task in tasks}) == len({task.id for task in tasks}) == len(tasks)
