"""What a Llama does between its matrix products on a CPU, and those products on weights that were packed once."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from harness.generate.llama.torch_ops import add_norm, choose, gate, turn_and_store

__all__ = ["add_norm", "attend", "choose", "gate", "packed", "packed_linear", "packs", "turn_and_store"]

_ROWS = 32
"""oneDNN chooses the layout of packed weights for so many rows; the product takes any number."""


@functools.cache
def packs(dtype: torch.dtype) -> bool:
    """Return whether oneDNN is there and multiplies weights of this dtype."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
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
    """Return x W', (tokens, out), a new tensor.

    Args:
        inputs: (tokens, in).
        weight: (out, in), from `packed`.
    """
    if not weight.is_mkldnn:
        return functional.linear(inputs, weight)
    done: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, None, "none", [], "")
    return done


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, starts: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Attend as `torch_ops.attend`: each row reads its own keys and values where they lie, and no others.

    The query heads that share a key head stand as the rows of one small product.
    """
    rows, heads, size = queries.shape
    narrow = keys.shape[0]
    grouped = queries.view(rows, 1, narrow, heads // narrow, size)
    keys, values = keys[None], values[None]
    done = [
        functional.scaled_dot_product_attention(
            grouped[row], keys.narrow(2, start, position + 1), values.narrow(2, start, position + 1)
        )
        for row, (start, position) in enumerate(zip(starts.tolist(), positions.tolist(), strict=True))
    ]
    return torch.cat(done).view(rows, heads * size)
