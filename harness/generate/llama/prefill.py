"""Prompts that enter a decoding: few of them by captured graphs, for there the program would be slower than the GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import torch

from harness.generate.llama.graphs import Graphs
from harness.generate.llama.model import FusedLlama, KVCache
from harness.generate.llama.prompt_batch import PromptBatch, Room, SharedPrefix, prompt_batch

_ROOMS = tuple(Room(tokens, 16) for tokens in (64, 128, 192, 256, 320, 384, 448, 512, 768, 1024))
"""What captured batches are padded to. What is larger keeps the GPU longer than the program."""
BESIDE = (Room(64, 4), Room(128, 4), Room(256, 4))
"""The same of prompts that enter within a step of other rows: with so few tokens it hardly takes longer."""

USES_OF_A_CAPTURE = 2
"""So often a batch of one size goes uncaptured: together it keeps the GPU waiting about as long as a capture."""


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
        self._uses: Counter[Room] = Counter()

    def batch(
        self,
        prompts: Sequence[Sequence[int]],
        first_places: Sequence[int],
        prefixes: Sequence[SharedPrefix],
        adapters: Sequence[int],
        rooms: Sequence[Room] = _ROOMS,
    ) -> PromptBatch:
        """Return prompts on the device, in the tensors that their room's graphs read; in their own where none has one.

        Args:
            prompts: Each whole, longer than its prefix.
            first_places: The first place of each prompt's slot.
            prefixes: What of each is stored already, equal ones side by side: they are copied to the slots.
            adapters: The number of each one's adapter, 0 for none.
            rooms: What they may be padded to, the smallest first.
        """
        tokens = sum(len(prompt) - prefix.length for prompt, prefix in zip(prompts, prefixes, strict=True))
        fits = [room for room in rooms if tokens <= room.tokens and len(prompts) <= room.prompts]
        room = fits[0] if fits and self._graphs is not None else None
        pinned = self.fused.device.type == "cuda"
        batch = prompt_batch(prompts, first_places, prefixes, adapters, room, pinned).to(self.fused.device)
        done = 0
        for prefix, same in groupby(prefixes):
            begin, done = done, done + len(list(same))
            if prefix.length:
                self.pool.copy_prefix(batch.starts[begin:done], prefix)
        if room is None:
            return batch
        fixed = self._batches.setdefault(room, batch)
        fixed.numbers.copy_(batch.numbers)
        return fixed

    def run(self, batch: PromptBatch, adapter: int) -> torch.Tensor:
        """Return the logits behind each prompt, (prompts, vocabulary), good until the next step or prefill.

        Args:
            batch: Made by `batch`.
            adapter: The one that all of them go through, 0 for none; `MIXED` where each has its own.
        """

        def work(rehearsal: bool = False) -> torch.Tensor:
            return self.fused.prefill(batch, self.pool, self.longest, adapter, rehearsal=rehearsal)

        if self._graphs is None or batch.room not in self._batches:
            return work()
        self._uses[batch.room] += 1
        if self._uses[batch.room] <= USES_OF_A_CAPTURE:
            return work()
        return self._graphs.run((batch.room, adapter), work, lambda: work(rehearsal=True))
