"""A small chat-less Llama and an adapter of each kind on it, random, saved as PEFT saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch

LINEAR = ["q_proj", "v_proj", "down_proj"]
TASK = {"task_type": "CAUSAL_LM"}


def lora(**fields: Any) -> Any:
    """The config of a LoRA adapter that is not at zero."""
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": LINEAR, **TASK, **fields})


KINDS: dict[str, Callable[[], Any]] = {
    "lora": lambda: lora(),
    "rslora": lambda: lora(use_rslora=True, target_modules="all-linear"),
    "dora": lambda: lora(use_dora=True),
    "pissa": lambda: lora(init_lora_weights="pissa"),
    "olora": lambda: lora(init_lora_weights="olora"),
    "eva": lambda: lora(init_lora_weights="eva"),
    "bias-all": lambda: lora(bias="all", target_modules=["q_proj"]),
    "bias-lora-only": lambda: lora(bias="lora_only"),
    "lora-bias": lambda: lora(lora_bias=True),
    "modules-to-save": lambda: lora(modules_to_save=["embed_tokens", "lm_head"]),
    "embeddings": lambda: lora(target_modules=["embed_tokens", "q_proj"]),
    "trainable-tokens": lambda: lora(trainable_token_indices={"embed_tokens": [40, 41, 42, 100, 101]}),
    "rank-pattern": lambda: lora(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}),
    "layer-replication": lambda: lora(layer_replication=[[0, 2], [1, 2]]),
    "loha": lambda: peft.LoHaConfig(r=4, alpha=16, target_modules=LINEAR, **TASK),
    "lokr": lambda: peft.LoKrConfig(r=4, alpha=16, target_modules=LINEAR, **TASK),
    "ia3": lambda: peft.IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"], **TASK),
    "adalora": lambda: peft.AdaLoraConfig(total_step=10, init_r=4, target_modules=LINEAR, **TASK),
    "vera": lambda: peft.VeraConfig(r=8, target_modules=["q_proj"], **TASK),
    "oft": lambda: peft.OFTConfig(oft_block_size=8, target_modules=LINEAR, **TASK),
    "boft": lambda: peft.BOFTConfig(boft_block_size=8, target_modules=LINEAR, **TASK),
    "hra": lambda: peft.HRAConfig(r=4, target_modules=LINEAR, **TASK),
    "fourierft": lambda: peft.FourierFTConfig(n_frequency=50, scaling=300.0, target_modules=["q_proj"], **TASK),
    "ln-tuning": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"], **TASK),
    "miss": lambda: peft.MissConfig(r=4, target_modules=["q_proj"], **TASK),
    "tokens-alone": lambda: peft.TrainableTokensConfig(
        token_indices=list(range(50, 110)), target_modules=["embed_tokens"]
    ),
    "prompt-tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, **TASK),
    "prefix-tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, **TASK),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, **TASK),
}
"""Name → the config."""
FAST = (
    "lora", "dora", "pissa", "olora", "bias-all", "modules-to-save", "trainable-tokens", "loha", "ia3", "vera",
    "ln-tuning", "prompt-tuning",
)  # fmt: skip
MOVED = {"prefix-tuning": 3.0}
"""How far tensors are moved where 0.2 changes no answer."""


def write_base(folder: Path, **fields: Any) -> Path:
    """Save a random Llama of a few thousand weights, biases among them, with a tokenizer that knows bytes alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    model = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=model, **named).save_pretrained(folder)
    torch.manual_seed(12)
    values = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attention_bias": True,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 512,
    }
    LlamaForCausalLM(LlamaConfig(**values | fields)).save_pretrained(folder)
    return folder


def make_adapter(model: Any, kind: str, folder: Path) -> Path:
    """Save an adapter of that kind for a model, which is spoilt by it, with every tensor of its own moved by chance."""
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, KINDS[kind]())
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * MOVED.get(kind, 0.2))
    adapted.save_pretrained(str(folder))
    return folder
