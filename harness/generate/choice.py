"""Which decoder answers for a model on this machine, and in how many rows: memory arithmetic first, then the model."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.generate.decode import Decoder
from harness.generate.settings import GenerationSettings
from harness.generate.stopping import StopRule
from harness.profile.schema import Quantization, Shape
from harness.train.plan import GIB, NF4_BYTES, USABLE, WORKSPACE, checkpoint_bytes, linear_weights

if TYPE_CHECKING:
    from harness.generate.stream import StreamDecoder
    from harness.model.load import LoadedModel

PROMPT_ROOM = 256
"""Tokens of a prompt that are reckoned with before the prompts are known."""
FEWEST_ROWS = 8
"""With fewer rows at once, unpacked weights cost more in rows than they gain in speed."""


@dataclass(frozen=True, slots=True)
class DecodingPlan:
    """How a model will be decoded on a GPU."""

    unpacked: bool
    """Weights stand in the compute dtype, in few large matrices, and steps are captured graphs."""
    rows: int
    """How many rows are decoded at once."""
    memory: int
    """Bytes that weights, keys and values take."""

    def __str__(self) -> str:
        how = "weights unpacked once to 16 bit" if self.unpacked else "weights as they are loaded"
        return f"{how}, {self.rows} rows at once, {self.memory / GIB:.1f} GiB"

    def record(self) -> dict[str, Any]:
        """Return what the manifest says."""
        return {"weights": "unpacked" if self.unpacked else "as-loaded", "rows": self.rows}


def token_bytes(shape: Shape) -> int:
    """Return what the keys and values of one token take in 16 bit."""
    size = shape.hidden_size // shape.num_attention_heads
    return 2 * 2 * shape.num_hidden_layers * shape.num_key_value_heads * size


def plan_decoding(
    shape: Shape, quantization: Quantization, memory: int, batch_size: int, max_new_tokens: int
) -> DecodingPlan:
    """Return how a model is decoded on a card of `memory` bytes.

    The weights stay as they are loaded, for adapters to be put on; unpacked ones come on top.
    """
    linear = linear_weights(shape)
    loaded = checkpoint_bytes(shape) - (0 if quantization == "none" else int((2 - NF4_BYTES) * linear))
    row = token_bytes(shape) * (PROMPT_ROOM + max_new_tokens)
    room = USABLE * memory - loaded - WORKSPACE
    rows = min(batch_size, int((room - 2 * linear) // row))
    if rows >= min(batch_size, FEWEST_ROWS):
        return DecodingPlan(True, rows, loaded + 2 * linear + rows * row)
    rows = max(1, min(batch_size, int(room // row)))
    return DecodingPlan(False, rows, loaded + rows * row)


def plan_here(folder: Path, quantization: Quantization, settings: GenerationSettings) -> DecodingPlan | None:
    """Return the plan for a weights folder on this machine's GPU; None where its config tells no sizes."""
    import torch

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = Shape(**{name: config[name] for name in Shape.model_fields if name in config})
    except (OSError, ValueError):
        return None
    memory = torch.cuda.get_device_properties(0).total_memory
    return plan_decoding(shape, quantization, memory, settings.batch_size, settings.max_new_tokens)


def choose_decoder(
    loaded: LoadedModel, model: Any, stop: StopRule, batch_size: int, temperature: float, plan: DecodingPlan | None
) -> Decoder | StreamDecoder:
    """Return the fastest decoder for a model as it is now, with its adapter on or off.

    Args:
        loaded: Keeps unpacked weights for the next call.
        model: Its model.
        stop: When a completion ends.
        batch_size: How many rows at once.
        temperature: 0 is greedy.
        plan: None decodes step by step with the weights as they are.
    """
    rows = batch_size if plan is None else min(batch_size, plan.rows)
    if plan is None or not plan.unpacked or importlib.util.find_spec("triton") is None:
        return Decoder(model, stop, rows, temperature)
    from harness.generate.fused import FusedLlama, why_not_fused
    from harness.generate.stream import StreamDecoder

    if why_not_fused(model) is not None:
        return Decoder(model, stop, rows, temperature)
    from harness.generate import kernels

    if loaded.fused is None:
        loaded.fused = FusedLlama(model, kernels)
    loaded.fused.adapt(model)
    return StreamDecoder(loaded.fused, stop, rows, temperature)
