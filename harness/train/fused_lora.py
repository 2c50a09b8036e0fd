"""LoRA inside the matrix products of the frozen weights: one layer, or all that read one normed input.

Shapes: x (tokens, in), W (out, in), A (rank, in), B (out, rank); y = x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al. 2021, section 4.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.train import torch_ops

ROOM_STEP = 64
"""Columns behind a weight come in this many: in 16 bit a row then ends with a cache line of 128 bytes."""
ROOM_STEP_CPU = 16
"""The same on a CPU, whose cache lines hold 64 bytes."""

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
    again for the widest layer while they move. On a CPU, layers that read one input share one such matrix and product.

    Args:
        layers: With weights of one dtype.
        dtype: Of the products. Weights of another one stay where they are, and are copied beside.
    """

    def __init__(self, layers: Sequence[PlainLora], dtype: torch.dtype | None = None) -> None:
        self.layers = tuple(layers)
        first = self.layers[0].weight
        self.inputs, self.dtype = first.shape[1], dtype or first.dtype
        self.on_cpu = first.device.type == "cpu"
        step = ROOM_STEP_CPU if self.on_cpu else ROOM_STEP
        self.ranks = sum(layer.rank for layer in layers)
        self.room = -(-self.ranks // step) * step
        self.filling = torch.zeros(self.room - self.ranks, self.inputs, device=first.device)
        scales = [torch.full((layer.rank, 1), layer.scaling) for layer in layers]
        self.scales = torch.cat([*scales, torch.zeros(len(self.filling), 1)]).to(first.device)
        self.wide: list[torch.Tensor] = []
        """(out, in + room) of each layer: W, and B in the columns that the layer's rank has in the extended x."""
        self.products: list[torch.Tensor] = []
        """What x is multiplied by: on a CPU one matrix, whose rows `wide` shares, else those of `wide`."""

    @contextlib.contextmanager
    def widened(self) -> Iterator[None]:
        """Let the weights stand in wider matrices inside the block."""
        sizes = [len(layer.weight) for layer in self.layers]
        moved = []
        try:
            for rows in [sum(sizes)] if self.on_cpu else sizes:
                weight = self.layers[0].weight
                self.products.append(weight.new_zeros(rows, self.inputs + self.room, dtype=self.dtype))
            self.wide += torch.split(self.products[0], sizes) if self.on_cpu else self.products
            for layer, wide in zip(self.layers, self.wide, strict=True):
                wide[:, : self.inputs] = layer.weight
                if layer.weight.dtype == self.dtype:
                    layer.weight.data = wide[:, : self.inputs]
                    moved.append(layer)
            yield
        finally:
            for layer in moved:
                layer.weight.data = layer.weight.data.contiguous()
            self.wide.clear()
            self.products.clear()

    def columns(self) -> Iterator[tuple[int, int]]:
        """Yield where each layer's rank begins and ends in the room."""
        begin = 0
        for layer in self.layers:
            yield begin, begin + layer.rank
            begin += layer.rank

    def normed(
        self, hidden: torch.Tensor, norm: torch.Tensor, epsilon: float
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return each product of the normed input, and the input to be added to what comes of them.

        On a CPU the outputs of all layers stand side by side in one product.

        Args:
            hidden: Of the residual's dtype.
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
        """Return the input, where it is normed, and each product."""
        inputs = group.inputs
        downs = (torch.cat([*factors[::2], group.filling]) * group.scales).to(group.dtype)
        for wide, up, (begin, end) in zip(group.wide, factors[1::2], group.columns(), strict=True):
            wide[:, inputs + begin : inputs + end] = up
        ctx.group = group  # its matrices hold this step's B until the next step
        if norm is None:
            narrow = hidden.to(group.dtype)
            extended = torch.cat([narrow, narrow @ downs.t()], dim=1)
            ctx.save_for_backward(extended, downs)
        else:
            extended = hidden.new_empty(len(hidden), inputs + group.room, dtype=group.dtype)
            scales = _kernels(hidden).norm_forward(hidden, norm, epsilon, extended[:, :inputs])
            torch.mm(extended[:, :inputs], downs.t(), out=extended[:, inputs:])
            ctx.save_for_backward(extended, downs, hidden, norm, scales)
        if residual is None:
            return (hidden.view_as(hidden), *(extended @ product.t() for product in group.products))
        (product,) = group.products
        if residual.dtype == group.dtype:
            return (torch.addmm(residual, extended, product.t()),)
        return (residual + extended @ product.t(),)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Gradients:
        """Return the gradients of x, of the residual, and of each A and B."""
        extended, downs, *of_norm = ctx.saved_tensors
        beside, of_outs = (gradients[0], gradients[1:]) if of_norm else (None, gradients)
        group: LoraGroup = ctx.group
        inputs = group.inputs
        of_outs = tuple(gradient.to(group.dtype) for gradient in of_outs)
        through = _through_one if group.on_cpu else _through_each
        of_hidden, of_inner = through(group, of_outs, ctx.needs_input_grad[0])
        of_layers = torch.split(of_outs[0], [len(wide) for wide in group.wide], 1) if group.on_cpu else of_outs
        of_ups = [
            gradient.t() @ extended[:, inputs + begin : inputs + end]
            for gradient, (begin, end) in zip(of_layers, group.columns(), strict=True)
        ]
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


def _through_each(
    group: LoraGroup, gradients: Sequence[torch.Tensor], wanted: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return the gradients of x, as far as it went through W, if that is wanted, and of s x Aᵀ, layer by layer."""
    of_inner = gradients[0].new_empty(len(gradients[0]), group.ranks)
    of_hidden: torch.Tensor | None = None
    for gradient, wide, (begin, end) in zip(gradients, group.wide, group.columns(), strict=True):
        torch.mm(gradient, wide[:, group.inputs + begin : group.inputs + end], out=of_inner[:, begin:end])
        if wanted:
            weight = wide[:, : group.inputs]
            of_hidden = gradient @ weight if of_hidden is None else of_hidden.addmm_(gradient, weight)
    return of_hidden, of_inner


def _through_one(
    group: LoraGroup, gradients: Sequence[torch.Tensor], wanted: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """As `_through_each`, where all layers share a matrix: both gradients stand side by side in one product."""
    (gradient,), (product,), inputs = gradients, group.products, group.inputs
    if not wanted:
        return None, gradient @ product[:, inputs : inputs + group.ranks]
    both = gradient @ product
    return both[:, :inputs], both[:, inputs : inputs + group.ranks]


def _kernels(hidden: torch.Tensor) -> Any:
    """Return who norms: Triton's kernels on a GPU, else torch."""
    if hidden.device.type == "cuda":
        from harness.train import triton_norm

        return triton_norm
    return torch_ops
