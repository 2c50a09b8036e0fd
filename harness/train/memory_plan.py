"""Arithmetic of a training's memory and speed on a GPU, made before anything is downloaded.

Shares that no formula gives were measured with benchmarks/train_7b.py on an H100 and are marked so. Memory is within
15 % of every configuration measured there; speed on other cards follows their data sheets and is a lead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from harness import processes
from harness.errors import HarnessError, UsageError
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
from harness.model.load import Precision
from harness.model.profile_schema import ProfileFile, Shape, Training
from harness.train.batch_layout import BatchPlan, written_layout
from harness.train.settings import max_length
from harness.types import Quantization

EFFICIENCY = 0.45
"""Share of the data sheet's dense rate that 4 N · tokens/s reaches with layers kept and a dequantized base. Measured:
0.49 with Liger's kernels."""
RECOMPUTED_4BIT_SECONDS = 0.42
"""What a micro-batch takes on top for unpacking weights and for launches with recomputing, on an H100. Measured."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak GPU memory in bytes, by what takes it."""

    weights: int
    adapter: int
    """Its weights and gradients in float32."""
    optimiser: int
    activations: int
    workspace: int = WORKSPACE

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.adapter + self.optimiser + self.activations + self.workspace


def adapter_weights(shape: Shape, lora: Mapping[str, JsonValue]) -> int:
    """Return the number of weights of a LoRA adapter: r · (inputs + outputs) for each adapted layer."""
    targets, rank = lora.get("target_modules", ["q_proj", "v_proj"]), int(str(lora.get("r", 8)))
    named = targets if isinstance(targets, list | str) else ()
    chosen = [
        size
        for name, size in linear_sizes(shape).items()
        if targets == "all-linear" or name.rpartition(".")[2] in named
    ]
    return shape.num_hidden_layers * rank * sum(inputs + outputs for inputs, outputs in chosen)


def _row_length(training: Training) -> int:
    length = max_length(training.sft)
    if length is None:
        raise UsageError(
            "without a limit on a row's tokens there is nothing to compute with", "set train.sft.max_length"
        )
    return length


def peak_memory(shape: Shape, training: Training, layout: BatchPlan, quantization: Quantization) -> Memory:
    """Return the peak memory of a training in 16 bit with rows of full length.

    Kept for each token and layer, in 16-bit numbers: 8 hidden (two norms with input and output, query, key, value,
    attention) and 4 inner (gate, up, their product and its part). Without the fused kernels norms and adapters keep
    16.5 bytes · hidden more (measured). Recomputing keeps each layer's input, and one layer whole while it is redone.
    """
    hidden, inner, layers = shape.hidden_size, shape.intermediate_size, shape.num_hidden_layers
    linear = linear_weights(shape)
    tables = checkpoint_bytes(shape) - 2 * linear
    weights = tables + (NF4_BYTES * linear if quantization == "nf4" else 2 * linear)
    if layout.plain_base and quantization == "nf4":
        weights += 2 * linear
    adapter = adapter_weights(shape, training.lora)
    moments = 2 if "8bit" in str(training.sft.get("optim", "")) else 8
    tokens = layout.micro_batch * _row_length(training)
    layer = 2 * (8 * hidden + 4 * inner) + (16.5 * hidden if training.batch_plan == "as-written" else 0)
    kept = 2 * hidden * layers + layer + 4 * inner if layout.checkpointing else layers * layer
    mask = 4 * tokens**2 if training.batch_plan == "as-written" else 0  # over packed rows, and its copy in 16 bit
    return Memory(int(weights), 8 * adapter, moments * adapter, int(tokens * kept) + mask)


def tokens_per_second(
    shape: Shape, training: Training, layout: BatchPlan, quantization: Quantization, card: Card
) -> float:
    """Return the expected speed in real tokens a second, of packed rows.

    4 N FLOP a token for a frozen base, 6 N with recomputing, at the measured share of the card's rate; and for 4-bit
    weights that are not held dequantized, the time to unpack them, scaled from an H100 by memory bandwidth.
    """
    passes = 3 if layout.checkpointing else 2
    tokens = layout.micro_batch * _row_length(training)
    work = float(2 * passes * matrix_weights(shape) * tokens)
    if training.batch_plan == "as-written":
        # every pair of a micro-batch, hidden by the mask or not: forward once or twice, backward 2.5 times
        pairs = shape.num_hidden_layers * tokens**2 * shape.hidden_size
        work += 4 * pairs * (4.5 if layout.checkpointing else 3.5)
    seconds = work / (EFFICIENCY * card.flops)
    if quantization == "nf4" and not layout.plain_base:
        share = linear_weights(shape) / 6.476e9
        seconds += RECOMPUTED_4BIT_SECONDS * passes / 3 * share * H100_BANDWIDTH / card.bandwidth
    return tokens / seconds


def layouts(written: BatchPlan, quantization: Quantization) -> list[BatchPlan]:
    """Return every way of doing the same step: smaller micro-batches, layers kept, the base dequantized, or not."""
    batches = [micro for micro in range(1, written.effective_batch + 1) if written.effective_batch % micro == 0]
    plain = (False, True) if quantization == "nf4" else (False,)
    return [
        BatchPlan(micro, written.effective_batch // micro, checkpointing, base)
        for micro in batches
        if micro <= written.micro_batch
        for checkpointing in (False, True)
        for base in plain
    ]


def best_layout(
    shape: Shape, training: Training, quantization: Quantization, card: Card, processes: int = 1
) -> BatchPlan | None:
    """Return the fastest layout that fits in the card's memory (of equals, the larger micro-batch), or None.

    Raises:
        UsageError: so many processes, each with such a card, cannot share a step's rows evenly.
    """
    fitting = [
        layout
        for layout in layouts(written_layout(training.sft).shared(processes), quantization)
        if peak_memory(shape, training, layout, quantization).total <= USABLE * card.memory
    ]

    def worth(layout: BatchPlan) -> tuple[int, int]:
        return round(tokens_per_second(shape, training, layout, quantization, card)), layout.micro_batch

    return max(fitting, key=worth, default=None)


def nearest_fitting(shape: Shape, training: Training, quantization: Quantization, card: Card) -> str:
    """Return in words the setting nearest to the written one that fits: a layout, then 4 bit, then shorter rows."""
    layout = best_layout(shape, training, quantization, card)
    if layout is not None:
        return f"use train.batch_plan: auto, or in train.sft {layout.sft()}"
    if quantization != "nf4" and best_layout(shape, training, "nf4", card):
        return "use --quantization nf4"
    quantised = "" if quantization == "nf4" else "--quantization nf4 and "
    length = _row_length(training)
    while length > 128:
        length //= 2
        shorter = training.model_copy(update={"sft": {**training.sft, "max_length": length}})
        if best_layout(shape, shorter, "nf4", card):
            return f"use {quantised}train.sft.max_length: {length}"
    return "use a smaller model or a larger GPU"


def fitting_layout(file: ProfileFile, training: Training, precision: Precision) -> BatchPlan:
    """Return the layout to train in: the written one, or with `batch_plan: auto` on a GPU the fastest that fits.

    Where several processes train together, the part of each.

    Raises:
        UsageError: the processes cannot share a step's rows evenly.
        HarnessError: nothing fits; the hint says what would.
    """
    written = written_layout(training.sft).shared(processes.count())
    card = this_card() if precision.device == "cuda" else None
    if training.batch_plan == "as-written" or card is None or file.shape is None:
        return written
    layout = best_layout(file.shape, training, precision.quantization, card, processes.count())
    if layout is None:
        hint = nearest_fitting(file.shape, training, precision.quantization, card)
        raise HarnessError(f"this training does not fit into the {card.memory / GIB:.1f} GiB of {card.name}", hint)
    return layout
