"""One matrix product of a block on weights that are plain or packed, with several adapters' LoRA beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.nn import functional

from harness.generate.llama.adapters import AdapterRows, LoraStack
from harness.generate.llama.nf4 import Nf4Matrix

Matrix = TypeVar("Matrix")


@dataclass
class Product:
    """y = W x, with LoRA's B (A x) · scaling for rows with an adapter."""

    below: torch.Tensor
    """W and under it the A's: (out + ranks and more, in)."""
    out: int
    lora: LoraStack | None = None

    def __call__(self, inputs: torch.Tensor, rows: AdapterRows) -> torch.Tensor:
        """Return (tokens, out); its rows may lie apart."""
        lora = self.lora
        if lora is None or not lora.changes(rows):
            return functional.linear(inputs, self.below[: self.out])
        both = functional.linear(inputs, self.below[: self.out + lora.ends[-1]])
        return lora.add(both[:, : self.out], both[:, self.out :][:, lora.span(rows)], rows)

    def put_beside(self, lora: LoraStack | None) -> None:
        """Put adapters beside W, or none."""
        self.lora = lora
        if lora is None:
            return
        size = self.out + lora.ends[-1]
        if len(self.below) < size:
            wider = self.below.new_empty((size, self.below.shape[1]))
            wider[: self.out] = self.below[: self.out]
            self.below = wider
        self.below[self.out : size] = lora.downs
        lora.downs = self.below[self.out : size]


@dataclass
class PackedProduct(Generic[Matrix]):
    """The same of weights that are packed for a product of their own; the A's are matrices of their own."""

    matrix: Matrix
    """W as `linear` takes it."""
    linear: Callable[[torch.Tensor, Matrix], torch.Tensor]
    """Returns W x, (tokens, out), of (tokens, in) and the matrix: a new tensor, which LoRA is added to in place."""
    lora: LoraStack | None = None

    def __call__(self, inputs: torch.Tensor, rows: AdapterRows) -> torch.Tensor:
        """Return (tokens, out)."""
        done = self.linear(inputs, self.matrix)
        if self.lora is None or not self.lora.changes(rows):
            return done
        return self.lora.add(done, self.lora.lowered(inputs, rows), rows)

    def put_beside(self, lora: LoraStack | None) -> None:
        """Put adapters beside W, or none."""
        self.lora = lora


BlockProduct = Product | PackedProduct[Nf4Matrix] | PackedProduct[torch.Tensor]
"""On plain weights; on weights in 4 bit; on those that `cpu_ops` packs."""
