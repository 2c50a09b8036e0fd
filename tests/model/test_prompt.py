from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.model.load import LoadedModel
from harness.model.profile import Profile, load_profile
from harness.model.prompt import PromptRenderer, few_shot_examples
from harness.model.tokenizer import load_tokenizer
from harness.types import Task
from tests.conftest import ROOT
from tests.model.kinds import write_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TASK = Task("t", " A page about <b>bread</b> & salt ", input="", reference=" <p>Bread</p>\n")
EXAMPLES = (Task("e1", "A list", reference="<ul></ul>"), Task("e2", "A form", input="<p>", reference="<form></form>"))


@pytest.fixture
def chat(embedded: LoadedModel, embedded_profile: Profile) -> PromptRenderer:
    return PromptRenderer(embedded_profile.file.prompt, True, embedded.tokenizer)


@pytest.fixture
def plain(embedded: LoadedModel) -> PromptRenderer:
    return PromptRenderer(load_profile("llama-2-7b", ROOT / "baselines").file.prompt, False, embedded.tokenizer)


def test_a_request_is_put_as_the_template_says_and_not_escaped(chat: PromptRenderer) -> None:
    said = chat.user_turn(TASK)
    assert said.endswith("\n\nA page about <b>bread</b> & salt")
    assert chat.user_turn(replace(TASK, input=" <p>old</p> ")) == f"{said}\n\n<p>old</p>"


def test_braces_in_a_request_are_no_template(chat: PromptRenderer) -> None:
    assert chat.user_turn(Task("t", "{{ input }}{% if %}", "{{ prompt }}")).endswith(
        "{{ input }}{% if %}\n\n{{ prompt }}"
    )


def test_a_chat_model_is_asked_through_its_template(chat: PromptRenderer) -> None:
    text = chat.text(TASK, EXAMPLES)
    assert text.count("<|im_start|>user") == 3
    assert text.count("<|im_start|>assistant") == 3
    assert text.index("<ul></ul>") < text.index("<form></form>") < text.index("bread")
    assert text.endswith("<|im_start|>assistant\n")
    assert chat.tokenizer.decode(chat.tokens(TASK)) == chat.text(TASK)


def test_a_model_without_a_chat_template_is_given_plain_text(plain: PromptRenderer) -> None:
    text = plain.text(TASK, EXAMPLES)
    assert "<|im_start|>" not in text
    assert text.count("### Response:") == 3
    assert text.count("### Input:") == 1
    assert text.endswith("### Response:")
    assert plain.text(TASK, EXAMPLES[:1]) == plain.user_turn(EXAMPLES[0]) + "<ul></ul>\n\n" + plain.user_turn(TASK)


@given(prompt=st.text(min_size=1), given_page=st.text())
def test_any_request_can_be_asked(
    prompt: str, given_page: str, embedded: LoadedModel, embedded_profile: Profile
) -> None:
    renderer = PromptRenderer(embedded_profile.file.prompt, True, embedded.tokenizer)
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in prompt + given_page):
        return
    tokens = renderer.tokens(Task("t", prompt, given_page))
    assert tokens
    assert renderer.tokens(Task("other", prompt, given_page)) == tokens


def test_an_answer_ends_with_the_end_token(chat: PromptRenderer) -> None:
    tokens = chat.answer_tokens(TASK.reference)
    assert tokens[-1] == chat.tokenizer.eos_token_id
    assert chat.tokenizer.decode(tokens[:-1]) == "<p>Bread</p>"


def test_the_hash_stands_for_all_that_shapes_a_prompt(chat: PromptRenderer) -> None:
    assert PromptRenderer(chat.template, True, chat.tokenizer).sha == chat.sha
    assert replace(chat, chat=False).sha != chat.sha
    assert replace(chat, template=chat.template + " ").sha != chat.sha


@pytest.mark.parametrize("template", ["{{ promt }}", "{% if %}", "{{ prompt"])
def test_a_wrong_template_is_one_line(chat: PromptRenderer, template: str) -> None:
    with pytest.raises(UsageError, match=r"the profile's prompt template is wrong: .* \(it may use prompt and input\)"):
        replace(chat, template=template).text(TASK)


TRAIN = [Task(f"t{n}", f"p{n}", reference="x" * n, category=f"c{n % 4}") for n in range(1, 30)]


def test_examples_are_fixed_typical_and_of_different_categories() -> None:
    chosen = few_shot_examples(TRAIN, 2)
    assert set(chosen) <= set(TRAIN)
    assert len({task.category for task in chosen}) == 2
    assert all(abs(len(task.reference) - 15) <= 4 for task in chosen)
    assert few_shot_examples(TRAIN[::-1], 2) == chosen


@given(count=st.integers(0, 40))
def test_as_many_examples_as_asked_and_there_are(count: int) -> None:
    chosen = few_shot_examples(TRAIN, count)
    assert len(chosen) == min(count, len(TRAIN)) == len(set(chosen))


def test_tasks_without_an_answer_are_no_examples_while_there_are_others() -> None:
    mixed = [Task("none", "p"), Task("edit", "p", "<p>", "<p>"), Task("good", "p", reference="<p>")]
    assert [task.id for task in few_shot_examples(mixed, 1)] == ["good"]
    assert few_shot_examples([], 2) == ()
    no_answers = [Task("none", "p", "<p>"), Task("edit", "p", "<p>", "<p>new</p>")]
    assert [task.id for task in few_shot_examples(no_answers, 2)] == ["edit"]


@pytest.fixture
def llama_like(tmp_path: Path) -> PreTrainedTokenizerBase:
    """A tokenizer whose begin and end tokens are `<s>` and `</s>`, the first put before every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(write_base(tmp_path / "model"))
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


STRUCK = Task("struck", "Show <s>9</s> 5", reference="<p><s>9</s> 5</p>")


def test_a_tag_of_html_is_no_special_token(llama_like: PreTrainedTokenizerBase) -> None:
    plain = PromptRenderer("Write: {{ prompt }}", False, llama_like)
    begin, end = llama_like.bos_token_id, llama_like.eos_token_id
    answer = plain.answer_tokens(STRUCK.reference)
    assert (answer.count(begin), answer.count(end), answer[-1]) == (0, 1, end)
    assert llama_like.decode(answer[:-1]) == STRUCK.reference
    few_shot = plain.tokens(Task("t", "A list"), [STRUCK])
    for tokens in (plain.tokens(STRUCK), few_shot):
        assert (tokens.count(begin), tokens.count(end), tokens[0]) == (1, 0, begin)
    llama_like.chat_template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
    asked = replace(plain, chat=True).tokens(STRUCK)
    assert (asked.count(begin), asked.count(end)) == (1, 1)
    assert llama_like.decode(asked) == "<s>Write: Show <s>9</s> 5</s>"


def test_an_end_token_left_in_an_answer_is_none_of_its_tags(llama_like: PreTrainedTokenizerBase) -> None:
    plain = PromptRenderer("{{ prompt }}", False, llama_like)
    assert plain.answer_tokens("<p>5</p></s>")[-2:] == [llama_like.eos_token_id] * 2


def test_a_begin_token_of_the_profile_takes_the_place_of_the_tokenizer_s(llama_like: PreTrainedTokenizerBase) -> None:
    asked = PromptRenderer("<s>[INST] {{ prompt }} [/INST]", False, llama_like).tokens(Task("t", "A list"))
    assert asked == llama_like("[INST] A list [/INST]")["input_ids"]


def test_a_template_with_a_clock_says_the_same_every_day(llama_like: PreTrainedTokenizerBase) -> None:
    llama_like.chat_template = (
        "{% set today = strftime_now('%d %b %Y') %}\n{{ today }}, {{ strftime_now('%A, %-d.%-m.%y, %H:%M') }}\n"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    asked = PromptRenderer("{{ prompt }}", True, llama_like).text(Task("t", "A list"))
    assert asked == "26 Jul 2024, Friday, 26.7.24, 00:00\nA list"
