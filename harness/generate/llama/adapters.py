"""LoRA adapters beside the weights of one product: several at once, each row of a batch with its own or none.

The A's of all adapters stand below each other and their B's beside each other. A row that shares a pass with rows of
another adapter keeps, of all A x, its own adapter's numbers; the others are zero before B, so that nothing is added for
them (as in the batched LoRA products of Chen et al. 2023, Punica, with masks in place of gathers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

Factors = tuple[torch.Tensor, torch.Tensor]
"""LoRA's A, (rank, in), and B · scaling, (out, rank) (Hu et al. 2021, section 4.1)."""
AddLowRank = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor] | None], torch.Tensor
]
"""`torch_ops.add_low_rank`, or what a device has in its place."""

MIXED = -1
"""In place of an adapter's number: the rows of a pass go through different ones."""


@dataclass(frozen=True)
class AdapterRows:
    """Which adapter the tokens of one pass go through."""

    adapter: int = 0
    """The number of the one that all go through, from 1 on; 0 for none, `MIXED` where `numbers` says it."""
    numbers: torch.Tensor | None = None
    """(tokens,) the number of each token's."""


NO_ADAPTER = AdapterRows()


@dataclass
class LoraStack:
    """The factors of all adapters for one product."""

    downs: torch.Tensor
    """The A's below each other, (ranks, in)."""
    ups: torch.Tensor
    """The B's · scaling beside each other, (out, ranks)."""
    ends: tuple[int, ...]
    """Where the ranks of adapters 1, 2, … end; one that leaves the product alone has none."""
    owners: torch.Tensor
    """(ranks,) the number of the adapter that each rank belongs to."""
    added: AddLowRank
    """`add_low_rank` of the kernels for the device."""

    @classmethod
    def of(cls, adapters: Sequence[Factors | None], added: AddLowRank) -> LoraStack | None:
        """Return the stack of these adapters, numbered from 1 on; None where none of them changes the product."""
        found = [factors for factors in adapters if factors is not None]
        if not found:
            return None
        ranks = [0 if factors is None else len(factors[0]) for factors in adapters]
        owners = [number for number, rank in enumerate(ranks, 1) for _ in range(rank)]
        return cls(
            torch.cat([downs for downs, _ in found]),
            torch.cat([ups for _, ups in found], dim=1),
            tuple(sum(ranks[: number + 1]) for number in range(len(ranks))),
            torch.tensor(owners, device=found[0][0].device),
            added,
        )

    def changes(self, rows: AdapterRows) -> bool:
        """Return whether anything may be added for these rows."""
        span = self.span(rows)
        return span.start < span.stop

    def span(self, rows: AdapterRows) -> slice[int, int]:
        """Return the ranks that these rows need: those of their adapter, all of them where it differs."""
        if rows.adapter == MIXED:
            return slice(0, self.ends[-1])
        if rows.adapter == 0:
            return slice(0, 0)
        return slice(self.ends[rows.adapter - 2] if rows.adapter > 1 else 0, self.ends[rows.adapter - 1])

    def lowered(self, inputs: torch.Tensor, rows: AdapterRows) -> torch.Tensor:
        """Return A x, (tokens, ranks of the span)."""
        return functional.linear(inputs, self.downs[self.span(rows)])

    def add(self, done: torch.Tensor, lowered: torch.Tensor, rows: AdapterRows) -> torch.Tensor:
        """Add B (A x) · scaling in place and return the sum.

        Args:
            done: W x, (tokens, out); its rows may lie apart.
            lowered: A x, (tokens, ranks of the span).
            rows: Whose tokens they are.
        """
        mixed = None
        if rows.adapter == MIXED:
            assert rows.numbers is not None  # else each row would get what all adapters add
            mixed = rows.numbers, self.owners
        return self.added(done, lowered, self.ups[:, self.span(rows)], mixed)
