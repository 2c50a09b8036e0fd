"""Decoding on a CPU, on weights packed once: it says what `generate` says, in whatever batch and with any adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.generate.llama import cpu_attention, cpu_ops, torch_ops
from harness.generate.llama.c_compiler import compiled
from harness.generate.llama.cpu_attention import (
    OPTIONS,
    SOURCE,
    Attention,
    CpuCache,
    Reading,
    by_library,
    by_torch,
    readings,
)
from harness.generate.llama.cpu_model import CpuLlama
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.model import FusedLlama
from harness.generate.llama.prompt_batch import NO_PREFIX, SharedPrefix, prompt_batch
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.comparison import LIMITS, Trace, relative_difference
from harness.generate.transformers.continuous_batching import Decoder, Prompt
from harness.generate.transformers.decoder_verdict import in_key, kinds_here
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.plan import plan_here, plan_on_cpu, usable_memory
from harness.model.gpu_memory import GIB
from harness.model.load import LoadedModel, Precision
from harness.model.profile_schema import Shape
from harness.model.prompt import PromptRenderer
from harness.storage.cache import cache_folder
from harness.types import Quantization, Task
from tests.generate.llama.test_decoder import SHARED, queue_of, two_adapters
from tests.generate.transformers.test_continuous_batching import reference, some_prompts, stop_rule

SEVEN_B = Shape(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    vocab_size=32000,
)
CPU = Precision("none", "float32", "cpu")


@pytest.fixture(params=["oneDNN", "without"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Products on packed weights, and plain ones where there is no oneDNN to pack them for; short prefixes count."""
    monkeypatch.setattr(cpu_attention, "READ_ONCE", 16)
    if request.param == "without":
        monkeypatch.setattr(cpu_ops, "packs", lambda dtype: False)
    elif not cpu_ops.packs(torch.float32):
        pytest.skip("no oneDNN here")
    return request.param


def answers(fused: FusedLlama, prompts: list[Prompt], rule: Any, batch_size: int) -> dict[int, list[int]]:
    return {row.key: row.tokens for row in StreamDecoder(fused, rule, batch_size).decode(prompts)}


@pytest.mark.parametrize(("batch_size", "shared"), [(1, ""), (3, 3 * SHARED), (32, SHARED)])
def test_greedy_answers_equal_those_of_transformers(
    tiny: LoadedModel, products: str, batch_size: int, shared: str
) -> None:
    prompts = some_prompts(tiny, 10, shared)
    given = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(prompts)]
    found = answers(CpuLlama(tiny.model), given, stop_rule(tiny, 20), batch_size)
    assert [found[number] for number in range(10)] == [reference(tiny, prompt, 20) for prompt in prompts]


def test_adapters_are_beside_packed_weights_each_for_its_own_rows(tiny: LoadedModel, products: str) -> None:
    model, rule = two_adapters(tiny), stop_rule(tiny, 20)
    given = {"": some_prompts(tiny, 4), "default": some_prompts(tiny, 4, SHARED), "other": some_prompts(tiny, 4)}
    factors, prompts = queue_of(model, given)
    expected: dict[int, list[int]] = {}
    for number, name in enumerate(given):
        own = [replace(prompt, model=0) for prompt in prompts if prompt.model == number]
        if name:
            model.set_adapter(name)
        with torch.no_grad() if name else model.disable_adapter():
            expected |= {row.key: row.tokens for row in Decoder(model, rule, 2).decode(own)}
    fused = CpuLlama(model)
    fused.hold(factors)
    assert answers(fused, prompts, rule, 5) == expected


@pytest.fixture(params=["compiled", "torch"])
def attend(request: pytest.FixtureRequest) -> Callable[[CpuCache, list[Reading]], Attention]:
    if request.param == "torch":
        return by_torch
    libraries = {dtype: compiled(SOURCE, *options) for dtype, options in OPTIONS.items()}
    if None in libraries.values():
        pytest.skip("no C compiler here")
    return lambda pool, rows: by_library(libraries[pool.keys.dtype], pool, rows)  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", [[0], [3, 0, 11, 7, 7], [63, 1]])
@pytest.mark.parametrize(("heads", "size"), [(6, 64), (2, 128), (4, 16), (8, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_attends_to_its_own_tokens(
    attend: Any, positions: list[int], heads: int, size: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(3)
    keys, values = torch.randn(2, 3, 2, 400, size, generator=generator).to(dtype)
    queries = torch.randn(len(positions), heads + 1, size, generator=generator).to(dtype)[:, :heads]
    starts = [1 + 70 * row for row in reversed(range(len(positions)))]
    pool = CpuCache(keys, values)
    found = attend(pool, readings(pool, starts, positions))(queries, 2)
    given = queries.contiguous().float(), keys[2].float(), values[2].float(), torch.tensor(starts)
    expected = torch_ops.attend(*given, torch.tensor(positions))
    assert torch.allclose(found.float(), expected, atol=1e-6 if dtype == torch.float32 else 0.02)


def test_what_rows_begin_with_in_common_is_read_once(attend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_attention, "READ_ONCE", 20)
    keys, values = torch.randn(2, 2, 2, 400, 8, generator=torch.Generator().manual_seed(4))
    queries = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(5))
    starts, positions, before = [1, 100, 200, 300], [30, 39, 24, 59], 20
    pool = CpuCache(keys, values)
    alone = attend(pool, readings(pool, starts, positions))(queries, 1)
    for start in starts[1:]:
        for kept in (keys, values):
            kept[:, :, start : start + before] = kept[:, :, 380:]
    whole = attend(pool, readings(pool, starts, positions))(queries, 1)
    prefix = SharedPrefix(380, before)
    pool.note(starts[1:3], [prefix] * 2)
    pool.note([starts[3], starts[0]], [prefix, NO_PREFIX])
    assert [*pool.prefixes] == [prefix]
    rows = readings(pool, starts, positions)
    assert [(row.first, row.count) for row in rows] == [(1, 31), (120, 20), (220, 5), (320, 40)]
    for start in starts[1:]:
        keys[:, :, start : start + before] = torch.nan  # the copies are not read
    assert torch.allclose(attend(pool, rows)(queries, 1), whole, atol=1e-6)
    assert torch.equal(whole[0], alone[0])


def test_where_nothing_compiles_torch_attends(own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int attend(")
    assert compiled(broken) is None
    monkeypatch.setenv("CC", str(tmp_path / "no compiler"))
    assert compiled(SOURCE, "-DANOTHER") is None
    assert not [*(cache_folder("compiled")).iterdir()]


@torch.inference_mode()
@pytest.mark.parametrize("shared", [[0, 0, 0], [9, 9, 9], [9, 0, 4]])
def test_prompts_of_any_length_enter_without_padding(tiny: LoadedModel, shared: list[int]) -> None:
    """Logits, keys and values are those of the reference; nothing is written outside the rows' places."""
    models = CpuLlama(tiny.model), FusedLlama(tiny.model)
    lengths = torch.tensor([12, 5, 1])
    tokens = torch.randint(3, 60, (3, 12), generator=torch.Generator().manual_seed(5)).tolist()
    prompts = [
        [1] * stored + row[:length] for row, length, stored in zip(tokens, lengths.tolist(), shared, strict=True)
    ]
    starts = torch.tensor([1, 60, 30])
    batch = prompt_batch(prompts, starts.tolist(), [SharedPrefix(1, stored) for stored in shared], [0] * 3)
    found = []
    for fused in models:
        pool = fused.pool(100)
        for kept in (pool.keys, pool.values):
            for start, stored in zip(starts, shared, strict=True):
                shape = kept[:, :, :stored].shape
                kept[:, :, start : start + stored] = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        logits = fused.prefill(batch, pool, 100)
        ends = starts + torch.tensor(shared) + lengths
        both = torch.stack([pool.keys, pool.values])
        found.append((logits, *(both[..., first:end, :] for first, end in zip(starts, ends, strict=True))))
        if fused is models[0]:
            rest = torch.ones(100, dtype=torch.bool)
            for first, end in zip(starts, ends, strict=True):
                rest[first:end] = False
            assert not pool.keys[:, :, rest].any()
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_packed_product_is_the_product(products: str) -> None:
    weight, inputs = torch.randn(50, 24), torch.randn(7, 24)
    packed = cpu_ops.packed(weight)
    assert torch.allclose(cpu_ops.packed_linear(inputs, packed), inputs @ weight.t(), atol=1e-5)


def test_in_bfloat16_it_stays_within_the_tolerance(tiny: LoadedModel) -> None:
    narrow = LoadedModel(tiny.tokenizer, tiny.weights, Precision("none", "bfloat16", "cpu"))
    prompts = [Prompt(number, tuple(tokens)) for number, tokens in enumerate(some_prompts(tiny, 3))]
    ours, theirs = Trace(), Trace()
    rule = stop_rule(tiny, 1)
    fused = CpuLlama(narrow.model)
    assert fused.pool(4).keys.dtype == torch.bfloat16
    assert len(list(StreamDecoder(fused, rule, 8, observe=ours).decode(prompts))) == 3
    assert len(list(Decoder(narrow.model, rule, 8, observe=theirs).decode(prompts))) == 3
    for key in range(3):
        assert relative_difference(ours.scores[key][0], theirs.scores[key][0]) < LIMITS["bfloat16"]


@pytest.mark.parametrize(
    ("memory", "precision", "fused"),
    [
        (256, CPU, True),
        (48, CPU, False),
        (48, replace(CPU, dtype="bfloat16"), True),
        (16, replace(CPU, dtype="bfloat16"), False),
        (64, replace(CPU, quantization="nf4"), True),
        (24, replace(CPU, quantization="nf4"), False),
    ],
)
def test_weights_are_packed_where_there_is_room_for_a_second_copy(
    memory: int, precision: Precision, fused: bool
) -> None:
    plan = plan_on_cpu(SEVEN_B, precision, memory * GIB, 4, 384)
    assert kinds_here(plan) == (["fused", "slots"] if fused else ["slots"])
    assert plan.record() == {"weights": "packed once" if fused else "as-loaded", "rows": 4}
    assert (plan.memory <= memory * GIB) or not fused


def test_a_small_model_is_packed_on_this_machine(tiny: LoadedModel, tmp_path: Path) -> None:
    plan = plan_here(tiny.weights.folder, CPU, GenerationSettings(8, 2))
    assert kinds_here(plan) == ["fused", "slots"]
    assert 0 < usable_memory() < 2**50
    assert plan_here(tmp_path, CPU, GenerationSettings(8, 2)) is None
    assert kinds_here(None) == ["slots"]


def test_keys_know_no_difference_where_there_is_none() -> None:
    """In float32 on a CPU what one of our decoders wrote is found by the other, and by the versions before."""
    kinds = [{"kind": "fused"}, {"kind": "slots"}]
    assert {str(in_key(kind, "float32", "cpu")) for kind in kinds} == {"{'kind': 'slots'}"}
    for others in (("bfloat16", "cpu"), ("float32", "cuda"), (None, None)):
        assert [in_key(kind, *others) for kind in kinds] == kinds
    assert in_key({"kind": "generate", "padded": True}, "float32", "cpu") == {"kind": "generate", "padded": True}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_llama_is_decoded_on_packed_weights_and_the_manifest_says_so(
    own_cache: Path, tiny: LoadedModel, quantization: Quantization, dtype: str
) -> None:
    loaded = LoadedModel(tiny.tokenizer, tiny.weights, Precision(quantization, dtype, "cpu"))
    renderer = PromptRenderer("Write: {{ prompt }}", False, loaded.tokenizer)
    generator = Generator("base", loaded, renderer, GenerationSettings(max_new_tokens=8, batch_size=2))
    entry = generator.manifest()
    assert isinstance(entry.decoder, dict)
    assert entry.decoder["kind"] == "fused"
    assert (entry.decoding or {})["weights"] == "packed once"
    assert generator.identity()["decoder"] == (
        {"kind": "slots"} if dtype == "float32" else {"kind": "fused", "rows": 2}
    )
    assert len(generator.complete([Task("one", "Salt.")])) == 1
