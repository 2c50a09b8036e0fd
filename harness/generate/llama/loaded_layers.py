"""What a Llama that transformers loaded consists of: the layers of each product, their weights, an adapter's factors.

PEFT may stand around the model and each of its layers, and bitsandbytes' packed weights within them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from harness.generate.llama.adapters import Factors
from harness.generate.transformers.adapter_kinds import unwrapped

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer
    from transformers import PreTrainedModel
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

RANK_STEP = 16
"""Rows of A below a matrix come in this many, so that products stay on the fast path."""
GROUPS = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "out": ("o_proj",),
    "up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""A block's layers with the same inputs, by the product that they are one matrix of."""

AdapterFactors = list[dict[str, Factors | None]]
"""An adapter's factors by block and product; None where it leaves a product alone."""


def why_not_fused(model: PreTrainedModel) -> str | None:
    """Return what about this model `FusedLlama` does not know, or None."""
    plain = unwrapped(model)
    config = plain.config
    if type(plain).__name__ != "LlamaForCausalLM":
        return f"{type(plain).__name__} is no Llama"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    size = plain.model.layers[0].self_attn.head_dim
    if size & (size - 1):
        return f"its heads have {size} numbers"
    if "dynamic" in str(getattr(config, "rope_parameters", "")) or "longrope" in str(
        getattr(config, "rope_parameters", "")
    ):
        return "its rotary positions depend on the length"
    known = {name for members in GROUPS.values() for name in members}
    for name, module in plain.named_modules():
        if not hasattr(module, "lora_A"):
            if type(module).__name__ == "ModulesToSaveWrapper":
                return f"its adapter replaces {name}"
            continue
        if name.rpartition(".")[2] not in known or not hasattr(module, "out_features"):
            return f"its adapter changes {name}"
        if getattr(module, "lora_variant", None) or any(getattr(module, "lora_bias", {}).values()):
            return "its adapter is more than LoRA"
    for members in GROUPS.values():
        for layer in base_layers(plain.model.layers[0], members):
            if layer.bias is not None:
                return "its layers have biases"
    return None


def base_layers(block: LlamaDecoderLayer, names: tuple[str, ...]) -> list[nn.Linear]:
    """Return a block's layers of these names, without what an adapter puts around them."""
    return [getattr(module, "base_layer", module) for module in _members(block, names)]


def largest_matrix(model: PreTrainedModel) -> int:
    """Return how many weights the largest matrix has that a block's layers are put together to."""
    groups = [base_layers(unwrapped(model).model.layers[0], members) for members in GROUPS.values()]
    return max(sum(layer.out_features for layer in group) * group[0].in_features for group in groups)


def plain_weight(layer: nn.Linear, dtype: torch.dtype) -> torch.Tensor:
    """Return a layer's weights, (out, in): its own where they are plain, else unpacked into a new tensor."""
    state = getattr(layer.weight, "quant_state", None)
    if state is None:
        return layer.weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(layer.weight.data, state).to(dtype)  # type: ignore[no-any-return]


def adapter_factors(model: PreTrainedModel, dtype: torch.dtype) -> AdapterFactors | None:
    """Return a copy of the factors of the adapter that is on in `model`, None without any."""
    found = [
        {name: _beside(_members(block, members), dtype) for name, members in GROUPS.items()}
        for block in unwrapped(model).model.layers
    ]
    return found if any(factors is not None for one in found for factors in one.values()) else None


def _members(block: LlamaDecoderLayer, names: tuple[str, ...]) -> list[nn.Linear | LoraLayer]:
    return [getattr(block.self_attn, name, None) or getattr(block.mlp, name) for name in names]


def _factors(module: nn.Linear | LoraLayer) -> Factors | None:
    """Return A and B · scaling of the adapter that is on."""
    if not hasattr(module, "lora_A"):
        return None
    lora: LoraLayer = module
    if lora.disable_adapters:
        return None
    active = [name for name in lora.active_adapters if name in lora.lora_A]
    if not active:
        return None
    (name,) = active
    return lora.lora_A[name].weight.detach(), lora.lora_B[name].weight.detach() * lora.scaling[name]


def _beside(modules: list[nn.Linear | LoraLayer], dtype: torch.dtype) -> Factors | None:
    """Return each layer's A below the other, and each B · scaling as a block of one matrix; None without any."""
    found = [_factors(module) for module in modules]
    ranks = sum(len(pair[0]) for pair in found if pair is not None)
    if not ranks:
        return None
    room = -(-ranks // RANK_STEP) * RANK_STEP
    device = modules[0].weight.device
    downs = torch.zeros((room, modules[0].in_features), dtype=dtype, device=device)
    ups = torch.zeros((sum(module.out_features for module in modules), room), dtype=dtype, device=device)
    row = column = 0
    for module, pair in zip(modules, found, strict=True):
        if pair is not None:
            rank = len(pair[0])
            downs[column : column + rank] = pair[0]
            ups[row : row + module.out_features, column : column + rank] = pair[1]
            column += rank
        row += module.out_features
    return downs, ups
