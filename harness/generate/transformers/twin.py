"""A random twin of a model: the same config made small, so that windows and rotary lengths are passed in a second.

Nothing is known of the architecture but its config's names. What counts things (layers, heads, sizes) is made smaller,
what decides how layers work (kinds of layers, scales, rotary parameters, head size) stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from harness.generate.transformers.adapter_kinds import active_configs
from harness.model.context import CONTEXT_NAMES

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PretrainedConfig, PreTrainedModel

WINDOW = 16
"""Tokens that a layer with a window looks back, in a twin."""
ORIGINAL_LENGTH = 32
"""The context that rotary scalings start from, in a twin."""
LENGTH = 128
"""The context of a twin."""
_LAYERS = 2
_PATTERN_LAYERS = 8
"""Layers of a twin whose config has a period of layers and does not list their kinds."""
_HEADS = 4
_INNER = 64
_VOCABULARY = 512
_MOST_WEIGHTS = 40_000_000
_SPREAD = 0.1
"""Standard deviation of random weights: with the usual 0.02 attention would hardly count."""

_PERIODS = ("period", "interval", "pattern", "every", "freq", "offset", "layer_step", "sparse_step")


class NoTwinError(Exception):
    """A config that cannot be made small."""


def small_twin(model: PreTrainedModel, adapted: PeftModel | None = None) -> PreTrainedModel | PeftModel:
    """Return a random float32 model of the same class, attention and device, with a small config.

    Args:
        model: A model of transformers, unwrapped.
        adapted: The same model with PEFT around it, if the twin is to have a random adapter of the same config.

    Raises:
        NoTwinError: the config does not say what is to be made small, or not in the usual names.
    """
    reasons: list[str] = []
    for shrink in (_smaller, _fewer_layers):
        try:
            twin = _made(type(model), shrink(model.config), model)
            return twin if adapted is None else _with_adapter(twin, adapted)
        except Exception as error:  # a config may break in any way when its numbers change
            reasons.append(f"{type(error).__name__}: {error}".splitlines()[0])
    raise NoTwinError(reasons[0][:160])


def _made(kind: type[PreTrainedModel], config: PretrainedConfig, model: PreTrainedModel) -> PreTrainedModel:
    attention = getattr(model.config, "_attn_implementation", None)
    with torch.device("meta"):
        weights = sum(p.numel() for p in kind._from_config(copy.deepcopy(config)).parameters())
    if weights > _MOST_WEIGHTS:
        raise NoTwinError(f"the twin would have {weights:,} weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = kind._from_config(config, attn_implementation=attention, dtype=torch.float32)
        made.eval()
        _spread(made)
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.to(model.device)


def _with_adapter(twin: PreTrainedModel, adapted: PeftModel) -> PeftModel:
    from peft import get_peft_model

    for config in active_configs(adapted):
        own = copy.deepcopy(config)
        own.inference_mode = False
        if hasattr(own, "init_lora_weights"):
            own.init_lora_weights = True  # some ways to begin change the base, or need data
        if hasattr(own, "layers_to_transform"):
            own.layers_to_transform = None
        twin = get_peft_model(twin, own).eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for parameter in twin.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn(parameter.shape) * _SPREAD)
    return twin


def _spread(model: PreTrainedModel) -> None:
    """Give every matrix entries large enough for each part to count; vectors (norms, biases) some variety."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, _SPREAD)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def configs(config: PretrainedConfig) -> Iterator[PretrainedConfig]:
    """Yield a config and the configs inside it."""
    yield config
    for name in getattr(config, "sub_configs", None) or {}:
        inner = getattr(config, name, None)
        if inner is not None and hasattr(inner, "to_dict"):
            yield from configs(inner)


def _smaller(config: PretrainedConfig) -> PretrainedConfig:
    small = copy.deepcopy(config)
    for part in configs(small):
        _shrink_layers(part)
        _shrink_sizes(part)
        _shrink_vocabulary(part)
        _shrink_lengths(part)
    return small


def _fewer_layers(config: PretrainedConfig) -> PretrainedConfig:
    """Sizes as they are: for configs whose sizes hang together in ways of their own."""
    small = copy.deepcopy(config)
    for part in configs(small):
        _shrink_layers(part)
        _shrink_vocabulary(part)
        _shrink_lengths(part)
    return small


def layers_kept(kinds: Sequence[object] | None, layers: int, periodic: bool) -> list[int]:
    """Return which layers a twin has, by number: each kind at least once, two layers at least.

    Args:
        kinds: The kind of each layer where the config lists them.
        layers: How many there are.
        periodic: Whether other settings count layers.
    """
    if kinds is None or len(kinds) != layers:
        return list(range(min(layers, _PATTERN_LAYERS if periodic else _LAYERS)))
    first: dict[str, int] = {}
    for number, kind in enumerate(kinds):
        first.setdefault(str(kind), number)
    kept = sorted(first.values())
    spare = [number for number in range(layers) if number not in kept]
    return sorted(kept + spare[: max(0, _LAYERS - len(kept))])


def _shrink_layers(config: PretrainedConfig) -> None:
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(layers, int) or isinstance(layers, bool):
        return
    listed = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    names = _own(config)
    periodic = any(isinstance(value, int) and any(word in name for word in _PERIODS) for name, value in names.items())
    kept = layers_kept(listed, layers, periodic and listed is None)
    for name, value in names.items():
        if isinstance(value, list | tuple) and len(value) == layers and name not in ("architectures",):
            _set(config, name, type(value)(value[number] for number in kept))
    _set(config, "num_hidden_layers", len(kept))
    for name in ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "moe_layer_start_index"):
        count = names.get(name)
        if isinstance(count, int):
            _set(config, name, min(count, 1))
    if isinstance(names.get("num_kv_shared_layers"), int):
        _set(config, "num_kv_shared_layers", 0)


def _shrink_sizes(config: PretrainedConfig) -> None:
    hidden, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    if not isinstance(hidden, int) or not isinstance(heads, int):
        return
    names = _own(config)
    size = hidden // heads
    fewer = min(heads, _HEADS)
    for name, value in names.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if "key_value_heads" in name or "kv_heads" in name or name == "num_kv_heads":
            _set(config, name, fewer if value == heads else min(value, max(1, fewer // 2)))
        elif value > _INNER and ("intermediate" in name or name in ("ffn_dim", "n_inner", "ffn_hidden_size")):
            _set(config, name, _INNER)
        elif value == hidden and name.endswith(
            ("hidden_size", "n_embd", "d_model", "proj_dim", "width", "embedding_size")
        ):
            _set(config, name, fewer * size)
    _set(config, "num_attention_heads", fewer)
    _set(config, "hidden_size", fewer * size)


def _shrink_vocabulary(config: PretrainedConfig) -> None:
    names = _own(config)
    for name, value in names.items():
        if name.startswith("vocab_size") and isinstance(value, int) and value > _VOCABULARY:
            _set(config, name, _VOCABULARY)
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int):
        return

    def within(value: object) -> object:
        if isinstance(value, list | tuple):
            return type(value)(within(one) for one in value)
        return 1 if isinstance(value, int) and not isinstance(value, bool) and value >= size else value

    for name, value in names.items():
        if name.endswith(("token_id", "token_index", "token_ids")):
            _set(config, name, within(value))


def _shrink_lengths(config: PretrainedConfig) -> None:
    names = _own(config)
    rotary = names.get("rope_parameters")
    for name, value in names.items():
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if ("window" in name and "layers" not in name) or "chunk_size" in name or name == "local_attention":
            _set(config, name, min(value, WINDOW))
        elif name == "original_max_position_embeddings":
            _set(config, name, min(value, ORIGINAL_LENGTH))
    scaled = False
    for part in _rotary_parts(rotary):
        if isinstance(part.get("original_max_position_embeddings"), int | float):
            part["original_max_position_embeddings"] = ORIGINAL_LENGTH
        scaled = scaled or part.get("rope_type", "default") != "default"
    for name in CONTEXT_NAMES:
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            _set(config, name, min(length, ORIGINAL_LENGTH) if scaled else LENGTH)


def _rotary_parts(rotary: object) -> list[dict[str, object]]:
    """Return the rotary parameters, one for each kind of layer where the config has several."""
    if not isinstance(rotary, dict):
        return []
    inner = [value for value in rotary.values() if isinstance(value, dict)]
    return inner or [rotary]


def _own(config: PretrainedConfig) -> dict[str, object]:
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}


def _set(config: PretrainedConfig, name: str, value: object) -> None:
    setattr(config, name, value)
