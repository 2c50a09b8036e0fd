"""A key-value cache with one slot a row: finished rows leave and waiting prompts enter without moving the others.

Every row fills its slot from position 0, so no row is padded for another's sake; the mask hides what lies past it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from harness.model.attention import attending_by

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION_NAME = "harness_slots"
WIDTH_STEP = 64
"""Attention is computed over a width rounded up to this many positions."""

_CALL_COST = 96
"""On a CPU a call of the attention costs about as much as reading so many positions of one row."""


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers ships no types for it
    """Keys and values of one layer: (slots, heads, capacity, head size)."""

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the slots on the first write, when dtype, device and heads are known."""
        shape = (self.owner.slots, key_states.shape[1], self.owner.capacity)
        self.keys = key_states.new_zeros((*shape, key_states.shape[-1]))
        self.values = value_states.new_zeros((*shape, value_states.shape[-1]))
        self.is_initialized = True

    def fill(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write a prompt's keys and values, (heads, length, head size), into a slot."""
        if not self.is_initialized:
            self.lazy_initialization(keys[None], values[None])
        length = keys.shape[1]
        self.keys[slot, :, :length] = keys
        self.values[slot, :, :length] = values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one new position of each active row, (rows, heads, 1, head size), and return all that they may see."""
        owner = self.owner
        active = key_states.shape[0]
        self.keys[owner.row_numbers[:active], :, owner.positions[:active]] = key_states[:, :, 0]
        self.values[owner.row_numbers[:active], :, owner.positions[:active]] = value_states[:, :, 0]
        return self.keys[:active, :, : owner.width], self.values[:active, :, : owner.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return width and offset of the mask."""
        return self.owner.width, 0

    def get_seq_length(self) -> int:
        """Return the width in use; rows have lengths of their own."""
        return self.owner.width

    def get_max_length(self) -> int:
        """Return the number of positions in a slot."""
        return self.owner.capacity


class SlotCache(Cache):  # type: ignore[misc]  # transformers ships no types for it
    """All layers' slots, and the position each row writes next."""

    def __init__(self, layers: int, slots: int, capacity: int, device: torch.device) -> None:
        self.slots = slots
        self.capacity = capacity
        self.width = 0
        self.groups: list[tuple[int, int, int]] = []
        """Rows that attend in one call in this step: the first, the one after the last, and their width."""
        self.row_numbers = torch.arange(slots, device=device)
        self.positions = torch.zeros(slots, dtype=torch.long, device=device)
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])

    def fill(self, slot: int, prompt: DynamicCache, row: int, length: int) -> None:
        """Copy the first `length` positions of a prefilled row into a slot."""
        for layer, prefilled in zip(self.layers, prompt.layers, strict=True):
            layer.fill(slot, prefilled.keys[row, :, :length], prefilled.values[row, :, :length])
        self.positions[slot] = length

    def move(self, source: int, target: int) -> None:
        """Copy a row into another slot, so that the active rows stay in front."""
        length = int(self.positions[source])
        for layer in self.layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]
        self.positions[target] = self.positions[source]

    def mask(self, active: int) -> torch.Tensor:
        """Set the widths for this step and return the mask, (rows, 1, 1, width), True where a row may look."""
        on_cpu = self.positions.device.type == "cpu"
        lengths = self.positions[:active].tolist() if on_cpu else [int(self.positions[:active].max())]
        widths = [min(self.capacity, -(-(length + 1) // WIDTH_STEP) * WIDTH_STEP) for length in lengths]
        self.width = max(widths)
        self.groups = grouped(widths) if on_cpu else [(0, active, self.width)]
        columns = torch.arange(self.width, device=self.positions.device)
        return (columns[None] <= self.positions[:active, None])[:, None, None]


def grouped(widths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return neighbouring rows of similar width as (first, one after the last, width).

    Keys and values are read from memory for each step, which is what attention on a CPU takes its time for: a row is
    not read to the width of a much longer one, unless the call that this saves costs more.
    """
    groups = [(0, 1, widths[0])]
    for row, width in enumerate(widths[1:], 1):
        first, end, before = groups[-1]
        wider = max(before, width)
        if (wider - before) * (end - first) + (wider - width) <= _CALL_COST:
            groups[-1] = (first, row + 1, wider)
        else:
            groups.append((row, row + 1, width))
    return groups


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    cache: SlotCache,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attend with grouped queries without copying keys for every query head.

    One new position: the query heads that share a key head stand as the rows of one small product. Whole prompts go
    through transformers' own sdpa.
    """
    if query.shape[2] != 1 or attention_mask is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return attended, None
    rows, heads, _, size = query.shape
    grouped_queries = query.view(rows, key.shape[1], heads // key.shape[1], size)
    attended = torch.cat(
        [
            torch.nn.functional.scaled_dot_product_attention(
                grouped_queries[first:end],
                key[first:end, :, :width],
                value[first:end, :, :width],
                attn_mask=attention_mask[first:end, ..., :width],
                scale=scaling,
            )
            for first, end, width in cache.groups or [(0, rows, key.shape[2])]
        ]
    )
    return attended.reshape(rows, 1, heads, size), None


def slot_attention_on(model: PreTrainedModel, cache: SlotCache) -> contextlib.AbstractContextManager[None]:
    """Let the model attend through `slot_attention` over a cache inside the block."""
    attention = functools.partial(slot_attention, cache=cache)
    return attending_by(model, ATTENTION_NAME, attention, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
