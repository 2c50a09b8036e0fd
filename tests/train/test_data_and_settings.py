from __future__ import annotations

import copy
from typing import Any

import pytest

from harness.answer import find_page
from harness.errors import UsageError
from harness.model.load import LoadedModel, Precision
from harness.model.profile import Profile
from harness.model.prompt import PromptRenderer
from harness.train.batch_layout import laid_out, written_layout
from harness.train.data import IGNORED_LABEL, training_rows
from harness.train.settings import check_names, lora_config, sft_config
from harness.types import Task

TASKS = [
    Task("a", "A list", reference="<ul><li>one</li></ul>"),
    Task("b", "A form", input="<p>old</p>", reference=" <form></form>\n"),
]


@pytest.fixture
def renderer(embedded: LoadedModel, embedded_profile: Profile) -> PromptRenderer:
    return PromptRenderer(embedded_profile.file.prompt, True, embedded.tokenizer)


def test_a_row_is_prompt_answer_and_end_and_only_the_answer_is_learnt(renderer: PromptRenderer) -> None:
    rows, report = training_rows(TASKS, renderer, 1024)
    assert report.lines() == []
    for row, task in zip(rows, TASKS, strict=True):
        prompt, answer = renderer.tokens(task), renderer.answer_tokens(task.reference)
        assert row.input_ids == prompt + answer
        assert row.labels == [IGNORED_LABEL] * len(prompt) + answer
        assert row.labels[-1] == renderer.tokenizer.eos_token_id


def test_base_and_tuned_are_asked_exactly_what_was_trained(renderer: PromptRenderer) -> None:
    rows, _ = training_rows(TASKS, renderer, 1024)
    for row, task in zip(rows, TASKS, strict=True):
        learnt = row.labels.count(IGNORED_LABEL)
        assert row.input_ids[:learnt] == renderer.tokens(task)


def test_faulty_rows_are_named(renderer: PromptRenderer) -> None:
    long = Task("long", "A poem", reference="<p>" + "rain " * 400)
    again = Task("again", "A list", reference=TASKS[0].reference)
    crowded = Task("crowded", "rain " * 200, reference="<p>rain</p>")
    empty = Task("empty", "Nothing", reference=" \n")
    rows, report = training_rows([*TASKS, empty, again, long, crowded], renderer, 100)
    assert [row.task for row in rows] == ["a", "b", "long"]
    assert len(rows[-1].input_ids) == len(rows[-1].labels) == 100
    assert (report.empty, report.duplicates, report.truncated) == (("empty",), ("again",), ("long",))
    assert report.lines() == [
        "1 training rows without an answer, left out: empty",
        "1 training rows equal to an earlier row, left out: again",
        "1 training rows longer than max_length, cut: long",
        "1 training rows whose prompt alone fills max_length, left out: crowded",
    ]


def test_no_rows_are_left(renderer: PromptRenderer) -> None:
    for tasks, limit in (([], 1024), ([Task("e", "x")], 1024), (TASKS, 4)):
        with pytest.raises(UsageError, match="no training rows are left"):
            training_rows(tasks, renderer, limit)


@pytest.mark.parametrize(
    ("sft", "lora", "message"),
    [
        ({"learning_rat": 1}, {}, r"train\.sft has no field 'learning_rat' \(did you mean 'learning_rate'\?\)"),
        ({}, {"lora_alhpa": 1}, r"train\.lora has no field 'lora_alhpa' \(did you mean 'lora_alpha'\?\)"),
        ({"max_seq_length": 1}, {}, r"train\.sft has no field 'max_seq_length' \(did you mean 'max_length'\?\)"),
        ({"output_dir": "x"}, {}, r"train\.sft\.output_dir is set by the harness"),
        ({"seed": 1}, {}, r"train\.sft\.seed is set by the harness"),
        (
            {"gradient_checkpointing": True, "activation_checkpointing": False},
            {},
            r"activation_checkpointing and gradient_checkpointing are one setting and differ \(keep one",
        ),
    ],
)
def test_a_wrong_name_is_one_line(sft: dict[str, Any], lora: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_names(sft, lora)


def test_a_wrong_value_is_one_line(tmp_path: Any) -> None:
    precision = Precision("none", "float32", "cpu")
    with pytest.raises(UsageError, match=r"train\.sft is not accepted by trl: .*sideways"):
        sft_config({"lr_scheduler_type": "sideways"}, precision, 0, str(tmp_path))
    with pytest.raises(UsageError, match=r"train\.lora is not accepted by peft"):
        lora_config({"r": 4, "target_modules": "all-linear", "layers_to_transform": [1], "layers_pattern": "x"})


@pytest.mark.parametrize(
    ("dtype", "bf16", "fp16"), [("float32", False, False), ("bfloat16", True, False), ("float16", False, True)]
)
def test_precision_and_seed_come_from_the_harness(tmp_path: Any, dtype: str, bf16: bool, fp16: bool) -> None:
    config = sft_config({"learning_rate": 0.5}, Precision("none", dtype, "cpu"), 7, str(tmp_path))
    assert (config.bf16, config.fp16) == (bf16, fp16)
    assert (config.seed, config.data_seed, config.learning_rate) == (7, 7, 0.5)
    assert config.report_to == []


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
@pytest.mark.parametrize("wanted", [True, False])
def test_either_name_of_checkpointing_is_honoured(tmp_path: Any, name: str, wanted: bool) -> None:
    layout = written_layout({name: wanted})
    assert layout.checkpointing is wanted
    config = sft_config(laid_out({name: wanted}, layout), Precision("none", "float32", "cpu"), 0, str(tmp_path))
    assert config.gradient_checkpointing is wanted


def test_a_thought_that_the_prompt_opens_is_closed_before_the_answer(renderer: PromptRenderer) -> None:
    tokenizer = copy.deepcopy(renderer.tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}Answer: <think>\n"
    thinking = PromptRenderer("{{ prompt }}", True, tokenizer)
    tasks = [
        Task("plain", "A list", reference="<p>one</p>"),
        Task("thought", "A form", reference="<think>hm</think><p>two</p>"),
    ]
    rows, _ = training_rows(tasks, thinking, None)
    learnt = [tokenizer.decode([token for token in row.labels if token != IGNORED_LABEL][:-1]) for row in rows]
    assert learnt == ["</think>\n\n<p>one</p>", "hm</think><p>two</p>"]
    for row in rows:
        assert find_page(tokenizer.decode(row.input_ids[:-1]).partition("Answer: ")[2]).html.startswith("<p>")
