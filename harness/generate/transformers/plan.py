"""Which decoder answers for a model on this machine, and in how many rows: memory arithmetic first, then the model."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.generate.settings import GenerationSettings
from harness.generate.stopping import StopRule
from harness.generate.transformers.adapter_kinds import unwrapped
from harness.generate.transformers.continuous_batching import Decoder
from harness.generate.transformers.decoder_verdict import Kind, Verdict, kinds_here
from harness.model.context import read_config
from harness.model.gpu_memory import GIB, NF4_BYTES, USABLE, WORKSPACE, checkpoint_bytes, linear_weights
from harness.model.profile_schema import Shape
from harness.types import Quantization

if TYPE_CHECKING:
    from harness.generate.llama.decoder import StreamDecoder
    from harness.generate.transformers.decoder_check import Making, Observe
    from harness.generate.transformers.reference import ReferenceDecoder
    from harness.model.load import LoadedModel

PROMPT_ROOM = 256
"""Tokens of a prompt that are assumed before the prompts are known."""
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

    if not torch.cuda.is_available():  # the run's workers have GPUs, this machine has none
        return None
    config, memory = read_config(folder), torch.cuda.get_device_properties(0).total_memory
    try:
        shape = Shape(**{name: config[name] for name in Shape.model_fields if name in config})
        return plan_decoding(shape, quantization, memory, settings.batch_size, settings.max_new_tokens)
    except (TypeError, ValueError, ZeroDivisionError):  # sizes are missing, or are none
        return None


def rows_at_once(plan: DecodingPlan | None, batch_size: int) -> int:
    """Return how many rows of a batch are decoded side by side: as many as the plan has room for."""
    return batch_size if plan is None else min(batch_size, plan.rows)


class Unfit(Exception):
    """A model that a decoder does not know."""


def makings(loaded: LoadedModel, plan: DecodingPlan | None) -> dict[Kind, Making]:
    """Return the decoders that there are on this machine, the fastest first.

    Args:
        loaded: Keeps unpacked weights for the next call.
        plan: None decodes step by step with the weights as they are.
    """
    known: dict[Kind, Making] = {"fused": functools.partial(_fused, loaded), "slots": Decoder}
    return {kind: known[kind] for kind in kinds_here(plan)}


def make_decoder(
    verdict: Verdict, loaded: LoadedModel, model: Any, stop: StopRule, rows: int, temperature: float
) -> Decoder | StreamDecoder | ReferenceDecoder:
    """Return the decoder that was found to write what `generate` writes.

    Args:
        verdict: Which one, and of `generate` whether in padded batches.
        loaded: Keeps unpacked weights for the next call.
        model: Its model, its adapter on or off.
        stop: When a completion ends.
        rows: How many at once.
        temperature: 0 is greedy.
    """
    if verdict.kind == "fused":
        decoder: StreamDecoder = _fused(loaded, model, stop, rows, temperature)
        return decoder
    loaded.fused = None  # unpacked for nothing
    if verdict.kind == "slots":
        return Decoder(model, stop, rows, temperature)
    from harness.generate.transformers.reference import ReferenceDecoder

    return ReferenceDecoder(model, stop, rows if verdict.padded else 1, temperature)


def _fused(
    loaded: LoadedModel,
    model: Any,
    stop: StopRule,
    rows: int,
    temperature: float = 0.0,
    observe: Observe | None = None,
) -> StreamDecoder:
    """Decode with few large products: those of `loaded` are kept, those of a twin of it are not.

    Raises:
        Unfit: the model is no Llama, or its adapter is more than LoRA.
    """
    from harness.generate.llama import triton_ops
    from harness.generate.llama.decoder import StreamDecoder
    from harness.generate.llama.model import FusedLlama, why_not_fused

    why = why_not_fused(model)
    if why is not None:
        raise Unfit(why)
    if unwrapped(model) is not unwrapped(loaded.model):
        fused = FusedLlama(model, triton_ops)
    else:
        if not isinstance(loaded.fused, FusedLlama):
            loaded.fused = FusedLlama(model, triton_ops)
        fused = loaded.fused
    fused.adapt(model)
    return StreamDecoder(fused, stop, rows, temperature, observe)
