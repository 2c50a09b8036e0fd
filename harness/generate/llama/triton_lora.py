"""LoRA's second product, its mask and its sum as one Triton kernel: three passes over little else would be launches."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_OUTPUTS = 64
"""So many outputs of a product are made by one block."""
_MOST_ROWS = 64
_RANKS = 64
"""So many ranks are multiplied at once."""
_DOT_ROWS = 16
"""Matrix units take no fewer rows, and no fewer ranks."""


@triton.jit
def _add_low_rank(done, lowered, ups, numbers, owners, done_stride, lowered_stride, ups_stride, rows, outputs, ranks,
                  MIXED: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, RANKS: tl.constexpr):  # fmt: skip
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    row_there, output_there = row < rows, output < outputs
    target = done + row.to(tl.int64)[:, None] * done_stride + output[None]
    there = row_there[:, None] & output_there[None]
    total = tl.load(target, mask=there, other=0.0).to(tl.float32)
    if MIXED:
        number = tl.load(numbers + row, mask=row_there, other=0)
    for first in range(0, ranks, RANKS):
        rank = first + tl.arange(0, RANKS)
        rank_there = rank < ranks
        low_there = row_there[:, None] & rank_there[None]
        if MIXED:
            owner = tl.load(owners + rank, mask=rank_there, other=-1)
            low_there = low_there & (number[:, None] == owner[None])
        low = tl.load(lowered + row.to(tl.int64)[:, None] * lowered_stride + rank[None], mask=low_there, other=0.0)
        up_there = output_there[:, None] & rank_there[None]
        up = tl.load(ups + output.to(tl.int64)[:, None] * ups_stride + rank[None], mask=up_there, other=0.0)
        total = tl.dot(low, tl.trans(up), total, input_precision="ieee")
    tl.store(target, total.to(done.dtype.element_ty), mask=there)


def add_low_rank(
    done: torch.Tensor,
    lowered: torch.Tensor,
    ups: torch.Tensor,
    mixed: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """As `torch_ops.add_low_rank`."""
    (rows, outputs), ranks = done.shape, lowered.shape[1]
    numbers, owners = mixed or (None, None)
    at_once = min(_MOST_ROWS, max(_DOT_ROWS, triton.next_power_of_2(rows)))
    grid = triton.cdiv(outputs, _OUTPUTS), triton.cdiv(rows, at_once)
    _add_low_rank[grid](
        done, lowered, ups, numbers, owners, done.stride(0), lowered.stride(0), ups.stride(0), rows, outputs, ranks,
        numbers is not None, at_once, _OUTPUTS, min(_RANKS, max(_DOT_ROWS, triton.next_power_of_2(ranks))),
        num_warps=4,
    )  # fmt: skip
    return done
