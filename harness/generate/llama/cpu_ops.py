"""What a Llama does between its matrix products on a CPU, and those products on weights that were packed once.

The functions are those of `torch_ops`, with fewer passes over memory and calls.
"""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from harness.generate.llama import torch_ops
from harness.generate.llama.torch_ops import add_low_rank as add_low_rank
from harness.generate.llama.torch_ops import attend_prompts as attend_prompts
from harness.generate.sampling import check_finite

_ROWS = 32
"""oneDNN chooses the layout of packed weights for so many rows; the product takes any number."""
_BLOCK = 1024
"""The likeliest token is looked for among the likeliest of each so many: one vectorised pass over the logits."""


@functools.cache
def packs(dtype: torch.dtype) -> bool:
    """Return whether oneDNN is there and multiplies weights of this dtype."""
    there = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not there or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def packed(weight: torch.Tensor) -> torch.Tensor:
    """Return weights, (out, in), as oneDNN's products take them, opaque to everything else; as they are without it."""
    if not packs(weight.dtype):
        return weight
    done: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
    return done


def packed_linear(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return x W', (tokens, out), a new tensor: of each token the same, whichever others stand beside it.

    A single token goes as two: oneDNN would make its sums in another order.

    Args:
        inputs: (tokens, in).
        weight: (out, in), from `packed`.
    """
    if not weight.is_mkldnn:
        return functional.linear(inputs, weight)
    given = inputs if len(inputs) > 1 else inputs.repeat(2, 1)
    done: torch.Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, None, "none", [], "")
    return done[: len(inputs)]


def add_norm(residual: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """As `torch_ops.add_norm`."""
    if residual.dtype != torch.float32:
        return torch_ops.add_norm(residual, delta, weight, epsilon)
    if delta is not None:
        residual += delta
    return functional.rms_norm(residual, weight.shape, weight, epsilon)


def turn_and_store(
    projected: torch.Tensor,
    stored: tuple[torch.Tensor, torch.Tensor],
    angles: tuple[torch.Tensor, torch.Tensor],
    positions: torch.Tensor,
    places: torch.Tensor,
    heads: int,
) -> torch.Tensor:
    """As `torch_ops.turn_and_store`."""
    keys, values = stored
    cosines, sines = angles[0][positions][:, None], angles[1][positions][:, None]
    narrow, _, size = keys.shape
    parts = projected.view(len(projected), heads + 2 * narrow, size)
    turned = torch.empty_like(parts[:, : heads + narrow])
    first, second = parts[:, : heads + narrow].chunk(2, dim=-1)
    torch.addcmul(first * cosines, second, sines, value=-1, out=turned[..., : size // 2])
    torch.addcmul(second * cosines, first, sines, out=turned[..., size // 2 :])
    keys.index_copy_(1, places, turned[:, heads:].transpose(0, 1))
    values.index_copy_(1, places, parts[:, heads + narrow :].transpose(0, 1))
    return turned[:, :heads]


def gate(projected: torch.Tensor, inner: int) -> torch.Tensor:
    """As `torch_ops.gate`."""
    return functional.silu(projected[:, :inner]).mul_(projected[:, inner:])


def choose(logits: torch.Tensor, temperature: float, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """As `torch_ops.choose`."""
    rows, tokens = logits.shape
    if temperature or tokens % _BLOCK:
        chosen = torch_ops.choose(logits, temperature, seeds, positions)
    else:
        blocks = logits.view(rows, -1, _BLOCK)
        best = blocks.amax(-1).argmax(-1)
        chosen = best * _BLOCK + blocks[torch.arange(rows), best].argmax(-1)
    check_finite(logits, chosen)
    return chosen
