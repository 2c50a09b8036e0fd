"""Decoding with slots says what transformers' own `generate` says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.generate.stopping import StopRule, end_tokens
from harness.generate.transformers.continuous_batching import (
    PADDED_SHARE,
    Decoded,
    Decoder,
    Prompt,
    of_similar_length,
)
from harness.generate.transformers.kv_cache import grouped
from harness.generate.transformers.prefill import MIN_SHARED_PREFIX, common_prefix
from harness.model.load import LoadedModel
from harness.model.profile import Profile
from harness.model.prompt import PromptRenderer
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.split import stratified
from tests.conftest import ROOT

NEW_TOKENS = 12


def stop_rule(loaded: LoadedModel, new_tokens: int, at_end_tag: bool = True) -> StopRule:
    ends = end_tokens(loaded.model, loaded.tokenizer)
    return StopRule(loaded.tokenizer, ends, new_tokens, at_end_tag=at_end_tag, cut_loops=False)


def decode(
    loaded: LoadedModel, prompts: list[list[int]], batch_size: int, new_tokens: int, temperature: float = 0.0
) -> dict[int, Decoded]:
    decoder = Decoder(loaded.model, stop_rule(loaded, new_tokens), batch_size, temperature)
    given = [Prompt(number, tuple(tokens), seed=number) for number, tokens in enumerate(prompts)]
    found = list(decoder.decode(given))
    assert sorted(row.key for row in found) == list(range(len(prompts)))
    return {row.key: row for row in found}


def reference(loaded: LoadedModel, prompt: list[int], new_tokens: int, **more: Any) -> list[int]:
    """What transformers' own `generate` answers, without the end token."""
    ids = torch.tensor([prompt])
    out = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=loaded.tokenizer.pad_token_id,
        **more,
    )[0, len(prompt) :].tolist()
    return out[:-1] if out[-1] in end_tokens(loaded.model, loaded.tokenizer) else out


@pytest.fixture(scope="module")
def embedded_prompts(embedded: LoadedModel, embedded_profile: Profile) -> list[list[int]]:
    """Four held-out requests, and two whose answers end by the end tag and by the end token."""
    renderer = PromptRenderer(embedded_profile.file.prompt, True, embedded.tokenizer)
    suite = load_suite(SuiteLocation("html_starter", ROOT / "tasks" / "html_starter"))
    prompts = [renderer.tokens(task) for task in stratified(suite.held_out, 4)]
    for turn, begun in (
        ("Write an empty HTML page", "```\n<html>\n<body>\n<h1>Hello World</h1>\n</body>"),
        ("What is the capital of France? Answer with one word.", ""),
    ):
        chat = [{"role": "user", "content": turn}]
        text = embedded.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + begun
        prompts.append(embedded.tokenizer(text, add_special_tokens=False)["input_ids"])
    return prompts


@pytest.fixture(scope="module")
def embedded_answers(embedded: LoadedModel, embedded_prompts: list[list[int]]) -> list[list[int]]:
    stop = {"stop_strings": ["</html>"], "tokenizer": embedded.tokenizer}
    return [reference(embedded, prompt, NEW_TOKENS, **stop) for prompt in embedded_prompts]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_greedy_answers_equal_those_of_transformers(
    embedded: LoadedModel, embedded_prompts: list[list[int]], embedded_answers: list[list[int]], batch_size: int
) -> None:
    found = decode(embedded, embedded_prompts, batch_size, NEW_TOKENS)
    assert [found[number].tokens for number in range(len(embedded_prompts))] == embedded_answers
    assert {"length", "eos", "stop"} == {row.finish_reason for row in found.values()}


def some_prompts(loaded: LoadedModel, count: int, shared: str = "") -> list[list[int]]:
    words = ["bread", "rivers", "clouds", "poems", "engines", "chess", "violins", "harbours", "lamps", "wolves", "salt"]
    texts = [shared + " ".join(words[n % 11 :] + words[: n % 7]) for n in range(count)]
    return [loaded.tokenizer(text)["input_ids"] for text in texts]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize(
    "shared", ["", "Write a page. It has a heading, a table and a list of links at its end. Now: "]
)
def test_slots_are_refilled_without_changing_an_answer(tiny: LoadedModel, batch_size: int, shared: str) -> None:
    prompts = some_prompts(tiny, 10, shared)
    if shared:
        assert common_prefix([tuple(prompt) for prompt in prompts]) >= MIN_SHARED_PREFIX
    found = decode(tiny, prompts, batch_size, 20)
    assert [found[n].tokens for n in range(10)] == [reference(tiny, prompt, 20) for prompt in prompts]


def test_rows_that_end_at_different_times_leave_the_others_alone(tiny: LoadedModel) -> None:
    """The embedded end token is hardly ever drawn by random weights: here several tokens end an answer."""
    prompts = some_prompts(tiny, 9)
    whole = [reference(tiny, prompt, 30) for prompt in prompts]
    ends = frozenset({whole[0][4], whole[3][11], whole[5][20]})
    expected = []
    for answer in whole:
        cut = next((at for at, token in enumerate(answer) if token in ends), None)
        expected.append((answer, "length") if cut is None else (answer[:cut], "eos"))
    rule = StopRule(tiny.tokenizer, ends, 30, at_end_tag=False, cut_loops=False)
    given = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(prompts)]
    found = {row.key: row for row in Decoder(tiny.model, rule, 3).decode(given)}
    assert [(found[n].tokens, found[n].finish_reason) for n in range(9)] == expected
    assert len({len(answer) for answer, _ in expected}) > 1


def test_samples_depend_on_their_seed_and_not_on_their_batch(tiny: LoadedModel) -> None:
    prompts = some_prompts(tiny, 6)
    alone = decode(tiny, prompts, 1, 12, temperature=1.0)
    together = decode(tiny, prompts, 4, 12, temperature=1.0)
    assert [alone[n].tokens for n in range(6)] == [together[n].tokens for n in range(6)]
    decoder = Decoder(tiny.model, stop_rule(tiny, 12), 4, 1.0)
    same_prompt = list(decoder.decode([Prompt(0, tuple(prompts[0]), 1), Prompt(1, tuple(prompts[0]), 2)]))
    assert same_prompt[0].tokens != same_prompt[1].tokens


def test_equal_prompts_get_equal_answers(tiny: LoadedModel) -> None:
    found = decode(tiny, [some_prompts(tiny, 1)[0]] * 5, 2, 10)
    assert len({tuple(row.tokens) for row in found.values()}) == 1


def test_nothing_is_asked_nothing_is_answered(tiny: LoadedModel) -> None:
    assert list(Decoder(tiny.model, stop_rule(tiny, 4), 2).decode([])) == []


def test_a_decoded_model_is_left_as_it_was(tiny: LoadedModel) -> None:
    before = tiny.model.config._attn_implementation
    decode(tiny, some_prompts(tiny, 2), 2, 4)
    assert tiny.model.config._attn_implementation == before
    assert not any(parameter.grad is not None for parameter in tiny.model.parameters())


@pytest.mark.parametrize(
    ("sequences", "length"),
    [([(1, 2, 3), (1, 2, 4)], 2), ([(1, 2), (1, 2)], 1), ([(1,), (1, 2)], 0), ([(1, 2), (3, 4)], 0), ([(5, 6, 7)], 2)],
)
def test_a_shared_prefix_leaves_each_prompt_a_token(sequences: Any, length: int) -> None:
    assert common_prefix(sequences) == length


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_prompts_are_prefilled_with_their_like_and_each_once(lengths: list[int]) -> None:
    prompts = [Prompt(n, (0,) * length) for n, length in enumerate(sorted(lengths, reverse=True))]
    batches = list(of_similar_length(prompts))
    assert [prompt for batch in batches for prompt in batch] == prompts
    assert all(len(batch[-1].tokens) >= PADDED_SHARE * len(batch[0].tokens) for batch in batches)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=64))
def test_every_row_attends_once_and_over_all_its_positions(steps: list[int]) -> None:
    widths = [64 * step for step in steps]
    groups = grouped(widths)
    assert [row for first, end, _ in groups for row in range(first, end)] == list(range(len(widths)))
    assert all(width == max(widths[first:end]) for first, end, width in groups)


def test_a_long_row_does_not_widen_the_others() -> None:
    assert grouped([640, *[128] * 30]) == [(0, 1, 640), (1, 31, 128)]
    assert grouped([192, 128, 192]) == [(0, 3, 192)]  # a call costs more than what it would save
