"""Attention over packed rows without a mask: each row attends to itself alone.

Under plain sdpa, packed rows of T tokens in all need a T × T mask, and most of the work falls on pairs that it hides.
Here torch's flash kernel takes rows of different length; where a GPU has none, rows of like length attend side by side,
filled up behind their ends, which a causal row never sees.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from harness.model.attention import attending_by

NAME = "harness_packed"


def varlen_available() -> bool:
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
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each row, as transformers' attention functions do, heads in front.

    Args:
        query: (1, heads, tokens, head size); key and value have as many heads or a divisor of them.
        key: See `query`.
        value: See `query`.
        attention_mask: None; padding is not supported.
        scaling: Factor of the products; None is 1/√(head size).
        cu_seq_lens_q: (rows + 1) where rows begin, and where the last one ends; int32. trl's collator sets it; None is
            one row.
        max_length_q: The longest row.
    """
    if attention_mask is not None or len(query) > 1:
        raise ValueError("packed attention takes no padded batch")
    if cu_seq_lens_q is None or max_length_q is None:
        max_length_q = query.shape[2]
        cu_seq_lens_q = torch.tensor([0, max_length_q], dtype=torch.int32, device=query.device)
    rows = _row_by_row if query.device.type == "cpu" else _all_rows
    return rows(query, key, value, cu_seq_lens_q, max_length_q, scaling)[None], None


def _all_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    scaling: float | None,
) -> torch.Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # no indexing: its gradient would be copied into zeros
    flat = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    if varlen_available():
        return _varlen()(*flat, bounds, bounds, longest, longest, scale=scaling)
    return _side_by_side(flat, bounds, scaling)


def _row_by_row(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    _: int,
    scaling: float | None,
) -> torch.Tensor:
    """Attend row by row by torch's kernel for CPUs, where grouped heads look at one key without a copy of it."""
    lengths, heads = bounds.diff().tolist(), key.shape[1]
    query = query[0].view(heads, -1, *query.shape[2:])
    key, value = (part[0].unsqueeze(1).expand(-1, query.shape[1], -1, -1) for part in (key, value))
    rows = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    outs = [functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in rows]
    return torch.cat([out.permute(2, 0, 1, 3).flatten(1, 2) for out in outs])


def _varlen() -> Callable[..., torch.Tensor]:
    """Return torch's kernel, causal: older versions take a flag, newer ones a window that ends at the query."""
    from torch.nn.attention import varlen

    kernel: Callable[..., Any] = varlen.varlen_attn
    flag = "is_causal" in inspect.signature(kernel).parameters
    causal: dict[str, Any] = {"is_causal": True} if flag else {"window_size": (-1, 0)}
    return functools.partial(kernel, **causal)


def _side_by_side(parts: list[torch.Tensor], bounds: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """Attend row by row; parts are (tokens, heads, head size). At most half of the places are filled up."""
    classes, order = _length_classes(bounds)
    outs = []
    for tokens, places, rows, longest in classes:
        query, key, value = (
            part.new_zeros(rows * longest, *part.shape[1:])
            .index_copy(0, places, part.index_select(0, tokens))
            .view(rows, longest, *part.shape[1:])
            .transpose(1, 2)
            for part in parts
        )
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        outs.append(out.transpose(1, 2).flatten(0, 1).index_select(0, places))
    return torch.cat(outs).index_select(0, order)


def _length_classes(
    bounds: torch.Tensor,
) -> tuple[list[tuple[torch.Tensor, torch.Tensor, int, int]], torch.Tensor]:
    """Return the rows by the power of two above their length, and where each token's result stands afterwards.

    Of each class: its tokens, their places among rows that are all as long as the longest, how many rows, how long.
    Kept on the tensor: every layer asks for the same rows, and the answer waits for the GPU.
    """
    known: tuple[list[tuple[torch.Tensor, torch.Tensor, int, int]], torch.Tensor] | None
    known = getattr(bounds, "length_classes", None)
    if known is None:
        begins = bounds.tolist()
        by_class: dict[int, list[tuple[int, int]]] = {}
        for begin, end in itertools.pairwise(begins):
            by_class.setdefault((end - begin - 1).bit_length(), []).append((begin, end - begin))
        classes = []
        for rows in by_class.values():
            longest = max(length for _, length in rows)
            tokens = torch.cat([torch.arange(begin, begin + length) for begin, length in rows])
            places = torch.cat([number * longest + torch.arange(length) for number, (_, length) in enumerate(rows)])
            classes.append((tokens.to(bounds.device), places.to(bounds.device), len(rows), longest))
        known = classes, torch.cat([tokens for tokens, *_ in classes]).argsort()
        bounds.length_classes = known  # type: ignore[attr-defined]
    return known
