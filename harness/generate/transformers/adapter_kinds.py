"""What an adapter is beside changed layers: virtual tokens, or layers that depend on the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


def unwrapped(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model of transformers inside PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def active_configs(model: PreTrainedModel) -> list[PeftConfig]:
    """Return the PEFT configs that are on in a model; none for a model without PEFT or with its adapters off."""
    configs = getattr(model, "peft_config", None)
    if not isinstance(configs, dict) or getattr(model, "_adapters_disabled", False):
        return []
    active = getattr(model, "active_adapters", None) or getattr(model, "active_adapter", None)
    if callable(active):
        active = active()
    names = [active] if isinstance(active, str) else list(active or [])
    return [configs[name] for name in names if name in configs]


def virtual_tokens(model: PreTrainedModel) -> int:
    """Return how many places of the context the adapter that is on takes for itself."""
    learned = [config for config in active_configs(model) if getattr(config, "is_prompt_learning", False)]
    return sum(int(getattr(config, "num_virtual_tokens", 0) or 0) for config in learned)


def beyond_layers(model: PreTrainedModel) -> str | None:
    """Return what the adapter that is on does beside changing layers, or None: only PEFT's own `generate` does that."""
    for config in active_configs(model):
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if getattr(config, "is_prompt_learning", False):
            return f"its adapter ({kind}) adds virtual tokens"
        if getattr(config, "alora_invocation_tokens", None):
            return "its adapter is on from certain tokens only"
        if kind in ("XLORA", "POLY", "ADAPTION_PROMPT", "MULTITASK_PROMPT_TUNING"):
            return f"its adapter ({kind}) depends on the prompt"
    return None
