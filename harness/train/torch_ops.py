"""What Llama's layers do between their matrix products, in torch's operations and few passes over the activations.

On a CPU each operation reads and writes all of its operands; what follows keeps as little as possible and works in
place where nobody else looks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def norm_forward(inputs: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor) -> torch.Tensor:
    """As `triton_norm.norm_forward`."""
    squares: torch.Tensor = torch.linalg.vector_norm(inputs, dim=-1, dtype=torch.float32).square_()
    scales: torch.Tensor = squares.div_(inputs.shape[-1]).add_(epsilon).rsqrt_()
    if out.dtype == torch.float32:
        torch.mul(inputs, scales[:, None], out=out).mul_(weight)
    else:
        out.copy_((inputs * scales[:, None]).mul_(weight))
    return scales


def norm_backward(
    gradient: torch.Tensor, beside: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """As `triton_norm.norm_backward`."""
    weighed, wide = gradient.float() * weight.float(), inputs.float()
    along = (weighed * wide).sum(-1).mul_(scales**3).div_(inputs.shape[-1])
    of_inputs = weighed.mul_(scales[:, None]).addcmul_(wide, along[:, None], value=-1)
    return of_inputs.add_(beside).to(inputs.dtype)


class GatedUnit(torch.autograd.Function):
    """silu(gate) · up of one matrix that holds both, side by side (Shazeer 2020, arXiv:2002.05202)."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        """Return (tokens, inner) of (tokens, 2 · inner)."""
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the gradient of both."""
        (gradient,), (gate_up,) = gradients, ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        both = torch.empty_like(gate_up)
        of_gate, of_up = both.chunk(2, dim=-1)
        torch.mul(functional.silu(gate), gradient, out=of_up)
        of_gate.copy_(torch.ops.aten.silu_backward(gradient * up, gate))
        return both


class Rotary(torch.autograd.Function):
    """Turns the leading heads of a matrix by their positions (Su et al. 2021, arXiv:2104.09864)."""

    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, turned: int) -> torch.Tensor:
        """Return `heads` in float32, the first `turned` of them, queries and keys, turned.

        Args:
            ctx: Of autograd.
            heads: (tokens, heads, head size).
            cos: (tokens, 1, half of the head size): both halves of a head turn by the same angles; float32.
            sin: As `cos`.
            turned: How many.
        """
        ctx.save_for_backward(cos, sin)
        ctx.turned, ctx.dtype = turned, heads.dtype
        out = heads.to(torch.float32, copy=True)
        _turn(out[:, :turned], cos, sin)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Turn the gradient back."""
        cos, sin = ctx.saved_tensors
        of_heads = gradients[0].clone(memory_format=torch.contiguous_format)
        _turn(of_heads[:, : ctx.turned], cos, -sin)
        return of_heads.to(ctx.dtype), None, None, None


def _turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    first, second = heads.chunk(2, dim=-1)
    aside = first * sin
    first.mul_(cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).add_(aside)
