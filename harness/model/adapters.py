"""Puts an adapter of PEFT onto base weights, as `PeftModel.from_pretrained` does, and refuses one that does not fit."""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.errors import HarnessError, UsageError
from harness.model.checkpoint import check_computes, one_line, some
from harness.model.identity import ADAPTER_CONFIG, ADAPTER_FILE
from harness.model.profile_schema import Weights
from harness.storage.json_file import read_object

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

NAME = "default"
"""What an adapter is called inside the model: one is on at a time."""
_OTHER_WEIGHTS = "use the profile whose weights it was made for"
_SAME = 0.05
"""Logits may differ by this share of their spread: one pass reads with a cache, one without."""
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out)\.(?:.*\.)?weight$")


def check_adapter(folder: Path) -> dict[str, JsonValue]:
    """Return an adapter's config, once its files are found to be whole.

    Raises:
        UsageError: a file is missing or broken, or this PEFT does not know the kind of adapter.
    """
    from peft import PeftType
    from safetensors import safe_open

    if not (folder / ADAPTER_CONFIG).is_file():
        raise UsageError(f"{folder} holds no adapter: {ADAPTER_CONFIG} is missing", "check the path")
    if not (folder / ADAPTER_FILE).is_file():
        raise UsageError(f"{folder} has no {ADAPTER_FILE}", "save the adapter with safe_serialization=True")
    config = read_object(folder / ADAPTER_CONFIG)
    kind = config.get("peft_type")
    if kind not in {str(known.value) for known in PeftType}:
        raise UsageError(f"{folder} holds an adapter of the kind {kind!r:.40}", "the installed peft knows no such kind")
    try:
        with safe_open(folder / ADAPTER_FILE, framework="pt") as file:
            names = list(file.keys())
    except Exception as error:  # its own kind of error, which is no OSError
        raise UsageError(f"{folder / ADAPTER_FILE} is cut or damaged", "fetch it again") from error
    if not names:
        raise UsageError(f"{folder / ADAPTER_FILE} holds no tensors", "fetch it again")
    return config


def named_base(folder: Path, weights: Weights, local: Path) -> str:
    """Return the base that an adapter's config names, where it is called otherwise than these weights; else "".

    Args:
        folder: The adapter's.
        weights: Where the weights come from.
        local: Where they lie.
    """
    named = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named.strip():
        return ""
    return "" if PurePath(named).name.lower() in {weights.name.lower(), local.name.lower()} else named


def attach(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Return the model with the adapter on.

    Raises:
        UsageError: the folder holds no adapter that can be read.
        HarnessError: it does not fit these weights, or a part of it has no place.
    """
    check_adapter(folder)
    what = f"the adapter in {folder} does not fit the base weights"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with one_line(what, _OTHER_WEIGHTS):
            from peft import PeftModel

            _make_room(model, folder)
            adapted = PeftModel.from_pretrained(
                model, str(folder), adapter_name=NAME, torch_device=str(model.device), local_files_only=True
            )
    for warning in said:
        missing = re.match(r"Found missing adapter keys while loading the checkpoint: \[(.*)\]", str(warning.message))
        if missing:
            names = re.findall(r"'([^']+)'", missing[1])
            raise HarnessError(f"{what}: it lacks {some(names)}", _OTHER_WEIGHTS)
    with one_line(what, _OTHER_WEIGHTS):
        _check_all_taken(adapted, folder, what)
    adapted.eval()
    check_computes(adapted, f"the model with the adapter in {folder}")
    if adapted.peft_config[NAME].is_prompt_learning:
        _check_generates_with_it(adapted, folder)
    return adapted


def _check_generates_with_it(adapted: PeftModel, folder: Path) -> None:
    """Compare the first step of `generate` with a forward pass: virtual tokens come in by another way in each.

    With PEFT 0.21 and transformers 5.24 `generate` warns of two caches and goes on without a learned prefix.

    Raises:
        HarnessError: they differ.
    """
    import torch

    ids = torch.tensor([[3, 4, 5]], device=adapted.device)
    mask = torch.ones_like(ids)
    with one_line(f"the model with the adapter in {folder} does not generate", _OTHER_WEIGHTS), torch.inference_mode():
        read = adapted(input_ids=ids, attention_mask=mask).logits[:, -1].float()
        how = {"max_new_tokens": 1, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
        written = adapted.generate(input_ids=ids, attention_mask=mask, **how).logits[0].float()
    if float((read - written).abs().max()) > _SAME * float(read.std()):
        kind = adapted.peft_config[NAME].peft_type.value
        raise HarnessError(
            f"the adapter in {folder} is left out when the model generates: the installed peft does not pass "
            f"{kind} on to the installed transformers",
            "install versions of the two that fit together",
        )


def _check_all_taken(adapted: PeftModel, folder: Path, what: str) -> None:
    """Put the file's tensors in once more, for PEFT tells only who does it by hand what it had no place for.

    Raises:
        HarnessError: some have no place, or are no numbers.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    tensors = load_peft_weights(str(folder), device="cpu")
    damaged = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if damaged:
        raise HarnessError(
            f"the adapter in {folder} holds numbers that are not finite: {some(damaged)}", "train it anew"
        )
    if tensors and all(_without_effect(name, tensor) for name, tensor in tensors.items()):
        raise HarnessError(
            f"the adapter in {folder} changes nothing: all its lora_B are zero",
            "it was saved before it had learnt: train it anew, without that folder",
        )
    if adapted.peft_config[NAME].is_prompt_learning:
        # its tensors lie beside the model, where loading them compares names and shapes by itself
        left = {name for name in tensors if name != "prompt_embeddings" and "." not in name}
    else:
        left = set(set_peft_model_state_dict(adapted, tensors, adapter_name=NAME).unexpected_keys)
    if left:
        raise HarnessError(f"{what}: they have no place for {some(left)}", _OTHER_WEIGHTS)


def _without_effect(name: str, tensor: torch.Tensor) -> bool:
    """Return whether a tensor is LoRA's A, or its B at the zero that it begins from."""
    return "lora_A" in name or ("lora_B" in name and not tensor.any())


def _make_room(model: PreTrainedModel, folder: Path) -> None:
    """Give the base as many rows of embeddings as the adapter brings, which it was trained with."""
    from safetensors import safe_open

    with safe_open(folder / ADAPTER_FILE, framework="pt") as file:
        rows = {
            file.get_slice(name).get_shape()[0]
            for name in file.keys()  # noqa: SIM118  # no dict
            if _EMBEDDING.search(name) and "lora_" not in name and len(file.get_slice(name).get_shape()) == 2
        }
    held = model.get_input_embeddings().weight.shape[0]
    if len(rows) == 1 and rows != {held}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)
