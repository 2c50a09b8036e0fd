"""A merged 16-bit model from the base as it was trained on, for who serves without PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.model.adapters import attach
from harness.model.checkpoint import first_line, one_line
from harness.model.load import Precision, load_model
from harness.model.profile import MERGED_RECORD
from harness.model.profile_schema import Weights
from harness.storage.atomic import disk_faults_named, write_atomically
from harness.storage.outputs import check_folder, output_folder

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

_INSTEAD = "serve base and adapter instead"
_ANOTHER_MODEL = {"float32": 1e-3, "bfloat16": 0.3, "float16": 0.1}
"""How far the logits of the sum may lie from those of base and adapter, relative to their spread: its weights are
rounded, and in 16 bit that goes all the way up."""


def export_merged(weights: Weights, precision: Precision, adapter: Path, adapter_sha256: str, out: Path) -> None:
    """Add the adapter's product to the base weights and save them in 16 bit.

    A 4-bit base is dequantised first: the adapter was trained on these values, and not on those that quantisation
    started from. What is saved is float16 where training computed in it, else bfloat16.

    Raises:
        UsageError: `out` holds something else.
        HarnessError: the memory does not suffice for the 16-bit weights, or the sum is not what base and adapter are.
    """
    import torch

    check_folder(out)
    base = load_model(weights, precision)
    dtype = torch.float16 if precision.dtype == "float16" else torch.bfloat16
    try:
        model = base.model
        if precision.quantization != "none":
            model = model.dequantize()
        with one_line(f"the adapter in {adapter} cannot be merged", _INSTEAD):
            adapted = attach(model, adapter)
            one_of_a_pair = _adapts_one_of_a_tied_pair(adapted)
            before = _said(adapted)
            merged = adapted.merge_and_unload(safe_merge=True)
            moved = float((_said(merged) - before).std() / before.std())
            merged = merged.to(dtype)
    except torch.OutOfMemoryError as error:
        raise HarnessError(
            "the GPU's memory does not suffice to merge in 16 bit", "merge on a larger GPU, or serve base and adapter"
        ) from error
    if one_of_a_pair or moved > _ANOTHER_MODEL[precision.dtype]:
        raise HarnessError(f"the adapter in {adapter} cannot be merged: the sum is another model", _INSTEAD)
    merged.config.use_cache = True
    record = {"base": str(weights), "quantization": precision.quantization, "adapter_sha256": adapter_sha256}
    with disk_faults_named(out.parent), output_folder(out) as target:
        try:
            merged.save_pretrained(target)
        except RuntimeError as error:  # layers that share their weights
            raise HarnessError(f"the adapter in {adapter} cannot be merged: {first_line(error)}", _INSTEAD) from error
        base.tokenizer.save_pretrained(target)
        write_atomically(target / MERGED_RECORD, json.dumps(record | {"dtype": str(dtype).partition(".")[2]}, indent=1))


def _adapts_one_of_a_tied_pair(adapted: PeftModel) -> bool:
    """Return whether embeddings or the head tied to them would get what the adapter adds to the other one alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = adapted.get_base_model()
    ends = [end for end in (model.get_input_embeddings(), model.get_output_embeddings()) if end is not None]
    tied = len({end.weight.data_ptr() for end in ends}) < len(ends)
    return tied and sum(isinstance(end, BaseTunerLayer) for end in ends) == 1


def _said(model: PreTrainedModel) -> torch.Tensor:
    """Return the logits behind a few tokens."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(1, 65, device=model.device)[None] * 7919 % rows
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    return logits
