"""The functions of `torch_ops.py` for CUDA: Triton kernels, one launch each, reading no more than a row's own tokens.

None of them allocates by the lengths of rows or waits for the GPU, so a step of them can be captured in a CUDA graph.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from harness.generate.llama.kernels import attention_splits
from harness.generate.llama.nf4_ops import nf4_linear as nf4_linear
from harness.generate.llama.prompt_batch import TILE, PromptBatch
from harness.generate.llama.triton_lora import add_low_rank as add_low_rank

_DOT_ROWS = 16
"""Matrix units take no fewer rows: the query heads that share a key head, and padding."""
_KEYS_AT_ONCE = 64
"""Of 16 to 128 the fastest on an H100, by few percent."""


@triton.jit
def _add_norm(residual, delta, weight, out, delta_stride, epsilon, width: tl.constexpr, ADDS: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    summed = tl.load(residual + row * width + columns, mask=inside, other=0.0)
    if ADDS:
        summed += tl.load(delta + row * delta_stride + columns, mask=inside, other=0.0)
        tl.store(residual + row * width + columns, summed, mask=inside)
    wide = summed.to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / width + epsilon)
    scaled = normed.to(summed.dtype) * tl.load(weight + columns, mask=inside, other=0.0)
    tl.store(out + row * width + columns, scaled, mask=inside)


def add_norm(residual: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """As `torch_ops.add_norm`."""
    tokens, width = residual.shape
    out = torch.empty_like(residual)
    block = triton.next_power_of_2(width)
    stride = 0 if delta is None else delta.stride(0)
    _add_norm[(tokens,)](
        residual,
        delta,
        weight,
        out,
        stride,
        epsilon,
        width,
        delta is not None,
        block,
        num_warps=8 if block > 1024 else 4,
    )
    return out


@triton.jit
def _turn_and_store(projected, keys, values, queries, cosines, sines, positions, places, stride, pool,
                    HEADS: tl.constexpr, NARROW: tl.constexpr, SIZE: tl.constexpr):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    half = tl.arange(0, SIZE // 2)
    place = tl.load(places + token)
    source = projected + token * stride + head * SIZE
    first, second = tl.load(source + half), tl.load(source + SIZE // 2 + half)
    if head < HEADS + NARROW:
        position = tl.load(positions + token)
        cosine = tl.load(cosines + position * (SIZE // 2) + half).to(tl.float32)
        sine = tl.load(sines + position * (SIZE // 2) + half).to(tl.float32)
        left, right = first.to(tl.float32), second.to(tl.float32)
        first = (left * cosine - right * sine).to(first.dtype)
        second = (right * cosine + left * sine).to(first.dtype)
    if head < HEADS:
        target = queries + (token * HEADS + head) * SIZE
    elif head < HEADS + NARROW:
        target = keys + ((head - HEADS).to(tl.int64) * pool + place) * SIZE
    else:
        target = values + ((head - HEADS - NARROW).to(tl.int64) * pool + place) * SIZE
    tl.store(target + half, first)
    tl.store(target + SIZE // 2 + half, second)


def turn_and_store(
    projected: torch.Tensor,
    stored: tuple[torch.Tensor, torch.Tensor],
    angles: tuple[torch.Tensor, torch.Tensor],
    positions: torch.Tensor,
    places: torch.Tensor,
    heads: int,
) -> torch.Tensor:
    """As `torch_ops.turn_and_store`."""
    keys, values = stored
    narrow, pool, size = keys.shape
    tokens = projected.shape[0]
    queries = projected.new_empty((tokens, heads, size))
    _turn_and_store[(tokens, heads + 2 * narrow)](
        projected, keys, values, queries, *angles, positions, places, projected.stride(0), pool,
        heads, narrow, size, num_warps=1,
    )  # fmt: skip
    return queries


@triton.jit
def _attend(queries, keys, values, starts, positions, out, parts, weights, pool, scale,
            SPLITS: tl.constexpr, NARROW: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
            MEMBERS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    member, column = tl.arange(0, MEMBERS), tl.arange(0, SIZE)
    there = member < GROUP
    count = tl.load(positions + row) + 1
    share = tl.cdiv(tl.cdiv(count, SPLITS), BLOCK) * BLOCK
    begin = split * share
    end = tl.minimum(begin + share, count)
    target = (row * NARROW + head) * GROUP + member
    query = tl.load(queries + target[:, None] * SIZE + column[None], mask=there[:, None], other=0.0)
    base = (head * pool + tl.load(starts + row)) * SIZE
    highest = tl.full((MEMBERS,), -1.0e30, tl.float32)
    total = tl.zeros((MEMBERS,), tl.float32)
    summed = tl.zeros((MEMBERS, SIZE), tl.float32)
    for first in range(begin, end, BLOCK):
        place = first + tl.arange(0, BLOCK)
        seen = place < end
        offset = base + place[:, None] * SIZE + column[None]
        key = tl.load(keys + offset, mask=seen[:, None], other=0.0)
        value = tl.load(values + offset, mask=seen[:, None], other=0.0)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(seen[None], score, -1.0e30)
        higher = tl.maximum(highest, tl.max(score, 1))
        portion = tl.where(seen[None], tl.exp(score - higher[:, None]), 0.0)
        before = tl.exp(highest - higher)
        total = total * before + tl.sum(portion, 1)
        added = tl.dot(portion.to(value.dtype), value, input_precision="ieee")
        summed = summed * before[:, None] + added
        highest = higher
    if SPLITS == 1:
        done = (summed / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + target[:, None] * SIZE + column[None], done, mask=there[:, None])
    else:
        part = target * SPLITS + split
        tl.store(parts + part[:, None] * SIZE + column[None], summed, mask=there[:, None])
        tl.store(weights + part * 2, highest, mask=there)
        tl.store(weights + part * 2 + 1, total, mask=there)


@triton.jit
def _join(parts, weights, out, SPLITS: tl.constexpr, SIZE: tl.constexpr):
    head = tl.program_id(0).to(tl.int64)
    split, column = tl.arange(0, SPLITS), tl.arange(0, SIZE)
    highest = tl.load(weights + (head * SPLITS + split) * 2)
    factor = tl.exp(highest - tl.max(highest, 0))
    total = tl.sum(factor * tl.load(weights + (head * SPLITS + split) * 2 + 1), 0)
    summed = tl.load(parts + (head * SPLITS + split[:, None]) * SIZE + column[None])
    done = tl.sum(summed * factor[:, None], 0) / total
    tl.store(out + head * SIZE + column, done.to(out.dtype.element_ty))


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, starts: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """As `torch_ops.attend`; few rows are split over several programs each (Dao et al. 2023, Flash-Decoding)."""
    rows, heads, size = queries.shape
    narrow, pool, _ = keys.shape
    group = heads // narrow
    members = max(_DOT_ROWS, triton.next_power_of_2(group))
    splits = attention_splits(rows, narrow)
    out = torch.empty_like(queries)
    parts = weights = None
    if splits > 1:
        parts = torch.empty((rows * heads, splits, size), dtype=torch.float32, device=queries.device)
        weights = torch.empty((rows * heads, splits, 2), dtype=torch.float32, device=queries.device)
    _attend[(rows, narrow, splits)](
        queries, keys, values, starts, positions, out, parts, weights, pool, size**-0.5,
        splits, narrow, group, size, members, _KEYS_AT_ONCE, num_warps=4, num_stages=2,
    )  # fmt: skip
    if parts is not None:
        _join[(rows * heads,)](parts, weights, out, splits, size, num_warps=1)
    return out.view(rows, heads * size)


@triton.jit
def _attend_prompts(queries, keys, values, tiles, out, pool, scale,
                    HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr,
                    QUERIES: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    tile = tiles + tl.program_id(0) * 4
    head = tl.program_id(1).to(tl.int64)
    first, many, start, position = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2), tl.load(tile + 3)
    member, column = tl.arange(0, QUERIES), tl.arange(0, SIZE)
    there = member < many
    target = ((first + member) * HEADS + head)[:, None] * SIZE + column[None]
    query = tl.load(queries + target, mask=there[:, None], other=0.0)
    base = (head // GROUP * pool + start) * SIZE
    end = position + many
    highest = tl.full((QUERIES,), -1.0e30, tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    summed = tl.zeros((QUERIES, SIZE), tl.float32)
    for begin in range(0, end, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        stored = place < end
        offset = base + place[:, None] * SIZE + column[None]
        key = tl.load(keys + offset, mask=stored[:, None], other=0.0)
        value = tl.load(values + offset, mask=stored[:, None], other=0.0)
        seen = stored[None] & (place[None] <= position + member[:, None])
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(seen, score, -1.0e30)
        higher = tl.maximum(highest, tl.max(score, 1))
        portion = tl.where(seen, tl.exp(score - higher[:, None]), 0.0)
        before = tl.exp(highest - higher)
        total = total * before + tl.sum(portion, 1)
        added = tl.dot(portion.to(value.dtype), value, input_precision="ieee")
        summed = summed * before[:, None] + added
        highest = higher
    done = (summed / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + target, done, mask=there[:, None])


def attend_prompts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, prompts: PromptBatch
) -> torch.Tensor:
    """As `torch_ops.attend_prompts` (Dao 2023, FlashAttention-2, algorithm 1); tiles of all prompts at once."""
    tokens, heads, size = queries.shape
    narrow, pool, _ = keys.shape
    out = torch.empty_like(queries)
    keys_at_once = _KEYS_AT_ONCE if queries.element_size() == 2 else _KEYS_AT_ONCE // 4
    _attend_prompts[(len(prompts.tiles), heads)](
        queries, keys, values, prompts.tiles, out, pool, size**-0.5,
        heads, heads // narrow, size, TILE, keys_at_once, num_warps=4, num_stages=2,
    )  # fmt: skip
    return out.view(tokens, heads * size)


@triton.jit
def _gate(projected, out, stride, inner, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < inner
    gates = tl.load(projected + token * stride + column, mask=inside, other=0.0)
    ups = tl.load(projected + token * stride + inner + column, mask=inside, other=0.0).to(tl.float32)
    wide = gates.to(tl.float32)
    gated = wide / (1.0 + tl.exp(-wide)) * ups
    tl.store(out + token * inner + column, gated.to(gates.dtype), mask=inside)


def gate(projected: torch.Tensor, inner: int) -> torch.Tensor:
    """As `torch_ops.gate`."""
    tokens = projected.shape[0]
    out = projected.new_empty((tokens, inner))
    _gate[(tokens, triton.cdiv(inner, 1024))](projected, out, projected.stride(0), inner, 1024, num_warps=4)
    return out


@triton.jit
def _mixed(states):
    states = (states ^ (states >> 30)) * 0xBF58476D1CE4E5B9
    states = (states ^ (states >> 27)) * 0x94D049BB133111EB
    return states ^ (states >> 31)


@triton.jit
def _choose(logits, seeds, positions, out, stride, vocabulary, TEMPERATURE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    best, token = tl.full((), -float("inf"), tl.float64), 0
    place = (tl.load(positions + row) + 1).to(tl.uint64)
    start = _mixed(tl.load(seeds + row).to(tl.uint64) + place * 0x9E3779B97F4A7C15)
    for first in range(0, vocabulary, BLOCK):
        column = first + tl.arange(0, BLOCK)
        inside = column < vocabulary
        score = tl.load(logits + row * stride + column, mask=inside, other=-float("inf")).to(tl.float64)
        if TEMPERATURE > 0:
            bits = _mixed(start + (column + 1).to(tl.uint64) * 0x9E3779B97F4A7C15) >> 12
            uniform = (bits.to(tl.int64).to(tl.float64) + 0.5) * 2.220446049250313e-16
            score = score / TEMPERATURE - tl.log(-tl.log(uniform))
            score = tl.where(inside, score, -float("inf"))
        high = tl.max(score, 0)
        where = tl.min(tl.where(score == high, column, vocabulary), 0)
        token = tl.where(high > best, where, token)
        best = tl.maximum(best, high)
    tl.store(out + row, token.to(tl.int64))


def choose(logits: torch.Tensor, temperature: float, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """As `torch_ops.choose`."""
    rows, vocabulary = logits.shape
    out = torch.empty(rows, dtype=torch.long, device=logits.device)
    _choose[(rows,)](logits, seeds, positions, out, logits.stride(0), vocabulary, float(temperature), 4096, num_warps=8)
    return out
