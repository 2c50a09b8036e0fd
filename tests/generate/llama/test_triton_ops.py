"""The GPU's kernels say what plain torch says: on a GPU, else in Triton's interpreter where Triton is installed."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="Triton is not installed: pip install triton")

from harness.generate.llama import torch_ops, triton_ops

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE)


@pytest.mark.parametrize("width", [64, 576, 4096])
@pytest.mark.parametrize("adds", [True, False])
def test_norm_after_a_sum(width: int, adds: bool) -> None:
    residual, weight = drawn(5, width), drawn(width)
    delta = drawn(5, width + 16)[:, :width] if adds else None
    ours, theirs = residual.clone(), residual.clone()
    found = triton_ops.add_norm(ours, delta, weight, 1e-5)
    torch.testing.assert_close(found, torch_ops.add_norm(theirs, delta, weight, 1e-5), **CLOSE)
    torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize(("heads", "narrow", "size"), [(4, 4, 64), (9, 3, 64), (8, 1, 128)])
def test_rotary_positions_and_storing(heads: int, narrow: int, size: int) -> None:
    projected = drawn(5, (heads + 2 * narrow) * size + 16)
    angles = drawn(40, size // 2).cos(), drawn(40, size // 2).sin()
    positions = torch.tensor([0, 7, 39, 3, 7], device=DEVICE)
    places = torch.tensor([1, 20, 60, 33, 90], device=DEVICE)
    stored = [torch.zeros(2, narrow, 100, size, device=DEVICE) for _ in range(2)]
    queries = [
        run.turn_and_store(projected, (pool[0], pool[1]), angles, positions, places, heads)
        for run, pool in zip((triton_ops, torch_ops), stored, strict=True)
    ]
    torch.testing.assert_close(queries[0], queries[1], **CLOSE)
    torch.testing.assert_close(stored[0], stored[1], **CLOSE)
    assert stored[0].count_nonzero() == 5 * 2 * narrow * size


@pytest.mark.parametrize(("heads", "narrow", "size"), [(4, 4, 64), (9, 3, 64), (8, 1, 128)])
@pytest.mark.parametrize("rows", [1, 3, 130])
def test_attention_to_a_rows_own_tokens(heads: int, narrow: int, size: int, rows: int) -> None:
    if DEVICE == "cpu" and rows > 3 and narrow < 4:
        pytest.skip("the interpreter is slow: many rows are tried with one shape")
    keys, values = drawn(narrow, 2000, size), drawn(narrow, 2000, size)
    starts = torch.arange(rows, device=DEVICE) * 11 + 1
    positions = torch.tensor([(0, 63, 64, 300, 199)[row % 5] for row in range(rows)], device=DEVICE)
    queries = drawn(rows, heads, size)
    found = triton_ops.attend(queries, keys, values, starts, positions)
    torch.testing.assert_close(found, torch_ops.attend(queries, keys, values, starts, positions), **CLOSE)


def test_gate() -> None:
    projected = drawn(3, 2 * 1500 + 16)
    torch.testing.assert_close(triton_ops.gate(projected, 1500), torch_ops.gate(projected, 1500), **CLOSE)


def test_the_likeliest_token_and_the_first_of_equals() -> None:
    logits = drawn(4, 9000)
    logits[1, [17, 8000]] = 50.0
    none = torch.zeros(4, dtype=torch.long, device=DEVICE)
    found = triton_ops.choose(logits, 0.0, none, none)
    assert found.tolist() == torch_ops.choose(logits, 0.0, none, none).tolist()
    assert found[1] == 17


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_follow_the_softmax_and_depend_on_seed_and_position_alone(temperature: float) -> None:
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0], device=DEVICE)
    count = 4000 if DEVICE == "cuda" else 300
    seeds = torch.arange(count, device=DEVICE) * 7919 + 2**59
    positions = torch.full((count,), 12, device=DEVICE)
    for run in (triton_ops, torch_ops):
        drawn_once = run.choose(scores.expand(count, 5).contiguous(), temperature, seeds, positions)
        again = run.choose(scores.expand(3, 5).contiguous(), temperature, seeds[5:8], positions[:3])
        assert again.tolist() == drawn_once[5:8].tolist()
        shares = torch.bincount(drawn_once, minlength=5) / count
        expected = torch.softmax(scores / temperature, 0)
        # four standard deviations of a share
        assert (shares - expected).abs().max() < 4 * (0.25 / count) ** 0.5
        later = run.choose(scores.expand(count, 5).contiguous(), temperature, seeds, positions + 1)
        assert later.tolist() != drawn_once.tolist()
