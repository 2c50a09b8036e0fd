"""What a Llama does between its matrix products, in plain torch: on any device, and what the GPU's kernels must equal.

Sums are made in float32 and rounded once to the dtype of the result. `triton_ops.py` and `cuda_ops.py` have the same
functions for CUDA.
"""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

from harness.generate.llama.nf4 import Nf4Matrix
from harness.generate.llama.prompt_batch import PromptBatch
from harness.generate.sampling import drawn


def add_norm(residual: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Add `delta` to `residual` in place and return its RMSNorm (Zhang & Sennrich 2019, equation 4).

    Args:
        residual: (tokens, hidden).
        delta: (tokens, hidden), rows may lie apart; None adds nothing.
        weight: (hidden,).
        epsilon: Added to the mean square.
    """
    if delta is not None:
        residual += delta
    wide = residual.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return normed.to(residual.dtype) * weight


def turn_and_store(
    projected: torch.Tensor,
    stored: tuple[torch.Tensor, torch.Tensor],
    angles: tuple[torch.Tensor, torch.Tensor],
    positions: torch.Tensor,
    places: torch.Tensor,
    heads: int,
) -> torch.Tensor:
    """Give queries and keys their rotary positions (Su et al. 2021), store keys and values, return the queries.

    Args:
        projected: (tokens, (heads + 2 · key heads) · head size and more): queries, keys, values side by side.
        stored: Keys and values, each (key heads, places, head size), written at `places`.
        angles: Cosines and sines, each (positions, head size / 2).
        positions: (tokens,) of each token in its row.
        places: (tokens,) where each token's key and value belong.
        heads: How many query heads there are.

    Returns:
        The queries, (tokens, heads, head size).
    """
    keys, values = stored
    cosines, sines = angles
    narrow, _, size = keys.shape
    tokens = projected.shape[0]
    parts = projected[:, : (heads + 2 * narrow) * size].reshape(tokens, heads + 2 * narrow, size)
    turned = parts[:, : heads + narrow].float()
    cosine, sine = cosines[positions].float()[:, None], sines[positions].float()[:, None]
    first, second = turned.chunk(2, dim=-1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(projected.dtype)
    keys[:, places] = turned[:, heads:].transpose(0, 1)
    values[:, places] = parts[:, heads + narrow :].transpose(0, 1)
    return turned[:, :heads].contiguous()


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, starts: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Attend from one new token of each row to all tokens of its row so far.

    Args:
        queries: (rows, heads, head size).
        keys: (key heads, places, head size).
        values: As keys.
        starts: (rows,) the place of each row's first token.
        positions: (rows,) of the new token, whose key and value are stored already.

    Returns:
        (rows, heads · head size).
    """
    rows, heads, size = queries.shape
    narrow = keys.shape[0]
    longest = int(positions.max()) + 1
    columns = torch.arange(longest, device=queries.device)
    seen = columns[None] <= positions[:, None]
    places = torch.where(seen, starts[:, None] + columns[None], starts[:, None])
    attended = functional.scaled_dot_product_attention(
        queries.view(rows, narrow, heads // narrow, size),
        keys[:, places].transpose(0, 1),
        values[:, places].transpose(0, 1),
        attn_mask=seen[:, None, None],
    )
    return attended.reshape(rows, heads * size)


def attend_prompts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, prompts: PromptBatch
) -> torch.Tensor:
    """Attend from each token of whole prompts to those of its prompt up to it.

    Args:
        queries: (tokens, heads, head size).
        keys: (key heads, places, head size), those of `prompts` stored already.
        values: As keys.
        prompts: Which token is where.

    Returns:
        (tokens, heads · head size).
    """
    (_, heads, size), narrow, longest = queries.shape, len(keys), max(prompts.lengths)
    rows = []
    for one, length, start, (_, shared) in zip(
        torch.split(queries, [*prompts.lengths]), prompts.lengths, prompts.first_places, prompts.prefixes, strict=True
    ):
        seen = shared + length
        mask = _behind_prefix(longest, shared, queries.device) if shared else None
        # the heads that share a key head stand side by side before one view of its keys
        shape = (narrow, heads // narrow, seen, size)
        attended = functional.scaled_dot_product_attention(
            one.view(length, narrow, -1, size).permute(1, 2, 0, 3),
            keys[:, None, start : start + seen].expand(shape),
            values[:, None, start : start + seen].expand(shape),
            attn_mask=None if mask is None else mask[:length, :seen],
            is_causal=mask is None,
        )
        rows.append(attended.permute(2, 0, 1, 3).reshape(length, heads * size))
    return torch.cat(rows)


@functools.lru_cache(maxsize=4)
def _behind_prefix(longest: int, shared: int, device: torch.device) -> torch.Tensor:
    """Return which places tokens see behind a shared prefix, (longest, shared + longest): one for all layers."""
    return torch.ones(longest, shared + longest, dtype=torch.bool, device=device).tril(shared)


def gate(projected: torch.Tensor, inner: int) -> torch.Tensor:
    """Return silu(first part) · second part, each (tokens, inner), of `projected` (Shazeer 2020, SwiGLU)."""
    gates, ups = projected[:, :inner].float(), projected[:, inner : 2 * inner].float()
    return (functional.silu(gates) * ups).to(projected.dtype)


def choose(logits: torch.Tensor, temperature: float, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return each row's next token: the likeliest, the first of equals; or one drawn as `sampling` says.

    Args:
        logits: (rows, vocabulary).
        temperature: 0 is greedy.
        seeds: (rows,) of int64.
        positions: (rows,) of the token that the logits stand behind.
    """
    if temperature:
        return drawn(logits, temperature, seeds, positions)
    return logits.float().argmax(dim=-1)


def add_low_rank(
    done: torch.Tensor,
    lowered: torch.Tensor,
    ups: torch.Tensor,
    mixed: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Add B (A x) · scaling in place and return the sum.

    Args:
        done: W x, (tokens, out); its rows may lie apart.
        lowered: A x, (tokens, ranks); its rows may lie apart.
        ups: B · scaling, (out, ranks); its rows may lie apart.
        mixed: Where tokens go through different adapters, the number of each token's, (tokens,), and of the one that
            each rank belongs to, (ranks,): of other adapters' ranks nothing is added.
    """
    if mixed is not None:
        numbers, owners = mixed
        lowered = lowered.masked_fill(numbers[:, None] != owners, 0)
    return done.addmm_(lowered, ups.t())


def nf4_linear(inputs: torch.Tensor, matrix: Nf4Matrix) -> torch.Tensor:
    """Return x W', (tokens, out), of weights in 4 bit: the values of a 4-bit layer of bitsandbytes.

    Args:
        inputs: (tokens, in).
        matrix: (out, in).
    """
    return functional.linear(inputs, matrix.unpacked())
