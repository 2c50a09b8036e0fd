"""Checks what a model file sets by the types of SFTConfig and LoraConfig, before any weights are loaded."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin

from harness.errors import UsageError, did_you_mean

_NUMBERED = re.compile(r"(.*)\[.*\]")
"""A choice that stands for a family, such as peft's `pissa_niter_[number of iters]`."""

_LISTED = 12
"""More choices than these are not listed."""

# What the two libraries take without a word, or refuse only when the weights are loaded and the training runs.
_POSITIVE = {
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("eval_accumulation_steps", "logging_steps", "save_steps", "eval_steps", "save_total_limit"),
    *("torch_empty_cache_steps", "num_train_epochs", "max_length", "dataloader_prefetch_factor", "dataset_num_proc"),
    *("pad_to_multiple_of", "ddp_bucket_cap_mb", "ddp_timeout", "adam_epsilon", "r", "lora_alpha"),
    "qalora_group_size",
}
_SHARES = {"adam_beta1", "adam_beta2", "label_smoothing_factor", "lora_dropout"}
"""From 0 to below 1."""
_ABOVE_ZERO_OR_ABSENT = {"neftune_noise_alpha", "router_aux_loss_coef"}

_NEUTRAL: Mapping[str, tuple[bool | str | None, str]] = {
    "eval_strategy": ("no", "use `evaluation:`, which answers a development slice"),
    "do_eval": (False, "use `evaluation:`, which answers a development slice"),
    "do_predict": (False, "`python -m harness run` lets the model answer"),
    "eval_on_start": (False, "use `evaluation:`, which answers a development slice"),
    "load_best_model_at_end": (False, "use `evaluation:`, which keeps the best step"),
    "push_to_hub": (False, "use `python -m harness train MODEL --push REPO`"),
    "resume_from_checkpoint": (None, "a training goes on from its own last checkpoint by itself"),
    "model_init_kwargs": (None, "the profile says how the weights are loaded"),
    "chat_template_path": (None, "the prompt is the profile's, through the tokenizer's own chat template"),
    "eos_token": (None, "rows end with the tokenizer's own end token"),
    "truncation_mode": ("keep_start", "rows that are too long are cut at their end"),
    "save_only_model": (False, "a killed training could not go on as if it had not been"),
    "ignore_data_skip": (False, "a killed training could not go on as if it had not been"),
    "inference_mode": (False, "it would train nothing"),
}
"""Fields that may only say what they say by themselves, because the harness does that part otherwise."""


def check_values(section: str, values: Mapping[str, object], config: type) -> None:
    """Check each value by its field's type and range.

    Args:
        section: `sft` or `lora`, for the message.
        values: what the model file sets; all are fields of `config`.
        config: trl's SFTConfig or peft's LoraConfig.

    Raises:
        UsageError: the first value that does not fit, with what does.
    """
    hints = typing.get_type_hints(config)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name, value in values.items():
        place = f"train.{section}.{name}"
        if name in _NEUTRAL and value != _NEUTRAL[name][0]:
            raise UsageError(f"{place} is not for the model file: got {value!r:.60}", _NEUTRAL[name][1])
        if not _fits(value, hints[name]):
            raise UsageError(f"{place} must be {_words(hints[name])}: got {value!r:.60}", _hint(value, hints[name]))
        for number in [value] if _is_number(value) else []:
            _check_range(place, name, number, defaults[name])


def _check_range(place: str, name: str, value: float, default: object) -> None:
    positive = name in _POSITIVE | _ABOVE_ZERO_OR_ABSENT
    if name in _SHARES and not 0 <= value < 1:
        raise UsageError(f"{place} must be from 0 to below 1: got {value!r}")
    if positive and value <= 0:
        raise UsageError(f"{place} must be above 0: got {value!r}")
    # a field that says by itself that it is off, such as max_steps, may be negative
    if value < 0 and not (_is_number(default) and default < 0):
        raise UsageError(f"{place} must not be negative: got {value!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(value: object, hint: object) -> bool:
    """Whether a value that YAML can hold is of a field's type; strict: "512" is no number and 1 is not true."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, kind) for kind in _kinds(inner))
    if origin is Literal:
        return any(_is_choice(value, choice) for choice in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin is tuple:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if hint is float:
        return _is_number(value) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if _is_enum(hint):
        return value in [choice.value for choice in hint]
    return hint is Any or (isinstance(hint, type) and isinstance(value, hint))


def _hint(value: object, hint: object) -> str:
    choices = _choices(hint)
    if value is False and "no" in choices:
        return 'YAML takes a bare no for false: write "no"'
    near = did_you_mean(value, choices) if isinstance(value, str) and choices else ""
    return near if near.startswith("did you mean") or len(choices) > _LISTED else ""


def _is_enum(hint: object) -> TypeGuard[type[enum.Enum]]:
    return isinstance(hint, type) and issubclass(hint, enum.Enum)


def _is_choice(value: object, choice: object) -> bool:
    if type(value) is type(choice) and value == choice:
        return True
    numbered = _NUMBERED.fullmatch(choice) if isinstance(choice, str) else None
    return bool(numbered and isinstance(value, str) and re.fullmatch(re.escape(numbered[1]) + r"\d+", value))


def _choices(hint: object) -> list[str]:
    """The words that a field takes, none where it takes any."""
    if get_origin(hint) in (Union, types.UnionType):
        return [word for kind in get_args(hint) for word in _choices(kind)]
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if isinstance(choice, str)]
    return [str(choice.value) for choice in hint] if _is_enum(hint) else []


_WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}


def _kinds(union: tuple[object, ...]) -> list[object]:
    # a field that takes a choice by name lists plain text beside it: the name must still be one
    kinds = [kind for kind in union if not (kind is str and any(_is_enum(other) for other in union))]
    # `typing` remembers a union in the order in which it was first written anywhere
    return sorted(kinds, key=lambda kind: 2 if kind is type(None) else int(kind not in _WORDS))


def _words(hint: object) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(kind) for kind in _kinds(inner)))
    if choices := _choices(hint):
        return "one of " + ", ".join(choices) if len(choices) <= _LISTED else "one of its choices"
    if origin is list or hint is list:
        return f"a list, each item {_words(inner[0])}" if inner else "a list"
    if origin is tuple:
        return f"a list of {len(inner)}"
    if origin is dict or hint is dict:
        return "a mapping"
    if dataclasses.is_dataclass(hint):
        return "left out (a model file cannot hold it)"
    return _WORDS.get(hint, str(hint))
