"""Decoding on fused weights says what transformers' own `generate` says; here with plain torch in place of kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.generate.llama import torch_ops
from harness.generate.llama.adapters import MIXED, AdapterRows, LoraStack
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.model import FusedLlama
from harness.generate.llama.places import Places
from harness.generate.llama.prefill import Prefill
from harness.generate.llama.products import PackedProduct, Product
from harness.generate.llama.prompt_batch import NO_PREFIX, PromptBatch
from harness.generate.llama.stepper import ROWS_OF_A_CAPTURE, Stepper
from harness.generate.stopping import StopRule
from harness.generate.transformers.continuous_batching import Decoded, Decoder, Prompt
from harness.model.load import LoadedModel
from tests.generate.transformers.test_continuous_batching import reference, some_prompts, stop_rule

SHARED = "Write a page. It has a heading, a table and a list of links at its end. Now: "


def stream(
    model: Any, stop: StopRule, prompts: list[list[int]], batch_size: int, temperature: float = 0.0
) -> list[Decoded]:
    fused = FusedLlama(model)
    fused.adapt(model)
    given = [Prompt(number, tuple(tokens), seed=number) for number, tokens in enumerate(prompts)]
    found = {row.key: row for row in StreamDecoder(fused, stop, batch_size, temperature).decode(given)}
    return [found[number] for number in range(len(prompts))]


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("shared", ["", SHARED])
def test_greedy_answers_equal_those_of_transformers(tiny: LoadedModel, batch_size: int, shared: str) -> None:
    prompts = some_prompts(tiny, 10, shared)
    found = stream(tiny.model, stop_rule(tiny, 20), prompts, batch_size)
    assert [row.tokens for row in found] == [reference(tiny, prompt, 20) for prompt in prompts]


def test_rows_that_end_at_different_times_leave_the_others_alone(tiny: LoadedModel) -> None:
    prompts = some_prompts(tiny, 9)
    whole = [reference(tiny, prompt, 30) for prompt in prompts]
    ends = frozenset({whole[0][4], whole[3][11], whole[5][20]})
    rule = StopRule(tiny.tokenizer, ends, 30, at_end_tag=False, cut_loops=False)
    given = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(prompts)]
    expected = {row.key: (row.tokens, row.finish_reason) for row in Decoder(tiny.model, rule, 3).decode(given)}
    found = stream(tiny.model, rule, prompts, 3)
    assert {row.key: (row.tokens, row.finish_reason) for row in found} == expected
    assert len({len(row.tokens) for row in found}) > 1


def test_samples_depend_on_their_seed_and_not_on_their_batch(tiny: LoadedModel) -> None:
    prompts = some_prompts(tiny, 6)
    alone, together = (stream(tiny.model, stop_rule(tiny, 12), prompts, batch, 1.0) for batch in (1, 4))
    assert [row.tokens for row in alone] == [row.tokens for row in together]
    same = stream(tiny.model, stop_rule(tiny, 12), [prompts[0]] * 2, 2, 1.0)
    assert same[0].tokens != same[1].tokens


def test_kernels_are_given_places_and_positions_one_after_the_other(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They read them without strides: of equal prompts one token each is left behind the shared prefix."""
    kept = torch_ops.turn_and_store

    def checked(projected: Any, stored: Any, angles: Any, *given: Any) -> Any:
        assert all(one.is_contiguous() for one in given if isinstance(one, torch.Tensor))
        return kept(projected, stored, angles, *given)

    monkeypatch.setattr(torch_ops, "turn_and_store", checked)
    prompt = some_prompts(tiny, 1, SHARED)[0]
    found = stream(tiny.model, stop_rule(tiny, 8), [prompt] * 5, 5)
    assert [row.tokens for row in found] == [reference(tiny, prompt, 8)] * 5


def test_a_prompts_own_limit_ends_it(tiny: LoadedModel) -> None:
    prompts = some_prompts(tiny, 3)
    given = [Prompt(number, tuple(tokens), limit=4 + number) for number, tokens in enumerate(prompts)]
    for decoder in (
        Decoder(tiny.model, stop_rule(tiny, 9), 2),
        StreamDecoder(FusedLlama(tiny.model), stop_rule(tiny, 9), 2),
    ):
        found = {row.key: row for row in decoder.decode(given)}
        assert [found[n].tokens for n in range(3)] == [
            reference(tiny, prompt, 4 + n) for n, prompt in enumerate(prompts)
        ]
        assert {row.finish_reason for row in found.values()} == {"length"}


def with_adapter(model: Any, **more: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(5)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear"}
    adapted = get_peft_model(model, LoraConfig(**{"task_type": "CAUSAL_LM", **settings, **more}))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.eval()


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj", "down_proj"]])
def test_an_adapter_is_beside_the_weights_on_or_off(tiny: LoadedModel, targets: Any) -> None:
    prompts = some_prompts(tiny, 5)
    rule = stop_rule(tiny, 16)
    given = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(prompts)]
    model = with_adapter(tiny.model, target_modules=targets)
    fused = FusedLlama(model)
    said = {}
    for on in (True, False, True):
        with model.disable_adapter() if not on else torch.no_grad():
            expected = {row.key: row.tokens for row in Decoder(model, rule, 2).decode(given)}
            assert fused.adapt(model) is on
            assert {row.key: row.tokens for row in StreamDecoder(fused, rule, 2).decode(given)} == expected
        said[on] = expected
    assert said[True] != said[False]


def queue_of(model: Any, given: dict[str, list[list[int]]]) -> tuple[list[Any], list[Prompt]]:
    """Factors and prompts of models by the names of their adapters, "" for the base; names may begin alike."""
    fused, factors, prompts = FusedLlama(model), [], []
    for number, (name, tokens) in enumerate(given.items()):
        adapter = name.partition(" ")[0]
        if adapter:
            model.set_adapter(adapter)
        with torch.no_grad() if adapter or not hasattr(model, "disable_adapter") else model.disable_adapter():
            factors.append(fused.factors(model))
        prompts += [
            Prompt(1000 * number + one, tuple(each), seed=one, limit=6 + 5 * (one % 4), model=number)
            for one, each in enumerate(tokens)
        ]
    return factors, prompts


def two_adapters(loaded: LoadedModel) -> Any:
    """One on every layer, and another of other layers and another rank."""
    from peft import LoraConfig

    model = with_adapter(loaded.model)
    model.add_adapter(
        "other", LoraConfig(task_type="CAUSAL_LM", r=20, lora_alpha=40, target_modules=["q_proj", "o_proj"])
    )
    torch.manual_seed(8)
    for name, parameter in model.named_parameters():
        if "lora_B.other" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize(("packed", "by_turns"), [(False, True), (True, True), (False, False)])
def test_models_that_decode_together_say_what_each_says_alone(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, batch_size: int, packed: bool, by_turns: bool
) -> None:
    """The base, the base behind a prefix of its own, and two adapters; also where products are of another kind."""
    if packed:
        kept = FusedLlama._product

        def apart(self: FusedLlama, block: Any, names: tuple[str, ...]) -> PackedProduct:
            product = kept(self, block, names)
            assert isinstance(product, Product)
            return PackedProduct(product.below, torch.nn.functional.linear)

        monkeypatch.setattr(FusedLlama, "_product", apart)
    model, rule = two_adapters(tiny), stop_rule(tiny, 30)
    given = {
        "": some_prompts(tiny, 7),
        " with examples": some_prompts(tiny, 5, SHARED),
        "default": some_prompts(tiny, 6),
        "other": some_prompts(tiny, 4, SHARED[:20]),
    }
    factors, prompts = queue_of(model, given)
    alone: dict[int, list[int]] = {}
    fused = FusedLlama(model)
    for number, one in enumerate(factors):
        fused.hold([one])
        own = [replace(prompt, model=0) for prompt in prompts if prompt.model == number]
        alone |= {row.key: row.tokens for row in StreamDecoder(fused, rule, batch_size).decode(own)}
    said = {number: [alone[1000 * number + one] for one in range(4)] for number in (0, 2, 3)}
    assert said[0] != said[2] != said[3] != said[0]
    modes = []
    stepped = FusedLlama.step
    monkeypatch.setattr(
        FusedLlama,
        "step",
        lambda self, *given: modes.append(given[-1].adapters.adapter) or stepped(self, *given),
    )
    fused.hold(factors)
    fused.model_by_model = not by_turns
    assert {row.key: row.tokens for row in StreamDecoder(fused, rule, batch_size).decode(prompts)} == alone
    one_by_one = {0, 1, 2} if batch_size == 1 else {0, 1, 2, MIXED} - ({1} if batch_size == 7 else set())
    assert set(modes) == ({MIXED} if by_turns else one_by_one)


def test_a_pass_through_different_adapters_says_which_token_goes_through_which() -> None:
    factors = torch.ones(2, 3), torch.ones(5, 2)
    stack = LoraStack.of([factors], torch_ops.add_low_rank)
    assert stack is not None
    with pytest.raises(AssertionError):
        stack.add(torch.zeros(1, 5), torch.ones(1, 2), AdapterRows(MIXED))


def test_models_take_turns_and_what_is_longer_than_usual_enters_first(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, the first of each model, the second of each; where answers shall be known early, one model first."""
    entered: list[tuple[int, int]] = []
    kept = Stepper.set_rows
    fused = FusedLlama(tiny.model)
    fused.hold([None, None])
    prompts = [
        Prompt(10 * model + number, (5, *range(3, 6 + number)), seed=10 * model + number, model=model)
        for model, count in ((0, 3), (1, 4))
        for number in range(count)
    ]
    prompts[5] = replace(prompts[5], tokens=(5,) * 300)
    monkeypatch.setattr(
        Stepper,
        "set_rows",
        lambda self, first, columns: (entered.extend(column[3] for column in columns), kept(self, first, columns))[1],
    )
    for by_turns, expected in ((True, [12, 0, 10, 1, 11, 2, 13]), (False, [0, 1, 2, 12, 10, 11, 13])):
        fused.model_by_model = not by_turns
        entered.clear()
        assert len(list(StreamDecoder(fused, stop_rule(tiny, 3), 1).decode(prompts))) == 7
        assert entered == expected


class Captured(set[Any]):
    """Stands for graphs; notes the first part of each key that one was asked for."""

    def __init__(self, sizes: list[Any]) -> None:
        super().__init__()
        self.sizes = sizes

    def run(self, key: Any, work: Any, rehearse: Any) -> torch.Tensor:
        self.add(key)
        self.sizes.append(key[0])
        return torch.zeros(1)


def test_a_larger_graph_makes_the_steps_of_fewer_rows_until_a_capture_had_been_cheaper(tiny: LoadedModel) -> None:
    sizes: list[int] = []
    fused = FusedLlama(tiny.model)
    stepper = Stepper(fused, 50, fused.pool(4), 4, 0.0)
    stepper.graphs = Captured(sizes)  # type: ignore[assignment]
    for _ in range(2):
        stepper.step(7)  # nothing else is there
    stepper.step(49)
    stepper.step(7, 1)  # another adapter's is no help
    stepper.step(7, MIXED)
    assert sizes == [8, 8, 50, 8, 8]
    sizes.clear()
    rows_in_vain = 50 - 32
    for _ in range(ROWS_OF_A_CAPTURE // rows_in_vain + 3):
        stepper.step(30)
    assert sizes == [50] * (ROWS_OF_A_CAPTURE // rows_in_vain) + [32] * 3


def test_a_prefix_is_computed_once_and_when_its_model_enters(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = two_adapters(tiny), []
    factors, prompts = queue_of(model, {"": some_prompts(tiny, 5, SHARED), "default": some_prompts(tiny, 5, SHARED)})
    prefilled = FusedLlama.prefill

    def watched(self: FusedLlama, given: PromptBatch, *more: Any, **how: Any) -> torch.Tensor:
        seen.append((len(given.lengths), given.prefixes[0].length, given.adapters[0].item()))
        return prefilled(self, given, *more, **how)

    stepped = FusedLlama.step

    def watched_step(self: FusedLlama, *given: Any) -> torch.Tensor:
        prompts = given[-1].prompts
        if prompts is not None:
            seen.append((len(prompts.lengths), prompts.prefixes[0].length, 0))
        return stepped(self, *given)

    monkeypatch.setattr(FusedLlama, "prefill", watched)
    monkeypatch.setattr(FusedLlama, "step", watched_step)
    fused = FusedLlama(model)
    fused.hold(factors)
    rows = list(StreamDecoder(fused, stop_rule(tiny, 30), 2).decode(prompts))
    assert len(rows) == 10
    prefixes = [adapter for count, stored, adapter in seen if stored == 0]
    assert prefixes == [0, 1]
    assert sum(count for count, stored, _ in seen if stored) == 10


def test_what_a_row_gives_back_is_room_for_the_next_whichever_model_it_is_of(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models have prompts of many lengths; the second one's longest come when the first one's shortest leave."""
    taken: list[int | None] = []
    kept = Places.take
    monkeypatch.setattr(Places, "take", lambda self, count: taken.append(kept(self, count)) or taken[-1])
    prompts = sorted(some_prompts(tiny, 11), key=len, reverse=True)
    assert len({len(tokens) for tokens in prompts}) > 3
    _, given = queue_of(tiny.model, {"": prompts, " again": prompts})
    fused = FusedLlama(tiny.model)
    fused.hold([None, None])
    assert len(list(StreamDecoder(fused, stop_rule(tiny, 30), 4).decode(given))) == len(taken) == 22
    assert None not in taken


@pytest.mark.parametrize("shared", ["", SHARED])
def test_prompts_enter_within_a_step_of_the_others(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, shared: str
) -> None:
    """Each as soon as a row is free, with one pass over the weights for both; long ones by themselves."""
    prompts = some_prompts(tiny, 9, shared)
    prompts[4] = prompts[4] + prompts[5] * 30
    entered: dict[str, list[tuple[int, ...]]] = {"beside": [], "alone": []}
    prefilled, stepped = FusedLlama.prefill, FusedLlama.step

    def watched(self: FusedLlama, given: PromptBatch, *more: Any, **how: Any) -> torch.Tensor:
        entered["alone"].append(given.lengths)
        return prefilled(self, given, *more, **how)

    def watched_step(self: FusedLlama, *given: Any) -> torch.Tensor:
        prompts = given[-1].prompts
        if prompts is not None:
            entered["beside"].append(prompts.lengths)
        return stepped(self, *given)

    monkeypatch.setattr(FusedLlama, "prefill", watched)
    monkeypatch.setattr(FusedLlama, "step", watched_step)
    given = [Prompt(number, tuple(tokens), limit=3 + number % 4) for number, tokens in enumerate(prompts)]
    found = {row.key: row.tokens for row in StreamDecoder(FusedLlama(tiny.model), stop_rule(tiny, 20), 4).decode(given)}
    assert [found[n] for n in range(9)] == [reference(tiny, prompt, 3 + n % 4) for n, prompt in enumerate(prompts)]
    assert sum(map(len, entered["beside"])) >= 3
    assert all(sum(lengths) <= 256 for lengths in entered["beside"])
    assert any(max(lengths) > 256 for lengths in entered["alone"])


def test_prompts_of_one_size_are_captured_when_they_come_again_and_again(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[Any] = []
    alone: list[int] = []

    def watched(self: FusedLlama, given: PromptBatch, *more: Any, **how: Any) -> torch.Tensor:
        alone.append(given.room.tokens)
        return torch.zeros(1)

    monkeypatch.setattr(FusedLlama, "prefill", watched)
    fused = FusedLlama(tiny.model)
    prefill = Prefill(fused, fused.pool(200), 100, Captured(sizes))  # type: ignore[arg-type]
    for count in (3, 70, 4, 5):  # the second is of another size
        prefill.run(prefill.batch([range(3, 3 + count)], [1], [NO_PREFIX], [0]), 0)
    assert ([room.tokens for room in sizes], alone) == ([64], [64, 128, 64])


def test_each_model_of_a_queue_ends_by_its_own_rule(tiny: LoadedModel) -> None:
    prompts = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(some_prompts(tiny, 4))]
    both = prompts + [replace(prompt, key=10 + prompt.key, model=1, stop=stop_rule(tiny, 9)) for prompt in prompts]
    fused = FusedLlama(tiny.model)
    fused.hold([None, None])
    found = {row.key: row.tokens for row in StreamDecoder(fused, stop_rule(tiny, 4), 3).decode(both)}
    assert {key: len(tokens) for key, tokens in found.items()} == dict.fromkeys(range(4), 4) | {
        10 + n: 9 for n in range(4)
    }
    assert all(found[10 + n][:4] == found[n] for n in range(4))


def test_rows_enter_as_there_is_room_for_their_keys_and_values(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long prompts are fewer rows at once, not more memory; one that is alone longer than the room still answers."""
    monkeypatch.setattr("harness.generate.llama.decoder.PROMPT_ROOM", 10)
    prompts = some_prompts(tiny, 9)
    prompts[3] = (prompts[3] * 40)[:200]
    pools, rows = [], []
    kept, stepped = FusedLlama.pool, FusedLlama.step
    monkeypatch.setattr(FusedLlama, "pool", lambda self, places: pools.append(places) or kept(self, places))
    monkeypatch.setattr(FusedLlama, "step", lambda self, *given: rows.append(len(given[0])) or stepped(self, *given))
    found = stream(tiny.model, stop_rule(tiny, 20), prompts, 4)
    assert [row.tokens for row in found] == [reference(tiny, prompt, 20) for prompt in prompts]
    assert pools == [1 + 200 + 20 + 2]
    assert rows[0] == 1
    assert 1 < max(rows) <= 4


def test_fused_weights_go_when_the_model_changes_hands(tiny: LoadedModel) -> None:
    tiny.fused = FusedLlama(tiny.model)
    tiny.release()
    assert tiny.fused is None
