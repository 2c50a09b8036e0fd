"""A small chat-less Llama and an adapter of each kind on it, random, saved as PEFT saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch

LINEAR = ["q_proj", "v_proj", "down_proj"]
TASK = {"task_type": "CAUSAL_LM"}
Make = Callable[[Path], Any]


def lora(**fields: Any) -> Any:
    """The config of a LoRA adapter that is not at zero."""
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": LINEAR, **TASK, **fields})


KINDS: dict[str, Make] = {
    "lora": lambda _: lora(),
    "rslora": lambda _: lora(use_rslora=True, target_modules="all-linear"),
    "dora": lambda _: lora(use_dora=True),
    "pissa": lambda _: lora(init_lora_weights="pissa"),
    "olora": lambda _: lora(init_lora_weights="olora"),
    "eva": lambda _: lora(init_lora_weights="eva"),
    "bias-all": lambda _: lora(bias="all", target_modules=["q_proj"]),
    "bias-lora-only": lambda _: lora(bias="lora_only"),
    "lora-bias": lambda _: lora(lora_bias=True),
    "modules-to-save": lambda _: lora(modules_to_save=["embed_tokens", "lm_head"]),
    "embeddings": lambda _: lora(target_modules=["embed_tokens", "q_proj"]),
    "trainable-tokens": lambda _: lora(trainable_token_indices={"embed_tokens": [5, 6, 7, 300, 301]}),
    "rank-pattern": lambda _: lora(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}),
    "layer-replication": lambda _: lora(layer_replication=[[0, 2], [1, 2]]),
    "loha": lambda _: peft.LoHaConfig(r=4, alpha=16, target_modules=LINEAR, **TASK),
    "lokr": lambda _: peft.LoKrConfig(r=4, alpha=16, target_modules=LINEAR, **TASK),
    "ia3": lambda _: peft.IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"], **TASK),
    "adalora": lambda _: peft.AdaLoraConfig(total_step=10, init_r=4, target_modules=LINEAR, **TASK),
    "vera": lambda _: peft.VeraConfig(r=8, target_modules=["q_proj"], **TASK),
    "oft": lambda _: peft.OFTConfig(oft_block_size=8, target_modules=LINEAR, **TASK),
    "boft": lambda _: peft.BOFTConfig(boft_block_size=8, target_modules=LINEAR, **TASK),
    "hra": lambda _: peft.HRAConfig(r=4, target_modules=LINEAR, **TASK),
    "fourierft": lambda _: peft.FourierFTConfig(n_frequency=50, scaling=300.0, target_modules=["q_proj"], **TASK),
    "ln-tuning": lambda _: peft.LNTuningConfig(target_modules=["input_layernorm"], **TASK),
    "miss": lambda _: peft.MissConfig(r=4, target_modules=["q_proj"], **TASK),
    "tokens-alone": lambda _: peft.TrainableTokensConfig(token_indices=[5, 6, 7, 300], target_modules=["embed_tokens"]),
    "prompt-tuning": lambda _: peft.PromptTuningConfig(num_virtual_tokens=4, **TASK),
    "prefix-tuning": lambda _: peft.PrefixTuningConfig(num_virtual_tokens=4, **TASK),
    "p-tuning": lambda _: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, **TASK),
}
"""Name → the config; X-LoRA, which is made of other adapters, comes beside."""
FAST = (
    "lora", "dora", "pissa", "olora", "bias-all", "modules-to-save", "trainable-tokens", "loha", "ia3", "vera",
    "ln-tuning", "prompt-tuning",
)  # fmt: skip
PROMPTED = ("prompt-tuning", "prefix-tuning", "p-tuning")


def make_adapter(model: Any, kind: str, folder: Path) -> Path:
    """Save an adapter of that kind for a model, which is spoilt by it, with every tensor of its own moved by chance."""
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, KINDS[kind](folder))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3 * (parameter.std() if parameter.numel() > 1 else 1) + 0.05)
    adapted.save_pretrained(str(folder))
    return folder
