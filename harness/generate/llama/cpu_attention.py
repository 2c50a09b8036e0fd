"""Attention of a step on a CPU: each row reads its own keys and values where they lie, and no others.

Compiled where there is a C compiler (`attend.c`), at the speed of the memory; else by torch's kernel, row by row. What
rows begin with in common is read once for all of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.generate.llama.c_compiler import compiled
from harness.generate.llama.model import Attention, KVCache
from harness.generate.llama.prompt_batch import SharedPrefix

READ_ONCE = 128
"""What rows begin with in common is read once for all of them if it is so many tokens; less is not worth a piece."""
SOURCE = Path(__file__).with_name("attend.c")
OPTIONS = {torch.float32: (), torch.bfloat16: ("-DBFLOAT16",)}


@dataclass(frozen=True)
class Prefix:
    """Keys and values that several rows begin with, of all layers: (layers, key heads, tokens, head size)."""

    keys: torch.Tensor
    values: torch.Tensor

    def __len__(self) -> int:
        return self.keys.shape[2]


@dataclass
class CpuCache(KVCache):
    """Keys and values that know which rows begin alike."""

    prefixes: dict[SharedPrefix, Prefix] = field(default_factory=dict)
    prefix_of: dict[int, Prefix] = field(default_factory=dict)
    """By the first place of a row's slot. The row holds a copy of it."""

    def note(self, starts: Sequence[int], prefixes: Sequence[SharedPrefix]) -> None:
        """Keep in mind what rows begin with, whose first places are `starts`."""
        for start, one in zip(starts, prefixes, strict=True):
            if one.length < READ_ONCE:
                self.prefix_of.pop(start, None)
            else:
                self.prefix_of[start] = self.prefixes.setdefault(one, self._prefix(one))

    def _prefix(self, one: SharedPrefix) -> Prefix:
        stored = slice(one.place, one.place + one.length)
        return Prefix(self.keys[:, :, stored], self.values[:, :, stored])


@dataclass(frozen=True)
class Reading:
    """What one row reads: a prefix, if it has one, and then its own places."""

    first: int
    count: int
    prefix: Prefix | None


def readings(pool: CpuCache, starts: Sequence[int], positions: Sequence[int]) -> list[Reading]:
    """Return what rows read whose newest tokens stand at these positions; each its prefix once for all of them."""
    found = []
    for start, position in zip(starts, positions, strict=True):
        prefix = pool.prefix_of.get(start)
        before = 0 if prefix is None else len(prefix)
        found.append(Reading(start + before, position + 1 - before, prefix))
    return found


def attention_of(pool: CpuCache, rows: Sequence[Reading]) -> Attention:
    """Return the attention of one step: softmax(q K' / √size) V of each row over what it reads."""
    dtype = pool.keys.dtype
    library = compiled(SOURCE, *OPTIONS[dtype]) if dtype in OPTIONS else None
    return by_torch(pool, rows) if library is None else by_library(library, pool, rows)


def is_compiled() -> bool:
    """Return whether the compiled attention is there."""
    return compiled(SOURCE) is not None


def by_library(library: ctypes.CDLL, pool: CpuCache, rows: Sequence[Reading]) -> Attention:
    """As `attention_of`, by `attend.c`."""
    at, apart = [], []
    # of each row's two pieces: keys, values, tokens and the way from head to head; and how far its next layer is
    for row in rows:
        before = 0 if row.prefix is None else len(row.prefix)
        for kept, first, count in ((row.prefix or pool, 0, before), (pool, row.first, row.count)):
            layer, head, token = (stride * kept.keys.element_size() for stride in kept.keys.stride()[:3])
            pointers = (one.data_ptr() + first * token for one in (kept.keys, kept.values))
            at.append((*pointers, count, head // kept.keys.element_size()))
            apart.append((layer, layer, 0, 0))
    first_layer, next_layer = torch.tensor(at), torch.tensor(apart)
    most = max(row.count + (0 if row.prefix is None else len(row.prefix)) for row in rows)

    def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
        count, heads, size = queries.shape
        narrow = pool.keys.shape[1]
        here = torch.add(first_layer, next_layer, alpha=number)
        done = queries.new_empty(count, heads * size)
        library.attend(
            ctypes.c_void_p(queries.data_ptr()),
            ctypes.c_int64(queries.stride(0)),
            ctypes.c_void_p(here.data_ptr()),
            *map(ctypes.c_int64, (count, narrow, heads // narrow, size, most)),
            ctypes.c_void_p(done.data_ptr()),
        )
        return done

    return attention


def by_torch(pool: CpuCache, rows: Sequence[Reading]) -> Attention:
    """As `attention_of`, by torch's kernel.

    The query heads that share a key head stand as the rows of one small product. Both parts of a row are weighed by the
    sums of their exponentials (Milakov & Gimelshein 2018, online softmax; Ye et al. 2024, FlashInfer, cascades).
    """
    members: dict[int, tuple[Prefix, list[int]]] = {}
    for number, row in enumerate(rows):
        if row.prefix is not None:
            members.setdefault(id(row.prefix), (row.prefix, []))[1].append(number)
    shared = [(prefix, torch.tensor(numbers)) for prefix, numbers in members.values()]

    def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
        heads, size = queries.shape[1:]
        keys, values = pool.keys[number][None], pool.values[number][None]
        narrow = keys.shape[1]
        grouped = queries.reshape(len(rows), narrow, heads // narrow, size)
        parts = [
            _attended(grouped[n : n + 1], keys.narrow(2, row.first, row.count), values.narrow(2, row.first, row.count))
            for n, row in enumerate(rows)
        ]
        done = torch.cat([part for part, _ in parts])
        for prefix, some in shared:
            sums = torch.cat([parts[n][1] for n in some.tolist()])
            asked = grouped[some].transpose(0, 1).reshape(1, narrow, -1, size)
            seen, logarithms = _attended(asked, prefix.keys[number][None], prefix.values[number][None])
            seen = seen.view(narrow, len(some), -1, size).transpose(0, 1)
            logarithms = logarithms.view(narrow, len(some), -1).transpose(0, 1)
            share = torch.sigmoid(logarithms - sums)[..., None].to(done.dtype)
            done[some] = torch.lerp(done[some], seen, share)
        return done.reshape(len(rows), heads * size)

    return attention


def _attended(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is attended, and the logarithms of the sums of exponentials; all of (1, heads, tokens, size)."""
    done, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(queries, keys, values)
    return done, sums
