"""The functions of `torch_ops.py` for CUDA where Triton is missing or does not know the GPU: kernels of `cuda_ops.cu`.

None of them allocates by the lengths of rows or waits for the GPU, so a step of them can be captured in a CUDA graph.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from harness.generate.llama.kernels import attention_splits
from harness.generate.llama.nf4_ops import nf4_linear as nf4_linear
from harness.generate.llama.nvrtc import Grid, Module
from harness.generate.llama.prompt_batch import TILE, PromptBatch
from harness.generate.llama.torch_ops import add_low_rank as add_low_rank

_MEMBERS = 4
"""So many query heads of a key head attend together, at most."""
_QUERIES = 16
"""So many tokens of a prompt attend in one block, as in the source."""
_THREADS = 128
_TYPES = {torch.bfloat16: ("16", "bf16"), torch.float16: ("16", "f16"), torch.float32: ("32", "f32")}


def add_norm(residual: torch.Tensor, delta: torch.Tensor | None, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """As `torch_ops.add_norm`."""
    tokens, width = residual.shape
    out = torch.empty_like(residual)
    stride = 0 if delta is None else delta.stride(0)
    _module(residual).launch(
        "add_norm", Grid((tokens, 1, 1), 512), (residual, delta, weight, out, width, stride, epsilon)
    )
    return out


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
    _module(projected, size, heads // narrow).launch(
        "turn_and_store",
        Grid((tokens, heads + 2 * narrow, 1), size // 2),
        (projected, keys, values, queries, *angles, positions, places, projected.stride(0), pool, heads),
    )
    return queries


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, starts: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """As `torch_ops.attend`; few rows are split over several blocks each (Dao et al. 2023, Flash-Decoding)."""
    rows, heads, size = queries.shape
    narrow, pool, _ = keys.shape
    group = heads // narrow
    splits = attention_splits(rows, narrow)
    out = torch.empty_like(queries)
    parts = queries.new_empty((rows * heads, splits, size + 2), dtype=torch.float32) if splits > 1 else None
    module = _module(queries, size, group)
    module.launch(
        "attend",
        Grid((rows, narrow * -(-group // min(group, _MEMBERS)), splits), _THREADS),
        (queries, keys, values, starts, positions, out, parts, heads, pool, splits, size**-0.5),
    )
    if parts is not None:
        module.launch("join", Grid((rows * heads, 1, 1), size), (parts, out, splits))
    return out.view(rows, heads * size)


def attend_prompts(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, prompts: PromptBatch
) -> torch.Tensor:
    """As `torch_ops.attend_prompts`."""
    tokens, heads, size = queries.shape
    narrow, pool, _ = keys.shape
    out = torch.empty_like(queries)
    _module(queries, size, heads // narrow).launch(
        "attend_prompts",
        Grid((len(prompts.tiles), heads, TILE // _QUERIES), _THREADS),
        (queries, keys, values, prompts.tiles, out, heads, pool, size**-0.5),
    )
    return out.view(tokens, heads * size)


def gate(projected: torch.Tensor, inner: int) -> torch.Tensor:
    """As `torch_ops.gate`."""
    tokens = projected.shape[0]
    out = projected.new_empty((tokens, inner))
    _module(projected).launch(
        "gate", Grid((tokens, -(-inner // 256), 1), 256), (projected, out, projected.stride(0), inner)
    )
    return out


def choose(logits: torch.Tensor, temperature: float, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """As `torch_ops.choose`."""
    rows, vocabulary = logits.shape
    out = torch.empty(rows, dtype=torch.long, device=logits.device)
    _module(logits).launch(
        "choose",
        Grid((rows, 1, 1), 1024),
        (logits, seeds, positions, out, logits.stride(0), vocabulary, float(temperature)),
    )
    return out


def _module(given: torch.Tensor, size: int = 64, group: int = 1) -> Module:
    return _compiled(given.dtype, size, group, given.device.index)


@functools.cache
def _compiled(dtype: torch.dtype, size: int, group: int, device: int) -> Module:
    source = Path(__file__).with_name("cuda_ops.cu").read_text(encoding="utf-8")
    bits, name = _TYPES[dtype]
    options = f"-DBITS={bits}", f'-DTYPE="{name}"', f"-DSIZE={size}", f"-DGROUP={group}"
    return Module(source, (*options, f"-DMEMBERS={min(group, _MEMBERS)}"), device)
