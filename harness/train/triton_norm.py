"""RMSNorm with a frozen weight as Triton kernels, forward into a wider matrix, backward with the residual's gradient.

y = w x / √(mean x² + ε) (Zhang and Sennrich 2019, arXiv:1910.07467), row by row, in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _forward(inputs, weight, out, scales, out_stride, epsilon, width: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    wide = tl.load(inputs + row * width + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + epsilon)
    tl.store(scales + row, scale)
    normed = wide * scale * tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * out_stride + columns, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(gradient, beside, inputs, weight, scales, out, width: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    places = row * width + columns
    scale = tl.load(scales + row)
    normed = tl.load(inputs + places, mask=inside, other=0.0).to(tl.float32) * scale
    weighed = tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32)
    weighed *= tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    of_inputs = scale * (weighed - normed * (tl.sum(weighed * normed, 0) / width))
    of_inputs += tl.load(beside + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + places, of_inputs.to(out.dtype.element_ty), mask=inside)


def norm_forward(inputs: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor) -> torch.Tensor:
    """Write the normed rows into `out`, whose rows may lie apart; return each row's scale in float32."""
    rows, width = inputs.shape
    scales = torch.empty(rows, dtype=torch.float32, device=inputs.device)
    block = triton.next_power_of_2(width)
    _forward[(rows,)](inputs, weight, out, scales, out.stride(0), epsilon, width, block, num_warps=_warps(block))
    return scales


def norm_backward(
    gradient: torch.Tensor, beside: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of the inputs: through the norm, plus `beside`. All rows are contiguous."""
    rows, width = inputs.shape
    out = torch.empty_like(inputs)
    block = triton.next_power_of_2(width)
    _backward[(rows,)](gradient, beside, inputs, weight, scales, out, width, block, num_warps=_warps(block))
    return out


def _warps(block: int) -> int:
    return 8 if block > 1024 else 4
