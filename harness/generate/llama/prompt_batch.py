"""Prompts that enter a decoding together, one behind the other without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch

TILE = 64
"""So many tokens of a prompt, at most, attend together in a kernel."""
_ALIGNED = 2
"""Parts of what travels to the device begin at multiples of 16 bytes: Triton compiles anew for other pointers."""


class SharedPrefix(NamedTuple):
    """The first tokens of a prompt, whose keys and values are stored already."""

    place: int
    """Where they stand, for slots to be given a copy of them."""
    length: int


NO_PREFIX = SharedPrefix(1, 0)


class Room(NamedTuple):
    """What a batch has room for; the rest is padding, whose keys and values go to place 0."""

    tokens: int
    prompts: int

    @property
    def tiles(self) -> int:
        """How many tiles there are at most."""
        return self.tokens // TILE + self.prompts


@dataclass(frozen=True)
class PromptBatch:
    """The tokens of several prompts behind their prefixes, whose keys and values are in the slots already."""

    prefixes: tuple[SharedPrefix, ...]
    """Of each prompt."""
    lengths: tuple[int, ...]
    """How many tokens of each prompt there are here."""
    first_places: tuple[int, ...]
    """The first place of each prompt's slot."""
    numbers: torch.Tensor
    """All of the following, one behind the other."""
    room: Room

    @property
    def tokens(self) -> torch.Tensor:
        """Return (tokens,) of all prompts."""
        return self._part(0, self.room.tokens)

    @property
    def positions(self) -> torch.Tensor:
        """Return (tokens,) in their prompts."""
        return self._part(1, self.room.tokens)

    @property
    def places(self) -> torch.Tensor:
        """Return (tokens,) where their keys and values belong."""
        return self._part(2, self.room.tokens)

    @property
    def adapters(self) -> torch.Tensor:
        """Return (tokens,) the number of the adapter that each goes through, 0 for none."""
        return self._part(6, self.room.tokens)

    @property
    def starts(self) -> torch.Tensor:
        """Return (prompts,) as `first_places`."""
        return self._part(3, self.room.prompts)

    @property
    def last(self) -> torch.Tensor:
        """Return (prompts,) where in `tokens` each prompt ends."""
        return self._part(4, self.room.prompts)

    @property
    def tiles(self) -> torch.Tensor:
        """Return (tiles, 4) of at most `TILE` tokens of a prompt: the first in `tokens`, how many, the prompt's first
        place, and the position of the first."""
        return self._part(5, 4 * self.room.tiles).view(-1, 4)

    def to(self, device: torch.device) -> PromptBatch:
        """Return the same on its way to a device: in one copy, which nothing waits for."""
        numbers = self.numbers.to(device, non_blocking=True)
        return PromptBatch(self.prefixes, self.lengths, self.first_places, numbers, self.room)

    def _part(self, number: int, size: int) -> torch.Tensor:
        begin = _begins(self.room)[number]
        return self.numbers[begin : begin + size]


def prompt_batch(
    prompts: Sequence[Sequence[int]],
    first_places: Sequence[int],
    prefixes: Sequence[SharedPrefix],
    adapters: Sequence[int],
    room: Room | None = None,
    pinned: bool = False,
) -> PromptBatch:
    """Return prompts as a model takes them, on the CPU.

    Args:
        prompts: Each whole, longer than its prefix.
        first_places: The first place of each prompt's slot.
        prefixes: What of each is stored.
        adapters: The number of each one's adapter, 0 for none.
        room: More than is needed is padded; None for as much as is needed.
        pinned: In memory that a GPU copies from while the program goes on.
    """
    stored = [prefix.length for prefix in prefixes]
    lengths = tuple(len(prompt) - shared for prompt, shared in zip(prompts, stored, strict=True))
    ends = list(accumulate(lengths))
    room = room or Room(ends[-1], len(prompts))
    positions = [range(shared, shared + length) for shared, length in zip(stored, lengths, strict=True)]
    tiles = [
        (end - length + first, min(TILE, length - first), start, shared + first)
        for end, length, start, shared in zip(ends, lengths, first_places, stored, strict=True)
        for first in range(0, length, TILE)
    ]
    tiles += [(0, 0, 0, 0)] * (room.tiles - len(tiles))
    parts: list[Sequence[int]] = [
        [token for prompt, shared in zip(prompts, stored, strict=True) for token in prompt[shared:]],
        [position for row in positions for position in row],
        [start + position for row, start in zip(positions, first_places, strict=True) for position in row],
        first_places,
        [end - 1 for end in ends],
        [number for tile in tiles for number in tile],
        [adapter for adapter, length in zip(adapters, lengths, strict=True) for _ in range(length)],
    ]
    begins = _begins(room)
    numbers = torch.zeros(begins[-1], dtype=torch.long, pin_memory=pinned)
    for begin, part in zip(begins, parts, strict=False):
        numbers[begin : begin + len(part)] = torch.tensor(part)
    return PromptBatch(tuple(prefixes), lengths, tuple(first_places), numbers, room)


def _begins(room: Room) -> list[int]:
    """Return where each part begins, and where the last one ends."""
    sizes = (room.tokens, room.tokens, room.tokens, room.prompts, room.prompts, 4 * room.tiles, room.tokens)
    return [0, *accumulate(-(-size // _ALIGNED) * _ALIGNED for size in sizes)]
