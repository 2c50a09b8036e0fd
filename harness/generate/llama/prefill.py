"""Prompts that enter a decoding: few of them by captured graphs, for there the program would be slower than the GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.generate.llama.graphs import Graphs
from harness.generate.llama.model import FusedLlama, KVCache
from harness.generate.llama.prompt_batch import PromptBatch, Room, prompt_batch

_ROOMS = tuple(Room(tokens, 16) for tokens in (64, 128, 192, 256, 320, 384, 448, 512, 768, 1024))
"""What captured batches are padded to. What is larger keeps the GPU longer than the program."""
BESIDE = (Room(64, 4), Room(128, 4), Room(256, 4))
"""The same of prompts that enter within a step of other rows: with so few tokens it hardly takes longer."""


class Prefill:
    """Prompts whose keys and values are to be stored.

    Args:
        fused: The model.
        pool: Where keys and values are kept.
        longest: No position reaches this.
        graphs: Of this pool; None captures nothing.
    """

    def __init__(self, fused: FusedLlama, pool: KVCache, longest: int, graphs: Graphs | None) -> None:
        self.fused, self.pool, self.longest = fused, pool, longest
        self._graphs = graphs
        self._batches: dict[Room, PromptBatch] = {}

    def batch(
        self,
        prompts: Sequence[Sequence[int]],
        first_places: Sequence[int],
        shared: int,
        rooms: Sequence[Room] = _ROOMS,
    ) -> PromptBatch:
        """Return prompts on the device, in the tensors that their room's graphs read; in their own where none has one.

        Args:
            prompts: Each whole, longer than `shared`.
            first_places: The first place of each prompt's slot.
            shared: How many tokens of each stand at the places from 1 on: they are copied to its slot.
            rooms: What they may be padded to, the smallest first.
        """
        tokens = sum(len(prompt) - shared for prompt in prompts)
        fits = [room for room in rooms if tokens <= room.tokens and len(prompts) <= room.prompts]
        room = fits[0] if fits and self._graphs is not None else None
        given = prompt_batch(prompts, first_places, shared, room, pinned=self.fused.device.type == "cuda")
        batch = given.to(self.fused.device)
        if shared:
            self.pool.copy_prefix(batch.starts[: len(prompts)], shared)
        if room is None:
            return batch
        fixed = self._batches.setdefault(room, batch)
        fixed.numbers.copy_(batch.numbers)
        return fixed

    def run(self, batch: PromptBatch, adapter: int) -> torch.Tensor:
        """Return the logits behind each prompt, (prompts, vocabulary), good until the next step or prefill.

        Args:
            batch: Made by `batch`.
            adapter: The number of the adapter that all of them go through, 0 for none.
        """

        def work(rehearsal: bool = False) -> torch.Tensor:
            return self.fused.prefill(batch, self.pool, self.longest, adapter, rehearsal=rehearsal)

        if self._graphs is None or batch.room not in self._batches:
            return work()
        return self._graphs.run((batch.room, adapter), work, lambda: work(rehearsal=True))
