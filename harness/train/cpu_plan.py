"""How a training with `batch_plan: auto` is laid out on a CPU: rows without padding, products in what is fast there.

The rows that a step learns from stay. None of it depends on how busy the machine is or how much memory is free, so that
a training that goes on comes to the end that it would have come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import JsonValue

from harness import processes
from harness.model.load import LoadedModel
from harness.model.processor import has_bfloat16_products
from harness.model.profile_schema import Training
from harness.storage.json_file import read_object
from harness.train.batch_layout import BatchPlan

TOKENS = 2048
"""A micro-batch has so many tokens at most, or is one row. Products run at their full rate from a few hundred on; what
is left to gain is that weights are read less often, and layers kept take 1 MB a token in a model of 135 million."""

ATTEND_PLAINLY = ("llama",)
"""Models whose attention is causal and nothing else: no window, no cap on logits, no sinks. Others keep their own."""
_OWN_ORDER = ("packing", "padding_free", "pad_to_multiple_of", "dataset_kwargs")
"""Fields of SFTConfig that say themselves how rows are put together."""
_LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
_PLAIN_LORA = {"r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "use_rslora", "init_lora_weights"}


def planned_on_cpu(training: Training, loaded: LoadedModel) -> bool:
    """Return whether a training is laid out and computed as this module says."""
    precision = loaded.precision
    plain = precision.device == "cpu" and precision.quantization == "none" and precision.dtype == "float32"
    if not plain or training.batch_plan != "auto" or processes.sharded():
        return False
    return read_object(loaded.weights.folder / "config.json").get("model_type") in ATTEND_PLAINLY


def product_dtype(training: Training) -> str:
    """Return what a training that is planned on a CPU multiplies in; weights and sums stay in float32.

    It follows from the processor's flags, unless the model file sets `bf16`. Adapters whose layers cannot be part of
    the main products are multiplied in float32 throughout.
    """
    wanted = training.sft.get("bf16")
    fast = has_bfloat16_products() if wanted is None else bool(wanted)
    return "bfloat16" if fast and _in_all_products(training.lora) else "float32"


def _in_all_products(lora: Mapping[str, JsonValue]) -> bool:
    targets = lora.get("target_modules")
    everywhere = targets == "all-linear" or (isinstance(targets, list) and {str(name) for name in targets} >= _LINEAR)
    return everywhere and lora.keys() <= _PLAIN_LORA and not lora.get("lora_dropout")


def cpu_layout(written: BatchPlan, training: Training, lengths: Sequence[int]) -> BatchPlan:
    """Return the fastest layout of the same steps.

    Args:
        written: As the model file says, or the part of one of several processes.
        training: The model file's.
        lengths: Tokens of each row.
    """
    products, sft = product_dtype(training), training.sft
    by_length = str(sft.get("train_sampling_strategy", "random")) != "random"  # which depends on the micro-batch
    if by_length or any(sft.get(name) for name in _OWN_ORDER):
        return replace(written, products=products)
    longest = sorted(lengths, reverse=True)
    rows = max(
        size
        for size in range(1, written.effective_batch + 1)
        if written.effective_batch % size == 0 and (size == 1 or sum(longest[:size]) <= TOKENS)
    )
    return replace(
        written,
        micro_batch=rows,
        accumulation=written.effective_batch // rows,
        padding_free=rows > 1,
        products=products,
    )
