"""Prompts that enter a decoding together, one behind the other without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

TILE = 64
"""So many tokens of a prompt, at most, attend together in a kernel."""
_ALIGNED = 2
"""Parts of what travels to the device begin at multiples of 16 bytes: Triton compiles anew for other pointers."""


@dataclass(frozen=True)
class PromptBatch:
    """The tokens of several prompts behind the `shared` first ones, whose keys and values are in the slots already."""

    shared: int
    lengths: tuple[int, ...]
    """How many tokens of each prompt there are here."""
    first_places: tuple[int, ...]
    """The first place of each prompt's slot."""
    tokens: torch.Tensor
    """(tokens,) of all prompts."""
    positions: torch.Tensor
    """(tokens,) in their prompts."""
    places: torch.Tensor
    """(tokens,) where their keys and values belong."""
    starts: torch.Tensor
    """(prompts,) as `first_places`."""
    last: torch.Tensor
    """(prompts,) where in `tokens` each prompt ends."""
    tiles: torch.Tensor
    """(4, tiles) of at most `TILE` tokens of a prompt: the first in `tokens`, how many, the prompt's first place, and
    the position of the first."""


def prompt_batch(
    prompts: Sequence[Sequence[int]], first_places: Sequence[int], shared: int, device: torch.device
) -> PromptBatch:
    """Return prompts on their way to the device: in one copy, which nothing waits for.

    Args:
        prompts: Each whole, longer than `shared`.
        first_places: The first place of each prompt's slot.
        shared: How many tokens of each are stored.
        device: Where the model is.
    """
    lengths = tuple(len(prompt) - shared for prompt in prompts)
    ends = list(accumulate(lengths))
    positions = [range(shared, shared + length) for length in lengths]
    tiles = [
        (end - length + first, min(TILE, length - first), start, shared + first)
        for end, length, start in zip(ends, lengths, first_places, strict=True)
        for first in range(0, length, TILE)
    ]
    parts: list[Sequence[int]] = [
        [token for prompt in prompts for token in prompt[shared:]],
        [position for row in positions for position in row],
        [start + position for row, start in zip(positions, first_places, strict=True) for position in row],
        first_places,
        [end - 1 for end in ends],
        [number for column in zip(*tiles, strict=True) for number in column],
    ]
    begins = [0, *accumulate(-(-len(part) // _ALIGNED) * _ALIGNED for part in parts)]
    numbers = torch.zeros(begins[-1], dtype=torch.long, pin_memory=device.type == "cuda")
    for begin, part in zip(begins, parts, strict=False):
        numbers[begin : begin + len(part)] = torch.tensor(part)
    there = numbers.to(device, non_blocking=True)
    tokens, at, places, starts, last, flat = (
        there[begin : begin + len(part)] for begin, part in zip(begins, parts, strict=False)
    )
    return PromptBatch(shared, lengths, tuple(first_places), tokens, at, places, starts, last, flat.view(4, -1))
