"""LoRA inside the matrix products of the frozen weights: one layer, or all that read one normed input.

Shapes: x (tokens, in), W (out, in), A (rank, in), B (out, rank); y = x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al. 2021, section 4.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

ROOM_STEP = 64
"""Columns behind a weight come in this many: in 16 bit a row then ends with a cache line of 128 bytes."""

Gradients = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class PlainLora:
    """A PEFT layer that is LoRA around a frozen `nn.Linear` and nothing else."""

    module: Any
    weight: torch.Tensor
    down: torch.Tensor
    """A, trained."""
    up: torch.Tensor
    """B, trained."""
    scaling: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return len(self.down)

    @property
    def off(self) -> bool:
        """Whether the layer computes without its adapter at present."""
        return bool(self.module.disable_adapters)


def plain_lora(module: Any) -> PlainLora | None:
    """Return what a module computes if it is LoRA of one adapter around an `nn.Linear`, without bias or dropout."""
    names = list(getattr(module, "lora_A", ()))
    if len(names) != 1 or module.merged or getattr(module, "lora_variant", None):
        return None
    (name,) = names
    base, down, up = module.get_base_layer(), module.lora_A[name], module.lora_B[name]
    if type(base) is not torch.nn.Linear or any(layer.bias is not None for layer in (base, down, up)):
        return None
    if not isinstance(module.lora_dropout[name], torch.nn.Identity):
        return None
    return PlainLora(module, base.weight, down.weight, up.weight, float(module.scaling[name]))


class LoraLinear(torch.autograd.Function):
    """One layer by itself, where both sums, forward and backward, are made by the matrix products."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Return the layer's output; all are of one dtype."""
        inner = hidden @ down.t()
        ctx.save_for_backward(hidden, weight, down, up, inner)
        ctx.scaling = scaling
        return (hidden @ weight.t()).addmm_(inner, up.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Gradients:
        """Return the gradients of x, A and B."""
        (gradient,) = gradients
        hidden, weight, down, up, inner = ctx.saved_tensors
        of_inner = (gradient @ up).mul_(ctx.scaling)
        of_hidden = (gradient @ weight).addmm_(of_inner, down) if ctx.needs_input_grad[0] else None
        return of_hidden, None, of_inner.t() @ hidden, (gradient.t() @ inner).mul_(ctx.scaling), None


class LoraGroup:
    """Layers that read one input: x is extended by s x Aᵀ of all, and each W by its B, so that y is one product.

    In 16 bit that is not only faster: what a second product adds to a rounded W x is lost below half of its last place,
    and an adapter's first steps are that small.

    The weights keep their values and move into the left part of a wider matrix: as much memory as before, and as much
    again for the widest layer while they move.

    Args:
        layers: With weights of one dtype, in which it computes.
    """

    def __init__(self, layers: Sequence[PlainLora]) -> None:
        self.layers = tuple(layers)
        first = self.layers[0].weight
        self.inputs, self.dtype = first.shape[1], first.dtype
        self.ranks = sum(layer.rank for layer in layers)
        self.room = -(-self.ranks // ROOM_STEP) * ROOM_STEP
        self.filling = torch.zeros(self.room - self.ranks, self.inputs, device=first.device)
        scales = [torch.full((layer.rank, 1), layer.scaling) for layer in layers]
        self.scales = torch.cat([*scales, torch.zeros(len(self.filling), 1)]).to(first.device)
        self.wide: list[torch.Tensor] = []
        """(out, in + room) of each layer: W, and B in the columns that the layer's rank has in the extended x."""

    @contextlib.contextmanager
    def widened(self) -> Iterator[None]:
        """Let the weights stand in wider matrices inside the block."""
        try:
            for layer in self.layers:
                wide = layer.weight.new_zeros(len(layer.weight), self.inputs + self.room)
                wide[:, : self.inputs] = layer.weight
                layer.weight.data = wide[:, : self.inputs]
                self.wide.append(wide)
            yield
        finally:
            for layer, wide in zip(self.layers, self.wide, strict=False):
                layer.weight.data = wide[:, : self.inputs].contiguous()
            self.wide.clear()

    def columns(self) -> Iterator[tuple[int, int]]:
        """Yield where each layer's rank begins and ends in the room."""
        begin = 0
        for layer in self.layers:
            yield begin, begin + layer.rank
            begin += layer.rank

    def normed(
        self, hidden: torch.Tensor, norm: torch.Tensor, epsilon: float
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return each layer's output of the normed input, and the input to be added to what comes of them.

        Args:
            hidden: Of the weights' dtype.
            norm: Weight of the RMSNorm before the layers; frozen.
            epsilon: That norm's.
        """
        residual, *outs = self._product(hidden, norm, epsilon, None)
        return [out.view(*hidden.shape[:-1], -1) for out in outs], residual.view_as(hidden)

    def added(self, hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Return the only layer's output on top of `residual`."""
        (out,) = self._product(hidden, None, 0.0, residual.reshape(-1, residual.shape[-1]))
        return out.view_as(residual)

    def _product(
        self, hidden: torch.Tensor, norm: torch.Tensor | None, epsilon: float, residual: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        factors = [factor for layer in self.layers for factor in (layer.down, layer.up)]
        flat = hidden.reshape(-1, self.inputs)
        outs: tuple[torch.Tensor, ...] = _Product.apply(flat, residual, self, norm, epsilon, *factors)  # type: ignore[no-untyped-call]
        return outs


class _Product(torch.autograd.Function):
    """The products of a `LoraGroup`. A and B are given in the dtype of training and get gradients in it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        residual: torch.Tensor | None,
        group: LoraGroup,
        norm: torch.Tensor | None,
        epsilon: float,
        *factors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return the input, where it is normed, and each layer's output."""
        inputs = group.inputs
        downs = (torch.cat([*factors[::2], group.filling]) * group.scales).to(hidden.dtype)
        for wide, up, (begin, end) in zip(group.wide, factors[1::2], group.columns(), strict=True):
            wide[:, inputs + begin : inputs + end] = up
        ctx.group = group  # its matrices hold this step's B until the next step
        if norm is None:
            extended = torch.cat([hidden, hidden @ downs.t()], dim=1)
            ctx.save_for_backward(extended, downs)
        else:
            extended = hidden.new_empty(len(hidden), inputs + group.room)
            scales = _kernels(hidden).norm_forward(hidden, norm, epsilon, extended[:, :inputs])
            torch.mm(extended[:, :inputs], downs.t(), out=extended[:, inputs:])
            ctx.save_for_backward(extended, downs, hidden, norm, scales)
        if residual is not None:
            return (torch.addmm(residual, extended, group.wide[0].t()),)
        outs = tuple(extended @ wide.t() for wide in group.wide)
        return outs if norm is None else (hidden.view_as(hidden), *outs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Gradients:
        """Return the gradients of x, of the residual, and of each A and B."""
        extended, downs, *of_norm = ctx.saved_tensors
        beside, of_outs = (gradients[0], gradients[1:]) if of_norm else (None, gradients)
        group: LoraGroup = ctx.group
        inputs = group.inputs
        of_inner = extended.new_empty(len(extended), group.ranks)
        of_hidden: torch.Tensor | None = None
        of_ups = []
        for gradient, wide, (begin, end) in zip(of_outs, group.wide, group.columns(), strict=True):
            torch.mm(gradient, wide[:, inputs + begin : inputs + end], out=of_inner[:, begin:end])
            if ctx.needs_input_grad[0]:
                weight = wide[:, :inputs]
                of_hidden = gradient @ weight if of_hidden is None else of_hidden.addmm_(gradient, weight)
            of_ups.append(gradient.t() @ extended[:, inputs + begin : inputs + end])
        if of_hidden is not None:
            of_hidden.addmm_(of_inner, downs[: group.ranks])
            if beside is not None:
                hidden, norm, scales = of_norm
                of_hidden = _kernels(hidden).norm_backward(of_hidden, beside.contiguous(), hidden, norm, scales)
        of_downs = (of_inner.t() @ extended[:, :inputs]).float().mul_(group.scales[: group.ranks])
        of_factors = [
            part
            for layer, up, (begin, end) in zip(group.layers, of_ups, group.columns(), strict=True)
            for part in (of_downs[begin:end].to(layer.down.dtype), up.to(layer.up.dtype))
        ]
        of_residual = gradients[-1] if ctx.needs_input_grad[1] else None
        return of_hidden, of_residual, None, None, None, *of_factors


def _kernels(hidden: torch.Tensor) -> Any:
    """Return who norms: Triton's kernels on a GPU, else torch."""
    if hidden.device.type != "cuda":
        return _TorchNorm
    from harness.train import triton_norm

    return triton_norm


class _TorchNorm:
    """As `triton_norm`, in torch's own operations."""

    @staticmethod
    def norm_forward(inputs: torch.Tensor, weight: torch.Tensor, epsilon: float, out: torch.Tensor) -> torch.Tensor:
        """As there."""
        wide = inputs.float()
        scales = torch.rsqrt(wide.pow(2).mean(-1) + epsilon)
        out.copy_(wide * scales[:, None] * weight.float())
        return scales

    @staticmethod
    def norm_backward(
        gradient: torch.Tensor, beside: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor
    ) -> torch.Tensor:
        """As there."""
        normed, weighed = inputs.float() * scales[:, None], gradient.float() * weight.float()
        of_inputs = scales[:, None] * (weighed - normed * (weighed * normed).mean(-1, keepdim=True))
        return (of_inputs + beside).to(inputs.dtype)
