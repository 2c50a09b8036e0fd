"""Prompts that enter a decoding: few of them by captured graphs, for there the program would be slower than the GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.generate.llama.graphs import Graphs
from harness.generate.llama.model import FusedLlama, KVCache
from harness.generate.llama.prompt_batch import PromptBatch, Room, prompt_batch

_TOKENS = (64, 128, 192, 256, 320, 384, 448, 512, 768, 1024)
"""Numbers of tokens that a captured batch is padded to. What is larger keeps the GPU longer than the program."""
_PROMPTS = 16
"""A captured batch has at most so many prompts."""


class Prefill:
    """Stores the keys and values of prompts.

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

    def run(
        self, prompts: Sequence[Sequence[int]], first_places: Sequence[int], shared: int, adapter: int
    ) -> torch.Tensor:
        """Return the logits behind each prompt, (prompts, vocabulary), good until the next step or prefill.

        Args:
            prompts: Each whole, longer than `shared`.
            first_places: The first place of each prompt's slot.
            shared: How many tokens of each stand at the places from 1 on, and are copied to its slot.
            adapter: The number of the adapter that all of them go through, 0 for none.
        """
        tokens = sum(len(prompt) - shared for prompt in prompts)
        room = None
        if self._graphs is not None and len(prompts) <= _PROMPTS and tokens <= _TOKENS[-1]:
            room = Room(next(size for size in _TOKENS if size >= tokens), _PROMPTS)
        given = prompt_batch(prompts, first_places, shared, room, pinned=self.fused.device.type == "cuda")
        batch = given.to(self.fused.device)
        if shared:
            self.pool.copy_prefix(batch.starts[: len(prompts)], shared)
        if self._graphs is None or room is None:
            return self.fused.prefill(batch, self.pool, self.longest, adapter)
        fixed = self._batches.setdefault(room, batch)
        fixed.numbers.copy_(batch.numbers)
        logits = self._graphs.run(
            (room, adapter),
            lambda: self.fused.prefill(fixed, self.pool, self.longest, adapter),
            lambda: self.fused.prefill(fixed, self.pool, self.longest, adapter, rehearsal=True),
        )
        return logits[: len(prompts)]
