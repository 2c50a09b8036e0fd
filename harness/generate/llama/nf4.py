"""Weights in 4-bit NormalFloat as bitsandbytes holds them, several layers' in one matrix (Dettmers et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit

BLOCK = 64
"""Weights that share a scale."""


@dataclass
class Nf4Matrix:
    """W as packed bytes: the weight is a code's float32 times its block's float32, rounded once to what computes."""

    packed: torch.Tensor
    """(out, in / 2) of uint8: two weights a byte, the first in its upper half."""
    scales: torch.Tensor
    """(out, in / 64) of float32."""
    code: torch.Tensor
    """(16,) of float32."""
    room: torch.Tensor
    """Of the dtype that computes, for `unpacked` to write into; may be shared with other matrices."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (out, in)."""
        return len(self.packed), self.packed.shape[1] * 2

    def unpacked(self) -> torch.Tensor:
        """Return (out, in) in the dtype that computes, the values of a 4-bit layer; good until the room's next use."""
        from bitsandbytes.functional import QuantState, dequantize_4bit

        out, size = self.shape
        target = self.room[: out * size].view(out, size)
        state = QuantState(
            self.scales.view(-1),
            shape=target.shape,
            code=self.code,
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=target.dtype,
        )
        if target.is_cuda:
            dequantize_4bit(self.packed.view(-1, 1), state, out=target)
        else:  # there it writes into a tensor of its own alone
            target.copy_(dequantize_4bit(self.packed.view(-1, 1), state))
        return target


def why_not_nf4(layer: torch.nn.Linear) -> str | None:
    """Return why a layer cannot be part of an `Nf4Matrix`, None where it can."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return "not held in 4 bit"
    if state.quant_type != "nf4" or state.blocksize != BLOCK or layer.weight.data.dtype != torch.uint8:
        return f"held in {state.quant_type} by blocks of {state.blocksize} as {layer.weight.data.dtype}"
    return None if layer.in_features % BLOCK == 0 else f"{layer.in_features} inputs are not whole blocks"


def joined(layers: Sequence[Linear4bit], room: torch.Tensor) -> Nf4Matrix:
    """Return the weights of layers with the same inputs, below each other.

    The packed bytes are held once: afterwards the layers' own are parts of what is returned.
    """
    rows = [layer.weight.data.view(layer.out_features, -1) for layer in layers]
    packed = rows[0] if len(rows) == 1 else torch.cat(rows)
    if len(rows) > 1:
        first = 0
        for layer in layers:
            layer.weight.data = packed[first : first + layer.out_features].view(layer.weight.shape)
            first += layer.out_features
    scales = torch.cat([_scales(layer) for layer in layers])
    return Nf4Matrix(packed, scales, layers[0].weight.quant_state.code.float().contiguous(), room)


def _scales(layer: Linear4bit) -> torch.Tensor:
    """Return a layer's scales, (out, in / 64), in float32; theirs are numbers of 8 bit by other scales."""
    from bitsandbytes.functional import dequantize_blockwise

    state = layer.weight.quant_state
    scales = state.absmax
    if state.nested:
        scales = dequantize_blockwise(scales, state.state2) + state.offset
    return scales.float().view(layer.out_features, -1)  # type: ignore[no-any-return]
