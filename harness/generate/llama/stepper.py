"""Steps of many rows: their state lies on the device, and on CUDA each step is a captured graph."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import torch

from harness.generate.llama.adapters import AdapterRows
from harness.generate.llama.graphs import Graphs
from harness.generate.llama.model import Along, FusedLlama, KVCache
from harness.generate.llama.prompt_batch import PromptBatch, Room

_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
"""Numbers of rows for which a step is captured."""
ROWS_OF_A_CAPTURE = 800
"""A capture takes as long as steps of so many rows more, each row for one step, on the cards that were measured."""


class Stepper:
    """The state of all rows on the device, and the step over the first of them.

    Args:
        fused: The model.
        rows: How many rows there can be at once.
        pool: Keys and values.
        longest: No position reaches this.
        temperature: 0 is greedy.
        observe: Called with the logits of each step, which is then captured in no graph.
    """

    def __init__(
        self,
        fused: FusedLlama,
        rows: int,
        pool: KVCache,
        longest: int,
        temperature: float,
        observe: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        self.fused, self.pool, self.longest, self.temperature = fused, pool, longest, temperature
        self.state = torch.zeros((6, rows), dtype=torch.long, device=fused.device)
        self.graphs = Graphs() if fused.device.type == "cuda" and observe is None else None
        self._rented: Counter[Hashable] = Counter()
        """By graphs that were not captured: rows that larger ones did in vain in their place."""
        self.rows = rows
        self.observe = observe

    def set_rows(self, first: int, columns: Sequence[tuple[int, int, int, int, int]]) -> None:
        """Write token, position, first place, seed and adapter of rows from `first` on."""
        values = torch.tensor([(*column[:4], 1, column[4]) for column in columns], dtype=torch.long).t()
        self.state[:, first : first + len(columns)] = self._sent(values)

    def keep_rows(self, kept: Sequence[int]) -> None:
        """Put these rows first, in this order; the others are no longer there."""
        if kept:
            self.state[:, : len(kept)] = self.state[:, self._sent(torch.tensor(kept))]
        self.state[4, len(kept) :] = 0
        self.state[2, len(kept) :] = 0
        self.state[1, len(kept) :] = 0

    def set_tokens(self, first: int, tokens: torch.Tensor) -> None:
        """Write the tokens that rows from `first` on decode next."""
        self.state[0, first : first + len(tokens)] = tokens

    def step(self, active: int, adapter: int = 0) -> torch.Tensor:
        """Decode one token of the first `active` rows and return the tokens, (active,).

        Args:
            active: How many rows.
            adapter: The one that all of them go through, 0 for none; `MIXED` where each has its own.
        """
        self._run(active, adapter)
        return self.state[0, :active].clone()

    def step_and_enter(self, active: int, adapter: int, prompts: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """The same while prompts enter; return the rows' tokens and the logits behind the prompts.

        Args:
            active: How many rows.
            adapter: The one that rows and prompts go through, 0 for none; `MIXED` where each has its own.
            prompts: Those that enter.
        """
        logits = self._run(active, adapter, prompts)
        return self.state[0, :active].clone(), logits

    def _run(self, active: int, adapter: int, prompts: PromptBatch | None = None) -> torch.Tensor:
        if self.graphs is None:
            return self._step(active, adapter, prompts)
        room = None if prompts is None else prompts.room
        bucket = self._bucket(active, adapter, room)
        return self.graphs.run(
            (bucket, adapter, room),
            lambda: self._step(bucket, adapter, prompts),
            lambda: self._rehearse(bucket, adapter, prompts),
        )

    def _bucket(self, active: int, adapter: int, room: Room | None) -> int:
        """Return in how many rows the graph is that makes a step of so many.

        That is the next size, unless a larger graph is there and has not yet cost more than the capture of one would
        (rent, until buying had been cheaper: Karlin et al. 1988, at most twice the least that could be paid).
        """
        assert self.graphs is not None
        sizes = [*(size for size in _BUCKETS if size < self.rows), self.rows]
        fits = sizes[bisect_left(sizes, active) :]
        there = next((size for size in fits if (size, adapter, room) in self.graphs), None)
        if there is not None and there != fits[0]:
            self._rented[fits[0], adapter, room] += there - fits[0]
            if self._rented[fits[0], adapter, room] <= ROWS_OF_A_CAPTURE:
                return there
        return fits[0]

    def _step(
        self, count: int, adapter: int, prompts: PromptBatch | None = None, rehearsal: bool = False
    ) -> torch.Tensor:
        """Decode a token of each row and return the logits behind the prompts."""
        tokens, positions, starts, seeds, live, adapters = self.state[:, :count]
        if prompts is not None:
            adapters = torch.cat([adapters, prompts.adapters])
        along = Along(AdapterRows(adapter, adapters), prompts, rehearsal)
        logits = self.fused.step(tokens, self.pool, starts, positions, self.longest, along)
        if self.observe is not None:
            self.observe(logits[:count])
        chosen = self.fused.operations.choose(logits[:count], self.temperature, seeds, positions)
        self.state[0, :count] = torch.where(live.bool(), chosen, tokens)
        self.state[1, :count] += live
        return logits[count:]

    def _rehearse(self, count: int, adapter: int, prompts: PromptBatch | None) -> None:
        """Make a step in which no row is there."""
        before = self.state.clone()
        self.state.zero_()
        self._step(count, adapter, prompts, rehearsal=True)
        self.state.copy_(before)

    def _sent(self, values: torch.Tensor) -> torch.Tensor:
        if self.fused.device.type != "cuda":
            return values
        return values.pin_memory().to(self.fused.device, non_blocking=True)
