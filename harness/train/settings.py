"""Settings of a training: the fields of SFTConfig and LoraConfig that a model file sets, checked by name and value."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, UsageError, did_you_mean
from harness.model.checkpoint import first_line
from harness.model.load import Precision
from harness.train.trackers import check_trackers
from harness.train.values import check_values

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl import SFTConfig

OWNED = ("output_dir", "seed", "data_seed", "use_cpu", "completion_only_loss", "logging_nan_inf_filter")
"""Fields that the harness sets by itself: from the seed, the cache and the machine."""

NEED_DATA = ("eva", "corda", "lora_ga")
"""Initialisers of LoRA that PEFT leaves at something else unless the model has seen data before."""


DEFAULT_MAX_LENGTH = 1024


def max_length(sft: Mapping[str, Any]) -> int | None:
    """Return the tokens that a row may have, prompt and answer; None where the model file lifts the limit."""
    length: int | None = sft.get("max_length", DEFAULT_MAX_LENGTH)
    return length


def check_names(sft: dict[str, Any], lora: dict[str, Any]) -> None:
    """Check that every name is a field of SFTConfig or LoraConfig and every value one that the field takes.

    Raises:
        UsageError: a name is unknown, or is one that the harness sets; the hint names the nearest. Or a value is not of
            its field's type and range.
    """
    from peft import LoraConfig
    from trl import SFTConfig

    for section, values, config in (("sft", sft, SFTConfig), ("lora", lora, LoraConfig)):
        known = {field.name for field in dataclasses.fields(config)}
        for name in values:
            if section == "sft" and name in OWNED:
                raise UsageError(f"train.sft.{name} is set by the harness", "remove it from the model file")
            if name not in known:
                raise UsageError(f"train.{section} has no field '{name}'", did_you_mean(name, known))
        check_values(section, values, config)
    initialiser = lora.get("init_lora_weights")
    if isinstance(initialiser, str) and initialiser.lower() in NEED_DATA:
        raise UsageError(
            f"train.lora.init_lora_weights: '{initialiser}' needs a pass over data that is not made here",
            "take another initialiser, such as true, gaussian, orthogonal, pissa or olora",
        )
    _try_adapter(lora)
    check_trackers(sft.get("report_to", "none"))
    names = ("activation_checkpointing", "gradient_checkpointing")
    if all(sft.get(name) is not None for name in names) and sft[names[0]] != sft[names[1]]:
        raise UsageError(f"train.sft.{names[0]} and {names[1]} are one setting and differ", "keep one of them")


def sft_config(sft: dict[str, Any], precision: Precision, seed: int, output_dir: str) -> SFTConfig:
    """Return the SFTConfig: the model file's fields over defaults that keep a training reproducible and quiet.

    Raises:
        UsageError: a value does not fit its field.
    """
    from trl import SFTConfig

    values: dict[str, Any] = {
        "max_length": max_length(sft),
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 25,
        "save_total_limit": 2,
        "dataloader_pin_memory": precision.device == "cuda",
        "bf16": precision.dtype == "bfloat16",
        "fp16": precision.dtype == "float16",
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,
        "logging_nan_inf_filter": False,  # it shows a loss that is no number as 0
        **sft,
        "output_dir": output_dir,
        "seed": seed,
        "data_seed": seed,
        "disable_tqdm": True,
        "use_cpu": precision.device == "cpu",
    }
    # what is learnt from, padding left out: rows without padding have no mask, and their end token may be the padding's
    without_padding = bool(values.get("packing") or values.get("padding_free"))
    values["include_num_input_tokens_seen"] = "all" if without_padding else "non_padding"
    try:
        config = SFTConfig(**values)
    except (TypeError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise UsageError(f"train.sft is not accepted by trl: {reason:.160}", "see trl's SFTConfig") from error
    config._n_gpu = min(config.n_gpu, 1)  # several GPUs are for several processes: DataParallel multiplies the batch
    return config


def lora_config(lora: dict[str, Any]) -> LoraConfig:
    """Return the LoraConfig of a causal language model.

    Raises:
        UsageError: a value does not fit its field.
    """
    from peft import LoraConfig

    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **lora})
    except (TypeError, ValueError, ImportError) as error:
        reason = first_line(error)
        raise UsageError(f"train.lora is not accepted by peft: {reason:.160}", "see peft's LoraConfig") from error


@contextlib.contextmanager
def library_refusals(kinds: tuple[type[Exception], ...] = (Exception,)) -> Iterator[None]:
    """Turn what trl and PEFT raise over settings into one line; what is raised within the harness itself is a bug.

    Args:
        kinds: Of errors: all, while a training is set up.

    Raises:
        UsageError: the first line of the reason.
    """
    import torch

    try:
        yield
    except (HarnessError, torch.OutOfMemoryError):
        raise
    except kinds as error:
        if _is_ours(error):
            raise
        raise UsageError(
            f"trl and peft do not take these settings of the training: {first_line(error)}",
            "see train.sft and train.lora in the model file",
        ) from error


def _is_ours(error: Exception) -> bool:
    """Return whether the harness's own code raised an error, or what it calls apart from trl, as to let a model answer.

    Frames of `harness.train` may stand above the libraries' own: theirs are the kernels that layers compute with.
    """
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [name for name in modules if name.startswith("harness.")]
    return modules[-1:] == ours[-1:] or not all(name.startswith("harness.train.") for name in ours)


def check_targets(names: Iterable[str], lora: Mapping[str, Any]) -> None:
    """Check that the model has what `target_modules` and `modules_to_save` name; PEFT leaves out what it does not find.

    Args:
        names: Dotted names of all modules of the model.
        lora: `train.lora` of the model file.

    Raises:
        UsageError: a name or pattern matches no module; the hint names the nearest.
    """
    known = list(names)
    for field in ("target_modules", "modules_to_save"):
        wanted = lora.get(field)
        if isinstance(wanted, str) and wanted != "all-linear":
            try:
                found = any(re.fullmatch(wanted, name) for name in known)
            except re.error as error:
                raise UsageError(f"train.lora.{field}: '{wanted}' is no pattern: {error}") from None
            if not found:
                near = did_you_mean(wanted, ["all-linear"])
                hint = near if near.startswith("did you mean") else "names stand in a list, a text is a pattern"
                raise UsageError(f"train.lora.{field}: no module of the model matches '{wanted}'", hint)
        for name in wanted if isinstance(wanted, list) else []:
            if not any(module == name or module.endswith(f".{name}") for module in known):
                ends = {module.rpartition(".")[2] for module in known if module}
                raise UsageError(
                    f"train.lora.{field}: the model has no module '{name}'",
                    did_you_mean(name, {end for end in ends if not end.isdigit()}),
                )


def _try_adapter(lora: Mapping[str, Any]) -> None:
    """Let peft build an adapter of these settings on one small layer: some it refuses only then.

    Raises:
        UsageError: it refuses.
    """
    import torch
    from peft import inject_adapter_in_model

    class OneLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.probe = torch.nn.Linear(8, 8)

    # what speaks of the model's own modules, and starts that are worked out from its weights or data
    apart = (
        "modules_to_save",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "init_lora_weights",
        "rank_pattern",
        "alpha_pattern",
    )
    of_any_model = {name: value for name, value in lora.items() if name not in apart}
    config = lora_config(of_any_model | {"target_modules": ["probe"]})
    with torch.random.fork_rng(devices=[]):
        try:
            inject_adapter_in_model(config, OneLayer())
        except (TypeError, ValueError, RuntimeError, ImportError) as error:
            raise UsageError(
                f"train.lora is not accepted by peft: {first_line(error):.160}", "see peft's LoraConfig"
            ) from error
