"""Whole prompts, before the first token is decoded: many at once, a prefix that all of them share computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

MIN_SHARED_PREFIX = 16
"""A prompt prefix that all rows share is computed once from this many tokens on."""

Tokens = tuple[int, ...]


class Prefill:
    """Prompts of one decoding on one model.

    Args:
        model: A causal language model of transformers, unwrapped.
        prompts: Every prompt that will come, to find the prefix that they share.
    """

    def __init__(self, model: Any, prompts: Sequence[Tokens]) -> None:
        self.body = model.get_decoder()
        self.head = model.get_output_embeddings()
        self.device = model.device
        self.shared = 0
        """How many tokens at the begin of each prompt are computed once for all."""
        self._prefix: DynamicCache | None = None
        length = common_prefix(prompts)
        if len(prompts) > 1 and length >= MIN_SHARED_PREFIX:
            self.shared, self._prefix = length, DynamicCache()
            ids = torch.tensor([prompts[0][:length]], device=self.device)
            self.body(input_ids=ids, cache=self._prefix, use_cache=True)

    def run(self, prompts: Sequence[Tokens]) -> tuple[torch.Tensor, DynamicCache]:
        """Return the logits after each prompt's last token, (rows, vocabulary), and all keys and values.

        Row n of the cache holds prompt n from position 0; what lies past its length is padding.
        """
        rows = len(prompts)
        suffixes = [prompt[self.shared :] for prompt in prompts]
        lengths = torch.tensor([len(suffix) for suffix in suffixes], device=self.device)
        longest = max(len(suffix) for suffix in suffixes)
        ids = torch.tensor([[*suffix, *[0] * (longest - len(suffix))] for suffix in suffixes], device=self.device)
        seen = torch.arange(longest, device=self.device)[None] < lengths[:, None]
        mask = torch.cat([seen.new_ones((rows, self.shared)), seen], dim=1)
        cache = self._prefix_of(rows)
        hidden = self.body(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=torch.arange(self.shared, self.shared + longest, device=self.device)[None],
            cache=cache,
            use_cache=True,
        ).last_hidden_state
        last = hidden[torch.arange(rows, device=self.device), lengths - 1]
        return torch.as_tensor(self.head(last)), cache

    def _prefix_of(self, rows: int) -> DynamicCache:
        cache = DynamicCache()
        if self._prefix is not None:
            for number, layer in enumerate(self._prefix.layers):
                cache.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
        return cache


def common_prefix(sequences: Sequence[Tokens]) -> int:
    """Return how many first tokens all sequences share; each keeps at least one token beyond them."""
    shortest = min(len(sequence) for sequence in sequences) - 1
    low, high = min(sequences), max(sequences)
    for position in range(shortest):
        if low[position] != high[position]:
            return position
    return max(shortest, 0)
