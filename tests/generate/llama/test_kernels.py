"""The GPU's kernels say what plain torch says: on a GPU; Triton's else in its interpreter where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from harness.generate.llama import nf4_ops, nvrtc, torch_ops
from harness.generate.llama.prompt_batch import SharedPrefix, prompt_batch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"
DEVICE = "cuda" if ON_GPU else "cpu"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
HERE = [*(["triton"] if importlib.util.find_spec("triton") else []), *(["cuda", "cuda before 8.0"] if ON_GPU else [])]


@pytest.fixture(params=HERE)
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "triton":
        yield importlib.import_module("harness.generate.llama.triton_ops")
        return
    from harness.generate.llama import cuda_ops

    if request.param == "cuda before 8.0":
        for_compute_75(monkeypatch)
    cuda_ops._compiled.cache_clear()
    yield cuda_ops
    cuda_ops._compiled.cache_clear()


def for_compute_75(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels be compiled as for a T4: newer GPUs run that too."""
    for module in (nvrtc, nf4_ops):
        monkeypatch.setattr(module, "architecture", lambda device: "compute_75")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE)


@pytest.mark.parametrize("width", [64, 576, 4096])
@pytest.mark.parametrize("adds", [True, False])
def test_norm_after_a_sum(kernels: Any, width: int, adds: bool) -> None:
    residual, weight = drawn(5, width), drawn(width)
    delta = drawn(5, width + 16)[:, :width] if adds else None
    ours, theirs = residual.clone(), residual.clone()
    found = kernels.add_norm(ours, delta, weight, 1e-5)
    torch.testing.assert_close(found, torch_ops.add_norm(theirs, delta, weight, 1e-5), **CLOSE)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(("heads", "narrow", "size"), [(4, 4, 64), (9, 3, 64), (8, 1, 128)])
def test_rotary_positions_and_storing(kernels: Any, heads: int, narrow: int, size: int) -> None:
    projected = drawn(5, (heads + 2 * narrow) * size + 16)
    angles = drawn(40, size // 2).cos(), drawn(40, size // 2).sin()
    positions = torch.tensor([0, 7, 39, 3, 7], device=DEVICE)
    places = torch.tensor([1, 20, 60, 33, 90], device=DEVICE)
    stored = [torch.zeros(2, narrow, 100, size, device=DEVICE) for _ in range(2)]
    queries = [
        run.turn_and_store(projected, (pool[0], pool[1]), angles, positions, places, heads)
        for run, pool in zip((kernels, torch_ops), stored, strict=True)
    ]
    torch.testing.assert_close(queries[0], queries[1], **CLOSE)
    torch.testing.assert_close(stored[0], stored[1], **CLOSE)
    assert stored[0].count_nonzero() == 5 * 2 * narrow * size


@pytest.mark.parametrize(("heads", "narrow", "size"), [(4, 4, 64), (9, 3, 64), (8, 1, 128)])
@pytest.mark.parametrize("rows", [1, 3, 130])
def test_attention_to_a_rows_own_tokens(kernels: Any, heads: int, narrow: int, size: int, rows: int) -> None:
    if DEVICE == "cpu" and rows > 3 and narrow < 4:
        pytest.skip("the interpreter is slow: many rows are tried with one shape")
    keys, values = drawn(narrow, 2000, size), drawn(narrow, 2000, size)
    starts = torch.arange(rows, device=DEVICE) * 11 + 1
    positions = torch.tensor([(0, 63, 64, 300, 199)[row % 5] for row in range(rows)], device=DEVICE)
    queries = drawn(rows, heads, size)
    found = kernels.attend(queries, keys, values, starts, positions)
    torch.testing.assert_close(found, torch_ops.attend(queries, keys, values, starts, positions), **CLOSE)


def test_gate(kernels: Any) -> None:
    projected = drawn(3, 2 * 1500 + 16)
    torch.testing.assert_close(kernels.gate(projected, 1500), torch_ops.gate(projected, 1500), **CLOSE)


def test_the_likeliest_token_and_the_first_of_equals(kernels: Any) -> None:
    logits = drawn(4, 9000)
    logits[1, [17, 8000]] = 50.0
    none = torch.zeros(4, dtype=torch.long, device=DEVICE)
    found = kernels.choose(logits, 0.0, none, none)
    assert found.tolist() == torch_ops.choose(logits, 0.0, none, none).tolist()
    assert found[1] == 17


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_follow_the_softmax_and_depend_on_seed_and_position_alone(kernels: Any, temperature: float) -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0], device=DEVICE)
    count = 4000 if DEVICE == "cuda" else 300
    seeds = torch.arange(count, device=DEVICE) * 7919 + 2**59
    positions = torch.full((count,), 12, device=DEVICE)
    for run in (kernels, torch_ops):
        drawn_once = run.choose(scores.expand(count, 5).contiguous(), temperature, seeds, positions)
        again = run.choose(scores.expand(3, 5).contiguous(), temperature, seeds[5:8], positions[:3])
        assert again.tolist() == drawn_once[5:8].tolist()
        shares = torch.bincount(drawn_once, minlength=5) / count
        expected = torch.softmax(scores / temperature, 0)
        # four standard deviations of a share
        assert (shares - expected).abs().max() < 4 * (0.25 / count) ** 0.5
        later = run.choose(scores.expand(count, 5).contiguous(), temperature, seeds, positions + 1)
        assert later.tolist() != drawn_once.tolist()


def test_the_same_tokens_are_drawn_as_on_a_cpu(kernels: Any) -> None:
    logits = drawn(5, 9000) * 3
    seeds, positions = torch.arange(5, device=DEVICE) * 7919 + 2**59, torch.arange(5, device=DEVICE) + 11
    for temperature in (0.8, 1.0):
        found = kernels.choose(logits, temperature, seeds, positions)
        expected = torch_ops.choose(logits.cpu(), temperature, seeds.cpu(), positions.cpu())
        assert found.tolist() == expected.tolist()
        assert torch_ops.choose(logits, temperature, seeds, positions).tolist() == expected.tolist()


@pytest.mark.parametrize(("heads", "narrow", "size"), [(4, 4, 64), (9, 3, 64), (8, 1, 128)])
@pytest.mark.parametrize("shared", [[0] * 5, [20, 0, 7, 20, 64]])
def test_whole_prompts_attend_to_themselves(
    kernels: Any, heads: int, narrow: int, size: int, shared: list[int]
) -> None:
    if DEVICE == "cpu" and narrow < 4:
        pytest.skip("the interpreter is slow: one shape is tried")
    lengths = (70, 3, 130, 1, 64)
    given = [[1] * (stored + length) for stored, length in zip(shared, lengths, strict=True)]
    prefixes = [SharedPrefix(1, stored) for stored in shared]
    prompts = prompt_batch(given, [5, 300, 500, 1, 700], prefixes, [0] * 5).to(torch.device(DEVICE))
    keys, values = drawn(narrow, 900, size), drawn(narrow, 900, size)
    queries = drawn(sum(lengths), heads, size)
    found = kernels.attend_prompts(queries, keys, values, prompts)
    torch.testing.assert_close(found, torch_ops.attend_prompts(queries, keys, values, prompts), **CLOSE)


@pytest.mark.parametrize(("rows", "ranks"), [(1, 5), (5, 16), (70, 70)])
@pytest.mark.parametrize("mixed", [False, True])
def test_what_an_adapter_adds_is_added_to_its_own_rows(kernels: Any, rows: int, ranks: int, mixed: bool) -> None:
    products, ups = drawn(rows, 110 + ranks), drawn(110, ranks + 3)[:, :ranks]
    owners = torch.arange(ranks, device=DEVICE) % 2 + 1
    about = (torch.arange(rows, device=DEVICE) % 3, owners) if mixed else None
    if mixed:
        products[0, 110:] = torch.nan  # the first row has no adapter: nothing of A x may reach it
    ours, theirs = products.clone(), products.clone()
    found = kernels.add_low_rank(ours[:, :110], ours[:, 110:], ups, about)
    expected = torch_ops.add_low_rank(theirs[:, :110], theirs[:, 110:], ups, about)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(ours, theirs, equal_nan=True, **CLOSE)
    assert not found.isnan().any()
    if mixed:
        assert torch.equal(found[0], products[0, :110])
