"""Which decoders there is room for on a machine, and in how many rows: memory arithmetic from a model's sizes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.errors import UsageError
from harness.generate.llama.decoder import PROMPT_ROOM
from harness.generate.llama.loaded_layers import GROUPS
from harness.generate.llama.nf4 import BLOCK
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoder_verdict import FUSED, Kind
from harness.model.gpu_memory import (
    GIB,
    H100_BANDWIDTH,
    NF4_BYTES,
    USABLE,
    WORKSPACE,
    Card,
    checkpoint_bytes,
    linear_sizes,
    linear_weights,
    matrix_weights,
    this_card,
)
from harness.model.profile_schema import Shape
from harness.runs.schema import JsonObject
from harness.storage.json_file import read_object
from harness.types import Quantization

if TYPE_CHECKING:
    from harness.model.load import Precision

FEWEST_ROWS = 8
"""With fewer rows at once, unpacked weights cost more in rows than they gain in speed."""
PACKED_ROWS = 32
"""Up to so many rows a step from 4 bits is the faster one on an H100, where both were measured; elsewhere unpacked
weights decode where they fit."""
SATURATED_ROWS = 48
"""From so many rows on, a step on unpacked weights writes more tokens a second than one from 4 bits in any number of
rows, measured on the same card."""
USABLE_ON_CPU = 0.8
"""The share of a machine's memory that decoding may plan with: the rest is the browsers' and the system's."""
_SCALES = 4 / BLOCK
"""Bytes for each weight in 4 bit: its block's scale as float32."""


@dataclass(frozen=True, slots=True)
class DecodingPlan:
    """How a model will be decoded."""

    fused: tuple[Kind, ...]
    """The decoders by few large products that there is room for, the fastest first."""
    rows: int
    """How many rows are decoded at once."""
    memory: int
    """Bytes that weights, keys and values take."""
    device: str = "cuda"

    def __str__(self) -> str:
        return f"weights {_WEIGHTS[self._first][1]}, {self.rows} rows at once, {self.memory / GIB:.1f} GiB"

    def record(self) -> JsonObject:
        """Return what the manifest says."""
        on_cpu = self.device == "cpu" and bool(self.fused)
        return {"weights": "packed once" if on_cpu else _WEIGHTS[self._first][0], "rows": self.rows}

    @property
    def _first(self) -> Kind:
        return self.fused[0] if self.fused else "slots"


_WEIGHTS: dict[Kind, tuple[str, str]] = {
    "fused": ("unpacked", "unpacked once to 16 bit"),
    "fused-nf4": ("packed", "in 4 bit, unpacked within each product"),
    "slots": ("as-loaded", "as they are loaded"),
}


def token_bytes(shape: Shape) -> int:
    """Return what the keys and values of one token take in 16 bit."""
    size = shape.hidden_size // shape.num_attention_heads
    return 2 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * size


def plan_decoding(
    shape: Shape, quantization: Quantization, card: Card, batch_size: int, max_new_tokens: int
) -> DecodingPlan:
    """Return how a model is decoded on a card: in as many rows as there is room for, unless fewer are the faster.

    The weights stay as they are loaded, for adapters to be put on; unpacked ones come on top, and beside packed ones
    their scales in float32 and room for one unpacked matrix.
    """
    linear = linear_weights(shape)
    loaded = checkpoint_bytes(shape) - (0 if quantization == "none" else int((2 - NF4_BYTES) * linear))
    row = token_bytes(shape) * (PROMPT_ROOM + max_new_tokens)
    room = USABLE * card.memory - loaded - WORKSPACE

    def rows(more: int) -> int:
        return min(batch_size, int((room - more) // row))

    beside: dict[Kind, int] = {}
    if rows(2 * linear) >= min(batch_size, FEWEST_ROWS):
        beside["fused"] = 2 * linear
    if quantization == "nf4" and not any(size % BLOCK for size, _ in linear_sizes(shape).values()):
        beside["fused-nf4"] = int(_SCALES * linear) + 2 * _largest_matrix(shape)
    fits = {kind: rows(more) for kind, more in beside.items() if rows(more) > 0}
    most = max(fits.values(), default=0)
    fused = [kind for kind, count in fits.items() if count == most or (kind == "fused" and count >= SATURATED_ROWS)]
    if card.bandwidth >= H100_BANDWIDTH and most <= PACKED_ROWS:
        fused.sort(key=FUSED.index)
    more = beside[fused[0]] if fused else 0
    count = max(1, rows(more))
    return DecodingPlan(tuple(fused), count, loaded + more + count * row)


def _largest_matrix(shape: Shape) -> int:
    """Return the weights of the largest matrix that is put together of a block's layers."""
    sizes = linear_sizes(shape)
    return max(
        sum(inputs * outputs for name, (inputs, outputs) in sizes.items() if name.rpartition(".")[2] in members)
        for members in GROUPS.values()
    )


def plan_on_cpu(shape: Shape, precision: Precision, memory: int, batch_size: int, max_new_tokens: int) -> DecodingPlan:
    """Return how a model is decoded on a CPU: on weights that are packed once, where there is room for the second copy.

    Args:
        shape: The model's sizes.
        precision: How its weights are loaded.
        memory: Bytes that this process may take.
        batch_size: How many rows are wanted.
        max_new_tokens: The longest answer.
    """
    size = precision.torch_dtype.itemsize
    linear, loaded = linear_weights(shape), checkpoint_bytes(shape) // 2 * size
    if precision.quantization == "nf4":
        loaded -= int((size - NF4_BYTES) * linear)
    packed = matrix_weights(shape) * size
    rows = batch_size * token_bytes(shape) // 2 * size * (PROMPT_ROOM + max_new_tokens)
    fits = loaded + packed + rows <= USABLE_ON_CPU * memory
    return DecodingPlan(("fused",) if fits else (), batch_size, loaded + rows + (packed if fits else 0), "cpu")


def plan_here(folder: Path, precision: Precision, settings: GenerationSettings) -> DecodingPlan | None:
    """Return the plan for a weights folder on this machine; None where its config tells no sizes."""
    on_cpu, card = precision.device == "cpu", this_card()
    if card is None and not on_cpu:  # the run's workers have GPUs, this machine has none
        return None
    try:
        config = read_object(folder / "config.json")
        shape = Shape(**{name: config[name] for name in Shape.model_fields if name in config})
        if on_cpu or card is None:
            return plan_on_cpu(shape, precision, usable_memory(), settings.batch_size, settings.max_new_tokens)
        return plan_decoding(shape, precision.quantization, card, settings.batch_size, settings.max_new_tokens)
    except (UsageError, TypeError, ValueError, ZeroDivisionError):  # sizes are missing, or are none
        return None


def usable_memory() -> int:
    """Return the bytes that this process may take at most: the machine's, or those of its control group (Linux)."""
    memory = psutil.virtual_memory().total
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            memory = min(memory, int(Path(path).read_text(encoding="ascii")))
    return memory


def rows_at_once(plan: DecodingPlan | None, batch_size: int) -> int:
    """Return how many rows of a batch are decoded side by side: as many as the plan has room for."""
    return batch_size if plan is None else min(batch_size, plan.rows)
