"""Attention over packed rows without a mask: each row attends to itself alone, by torch's own flash kernel.

Under plain sdpa, packed rows of T tokens in all need a T × T mask, and most of the work falls on pairs that it hides.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import torch

from harness.model.attention import attending_by

NAME = "harness_packed"
ATTEND_PLAINLY = ("llama",)
"""Models whose attention is causal and nothing else: no window, no cap on logits, no sinks. Others keep their own."""


def packed_attention_available() -> bool:
    """Return whether torch has attention over rows of different length, and the GPU the kernel for it."""
    found = importlib.util.find_spec("torch.nn.attention.varlen") is not None
    return found and torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8


def packed_attention(model: Any) -> contextlib.AbstractContextManager[None]:
    """Let the model attend by `attend_packed` inside the block. Only for batches without padding."""
    from transformers.masking_utils import flash_attention_mask

    return attending_by(model, NAME, attend_packed, flash_attention_mask)


def attend_packed(
    _module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    position_ids: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each row, as transformers' attention functions do: heads in front, a row begins at 0.

    Args:
        query: (batch, heads, tokens, head size); key and value have as many heads or a divisor of them.
        key: See `query`.
        value: See `query`.
        attention_mask: None; padding is not supported.
        scaling: Factor of the products; None is 1/√(head size).
        position_ids: (batch, tokens); 0 begins a row.
    """
    if attention_mask is not None:
        raise ValueError("packed attention takes no padded batch")
    batch, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    bounds, longest = row_bounds(position_ids)
    flat = [part.transpose(1, 2).reshape(batch * tokens, heads, size) for part in (query, key, value)]
    out = _varlen()(*flat, bounds, bounds, longest, longest, scale=scaling)
    return out.view(batch, tokens, heads, size), None


def row_bounds(position_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return where rows begin and end in the flattened batch (int32), and the longest row's length.

    Kept on the tensor: every layer asks for the same positions, and each answer waits for the GPU.
    """
    known: tuple[torch.Tensor, int] | None = getattr(position_ids, "row_bounds", None)
    if known is None:
        flat = position_ids.flatten()
        ends = torch.tensor([flat.numel()], device=flat.device)
        bounds = torch.cat([(flat == 0).nonzero().flatten(), ends]).to(torch.int32)
        known = bounds, int(bounds.diff().max())
        position_ids.row_bounds = known  # type: ignore[attr-defined]
    return known


def _varlen() -> Callable[..., torch.Tensor]:
    """Return torch's kernel, causal: older versions take a flag, newer ones a window that ends at the query."""
    from torch.nn.attention import varlen

    kernel: Callable[..., Any] = varlen.varlen_attn
    flag = "is_causal" in inspect.signature(kernel).parameters
    causal: dict[str, Any] = {"is_causal": True} if flag else {"window_size": (-1, 0)}
    return functools.partial(kernel, **causal)
