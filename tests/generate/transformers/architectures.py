"""Tiny random models of many architectures, made with the installed transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
NO_KV: dict[str, Any] = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "mamba_d_state": 8}


@dataclass(frozen=True)
class Architecture:
    """One tiny model.

    Args:
        kind: Its `model_type`.
        particular: What is particular about it.
        decoder: What decodes it: `slots`, `padded` or `single` (transformers' generate).
        more: Fields of its config.
        sizes: The usual names of sizes, or others.
        fast: Whether it belongs to the part that is always tried.
        chat: Whether its tokenizer has a chat template.
    """

    kind: str
    particular: str
    decoder: str
    more: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=lambda: SIZES)
    fast: bool = False
    chat: bool = False


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


ARCHITECTURES: dict[str, Architecture] = {
    "Llama": Architecture("llama", "dense, untied", "slots", {"tie_word_embeddings": False}),
    "Llama, tied": Architecture(
        "llama", "dense, tied, chat template", "slots", {"tie_word_embeddings": True}, chat=True
    ),
    "Llama, linear": Architecture("llama", "rotary scaling linear", "slots", rope("linear", factor=2.0)),
    "Llama 3": Architecture(
        "llama", "rotary scaling llama3", "slots",
        rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    ),
    "Llama, yarn": Architecture(
        "llama", "rotary scaling yarn", "slots", rope("yarn", factor=4.0, original_max_position_embeddings=64)
    ),
    "Llama, dynamic": Architecture(
        "llama", "rotary scaling by length", "single",
        rope("dynamic", factor=2.0) | {"max_position_embeddings": 64}, fast=True,
    ),
    "Llama 4": Architecture(
        "llama4_text", "chunked attention, mixture of experts", "padded",
        {"attention_chunk_size": 16, "num_local_experts": 4, "intermediate_size_mlp": 48, "head_dim": 8},
    ),
    "Mistral": Architecture("mistral", "window", "padded", {"sliding_window": 24, "head_dim": 8}, fast=True),
    "Mistral, no window": Architecture("mistral", "dense", "slots", {"sliding_window": None, "head_dim": 8}),
    "Ministral": Architecture(
        "ministral", "window in some layers", "padded",
        {"sliding_window": 24, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "Mixtral": Architecture("mixtral", "mixture of experts", "slots", {"num_local_experts": 4}, fast=True),
    "Qwen2": Architecture("qwen2", "dense", "slots"),
    "Qwen2, window": Architecture(
        "qwen2", "window in the upper layers, chat template", "padded",
        {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}, fast=True, chat=True,
    ),
    "Qwen2-MoE": Architecture(
        "qwen2_moe", "mixture of experts", "slots",
        {**EXPERTS, "shared_expert_intermediate_size": 16},
    ),
    "Qwen3": Architecture("qwen3", "norms of queries and keys", "slots", {"head_dim": 8}),
    "Qwen3-MoE": Architecture(
        "qwen3_moe", "mixture of experts", "slots", {"head_dim": 8, **EXPERTS}
    ),
    "Qwen3-Next": Architecture(
        "qwen3_next", "hybrid: linear attention", "padded",
        {
            "head_dim": 8, **EXPERTS, "shared_expert_intermediate_size": 16,
            "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "Gemma": Architecture("gemma", "scaled embeddings, tied", "slots", {"head_dim": 8}),
    "Gemma 2": Architecture("gemma2", "soft caps, window, no sdpa", "padded", {"head_dim": 8, "sliding_window": 24}),
    "Gemma 3": Architecture(
        "gemma3_text", "window in five of six layers", "padded",
        {"head_dim": 8, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}, fast=True,
    ),
    "Phi": Architecture("phi", "parts of heads turned", "slots"),
    "Phi-3": Architecture("phi3", "window", "padded", {"sliding_window": 24}),
    "Phi-3, longrope": Architecture(
        "phi3", "rotary scaling by length", "single",
        rope(
            "longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[2.0, 3.0, 4.0, 5.0],
            original_max_position_embeddings=64,
        )
        | {"original_max_position_embeddings": 64, "sliding_window": None}, fast=True,
    ),
    "Phi-MoE": Architecture("phimoe", "mixture of experts", "slots", {"num_local_experts": 4, "sliding_window": None}),
    "Falcon": Architecture("falcon", "several queries, one key", "padded", sizes=NO_KV),
    "Falcon, new architecture": Architecture(
        "falcon", "new decoder architecture", "padded",
        {"new_decoder_architecture": True, "num_kv_heads": 2}, sizes=NO_KV, fast=True,
    ),
    "Falcon, ALiBi": Architecture("falcon", "ALiBi", "padded", {"alibi": True}, sizes=NO_KV, fast=True),
    "Bloom": Architecture(
        "bloom", "ALiBi", "padded", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, sizes={}, fast=True
    ),
    "MPT": Architecture(
        "mpt", "ALiBi", "padded", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}, sizes={}, fast=True
    ),
    "GPT-2": Architecture(
        "gpt2", "learned positions, tied", "slots",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}, sizes={}, fast=True,
    ),
    "GPT-Neo": Architecture(
        "gpt_neo", "window in some layers", "padded",
        {
            "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 512, "window_size": 24,
            "attention_types": [[["global", "local"], 1]],
        },
        sizes={},
    ),
    "GPT-NeoX": Architecture("gpt_neox", "parallel blocks", "slots", sizes=NO_KV),
    "GPT-J": Architecture(
        "gptj", "parallel blocks", "slots",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "rotary_dim": 4}, sizes={},
    ),
    "GPT-BigCode": Architecture(
        "gpt_bigcode", "one key head", "slots", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}, sizes={}
    ),
    "CodeGen": Architecture(
        "codegen", "parallel blocks", "slots",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "rotary_dim": 4}, sizes={},
    ),
    "gpt-oss": Architecture(
        "gpt_oss", "attention sinks, window, experts", "padded",
        {"head_dim": 8, "num_local_experts": 4, "sliding_window": 24},
    ),
    "OPT": Architecture(
        "opt", "learned positions with an offset", "slots",
        {"ffn_dim": 48, "word_embed_proj_dim": 32}, sizes=NO_KV, fast=True,
    ),
    "XGLM": Architecture(
        "xglm", "sinusoidal positions", "padded",
        {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": 512}, sizes={},
    ),
    "BioGPT": Architecture("biogpt", "learned positions", "slots", sizes=NO_KV),
    "Cohere": Architecture("cohere", "logit scale", "padded", {"logit_scale": 0.0625}, fast=True),
    "Cohere 2": Architecture(
        "cohere2", "logit scale, window", "padded", {"sliding_window": 24, "logit_scale": 0.25, "head_dim": 8}
    ),
    "Granite": Architecture(
        "granite", "logit, residual and attention scales", "padded",
        {"logits_scaling": 8.0, "residual_multiplier": 0.5, "embedding_multiplier": 3.0, "attention_multiplier": 0.3},
        fast=True,
    ),
    "Granite-MoE": Architecture(
        "granitemoe", "logit scale, mixture of experts", "padded", {"logits_scaling": 6.0, "num_local_experts": 4}
    ),
    "Granite-MoE-Hybrid": Architecture(
        "granitemoehybrid", "hybrid: Mamba-2, experts", "padded",
        MAMBA | {"layer_types": ["mamba", "attention"], "num_local_experts": 4, "shared_intermediate_size": 32},
    ),
    "OLMo": Architecture("olmo", "norms without weights", "slots"),
    "OLMo 2": Architecture("olmo2", "norms behind the blocks", "slots"),
    "OLMo 3": Architecture(
        "olmo3", "window in some layers", "padded",
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "OLMoE": Architecture("olmoe", "mixture of experts", "slots", {"num_experts": 4, "num_experts_per_tok": 2}),
    "StableLM": Architecture("stablelm", "parts of heads turned", "slots"),
    "Starcoder 2": Architecture("starcoder2", "window", "padded", {"sliding_window": 24}),
    "SmolLM3": Architecture("smollm3", "layers without positions", "slots", {"no_rope_layers": [1, 0]}),
    "Nemotron": Architecture("nemotron", "squared ReLU", "slots"),
    "Persimmon": Architecture("persimmon", "norms of queries and keys", "slots", sizes=NO_KV),
    "GLM": Architecture("glm", "parts of heads turned", "slots", {"head_dim": 8}),
    "GLM-4": Architecture("glm4", "norms behind the blocks", "slots", {"head_dim": 8}),
    "EXAONE 4": Architecture(
        "exaone4", "window in some layers", "padded",
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "Helium": Architecture("helium", "dense", "slots", {"head_dim": 8}),
    "Seed-OSS": Architecture("seed_oss", "dense", "slots", {"head_dim": 8}),
    "Arcee": Architecture("arcee", "squared ReLU", "slots"),
    "ERNIE 4.5": Architecture("ernie4_5", "dense", "slots", {"head_dim": 8}),
    "Hunyuan": Architecture("hunyuan_v1_dense", "norms of queries and keys", "slots", {"head_dim": 8}),
    "DeepSeek-V3": Architecture(
        "deepseek_v3", "latent attention, mixture of experts", "padded",
        {
            "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
            "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
        },
    ),
    "Mamba": Architecture(
        "mamba", "recurrent", "padded",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4}, sizes={}, fast=True,
    ),
    "Mamba-2": Architecture(
        "mamba2", "recurrent", "padded",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1},
        sizes={},
    ),
    "RWKV": Architecture(
        "rwkv", "recurrent", "single",
        {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": 512}, sizes={},
    ),
    "Jamba": Architecture(
        "jamba", "hybrid: Mamba, experts", "padded",
        {
            "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
            "num_experts": 4, "use_mamba_kernels": False, "mamba_d_state": 8, "mamba_dt_rank": 4,
        },
        fast=True,
    ),
    "Bamba": Architecture("bamba", "hybrid: Mamba-2", "padded", MAMBA | {"attn_layer_indices": [1]}),
    "Falcon-H1": Architecture("falcon_h1", "hybrid: Mamba-2 beside attention", "padded", MAMBA | {"mamba_d_ssm": 64}),
    "LFM2": Architecture("lfm2", "hybrid: convolutions", "padded", {"layer_types": ["conv", "full_attention"]}),
    "RecurrentGemma": Architecture(
        "recurrent_gemma", "hybrid: recurrent, window", "single",
        {
            "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 24, "head_dim": 8,
            "block_types": ["recurrent", "recurrent", "attention"],
        },
    ),
}  # fmt: skip

LINES = (
    "<!DOCTYPE html><html><head><title>Bread</title></head><body><h1>Bread and rain</h1><p>Salt.</p></body></html>",
    "Write a page about bread, rivers, clouds, poems, engines, chess, violins, harbours, lamps, wolves and salt.",
    "<table><tr><td>one</td><td>two</td></tr></table><ul><li>three</li></ul> a page of its own with a list of links",
)
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)


def tokenizer(chat: bool = False) -> Any:
    """Return a tokenizer trained on a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    if chat:
        fast.chat_template = TEMPLATE
    return fast


def make(architecture: Architecture, folder: Path) -> Path:
    """Write a random model with its tokenizer into a folder and return it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    words = tokenizer(architecture.chat)
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(
        architecture.kind, **({"vocab_size": len(words)} | ends | architecture.sizes | architecture.more)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def table() -> list[tuple[str, str, str, str]]:
    """Return the rows of the table in docs/models.md."""
    how = {"slots": "ours", "padded": "`generate`, padded batches", "single": "`generate`, one at a time"}
    return [(name, a.kind, a.particular, how[a.decoder]) for name, a in ARCHITECTURES.items()]
