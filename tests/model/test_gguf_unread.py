"""GGUF files whose rotary scaling or tensors transformers does not read, against the model that they are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, Phi3Config, Starcoder2Config

from harness.errors import HarnessError
from harness.model.gguf_unread import set_rotary, set_window
from tests.conftest import load_fp32
from tests.model.kinds import write_base

LAYERS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LLAMA_3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
More = Callable[[gguf.GGUFWriter], None]
NOTHING: More = lambda writer: None  # noqa: E731


def name_of(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, _, number, layer = stem.split(".", 3)
    return f"blk.{number}.{LAYERS[layer]}.{kind}"


def turned(weight: np.ndarray, heads: int) -> np.ndarray:
    """The order in which llama.cpp keeps what rotary positions turn."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(folder: Path, path: Path, more: More, left_out: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, writer = model.config, gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    words = ["<pad>", "<s>", "</s>", *(f"w{number}" for number in range(config.vocab_size - 6)), "a", "b", "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, *[1] * (len(words) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    more(writer)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = turned(values, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        if name != left_out:
            writer.add_tensor(name_of(name), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def difference(tmp_path: Path, more: More = NOTHING, left_out: str = "", **config: Any) -> float:
    """How far the logits of the converted model are from those of the model that the file was written from."""
    folder = write_base(tmp_path / "model", **{"attention_bias": False, "max_position_embeddings": 2048} | config)
    write_gguf(folder, tmp_path / "model.gguf", more, left_out)
    ids = torch.randint(3, 200, (1, 300), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        right = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        found = load_fp32(tmp_path / "model.gguf").model(ids).logits
    return float((right - found).std() / right.std())


def scaled(kind: gguf.RopeScalingType, original: int | None = None) -> More:
    def write(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(kind)
        writer.add_rope_scaling_factor(4.0)
        if original is not None:
            writer.add_rope_scaling_orig_ctx_len(original)

    return write


def with_tensor(name: str, values: list[float]) -> More:
    return lambda writer: writer.add_tensor(name, np.array(values, dtype=np.float32))


def guessing_further(writer: gguf.GGUFWriter) -> None:
    """A layer behind the others, as Qwen3.5's and GLM's files hold one."""
    for name in ("nextn.eh_proj", "attn_norm", "ffn_up"):
        writer.add_tensor(f"blk.2.{name}.weight", np.ones((4, 4), dtype=np.float32))


def llama_3_factors() -> list[float]:
    """As llama.cpp's converter works them out."""
    found = []
    for place in range(0, 8, 2):
        length = 2 * math.pi * LLAMA_3["rope_theta"] ** (place / 8)
        if length < 8192 / 4:
            found.append(1.0)
        elif length > 8192:
            found.append(32.0)
        else:
            smooth = (8192 / length - 1) / 3
            found.append(1 / ((1 - smooth) / 32 + smooth))
    return found


@pytest.mark.parametrize(
    ("more", "config"),
    [
        (NOTHING, {}),
        (NOTHING, {"tie_word_embeddings": True}),
        (guessing_further, {}),
        (with_tensor("rope_freqs.weight", [1.0] * 4), {}),
        (with_tensor("rope_freqs.weight", llama_3_factors()), {"rope_parameters": LLAMA_3}),
        (
            scaled(gguf.RopeScalingType.LINEAR),
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        ),
        (
            scaled(gguf.RopeScalingType.YARN, 512),
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 10000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 512,
                }
            },
        ),
    ],
    ids=["plain", "tied", "further-tokens", "ones", "llama3", "linear", "yarn"],
)
def test_rotary_scaling_is_the_model_s(own_cache: Path, tmp_path: Path, more: More, config: dict[str, Any]) -> None:
    assert difference(tmp_path, more, **config) < 1e-5


@pytest.mark.parametrize(
    ("more", "left_out", "config", "why"),
    [
        (with_tensor("rope_freqs.weight", [1.0, 2.0, 3.0, 4.0]), "", {}, "its rotary factors are none of Llama 3's"),
        (with_tensor("rope_factors_long.weight", [1.0] * 4), "", {}, "its rotary scaling depends on the length"),
        (scaled(gguf.RopeScalingType.LONGROPE), "", {}, r"its rotary scaling \(longrope\) is not read"),
        (NOTHING, "", {"attention_bias": True}, "it holds 35,360 numbers, and transformers' model has a place for"),
        (NOTHING, "model.layers.1.mlp.up_proj.weight", {}, r"lacks weights: model\.layers\.1\.mlp\.up_proj\.weight"),
    ],
    ids=["factors", "by-length", "longrope", "biases", "missing"],
)
def test_what_would_be_left_unread_is_refused(
    own_cache: Path, tmp_path: Path, more: More, left_out: str, config: dict[str, Any], why: str
) -> None:
    with pytest.raises(HarnessError, match=rf"model\.gguf .*{why}"):
        difference(tmp_path, more, left_out, **config)
    assert not [path for path in own_cache.rglob("*") if path.suffix == ".safetensors"]


def header(path: Path, architecture: str, more: More) -> gguf.GGUFReader:
    writer = gguf.GGUFWriter(str(path), architecture)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.GGUFReader(path)


def test_gemma_3_scales_the_layers_without_a_window_alone(tmp_path: Path) -> None:
    """As of its sizes from 4B on, whose config in safetensors says so."""
    config = Gemma3TextConfig()
    set_rotary(config, header(tmp_path / "model.gguf", "gemma3", scaled(gguf.RopeScalingType.LINEAR)))
    assert config.rope_parameters == {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 4.0},
    }


def test_a_rotary_base_that_transformers_passes_over_is_read(tmp_path: Path) -> None:
    config = Starcoder2Config()
    set_rotary(config, header(tmp_path / "model.gguf", "starcoder2", lambda writer: writer.add_rope_freq_base(1e6)))
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 1e6}


@pytest.mark.parametrize(("written", "window"), [(2047, 2047), (0, None)])
def test_a_window_that_transformers_passes_over_is_read(tmp_path: Path, written: int, window: int | None) -> None:
    """Of Phi-3 mini; Phi-4 has none, which its file says as 0."""
    config = Phi3Config()
    set_window(config, header(tmp_path / "model.gguf", "phi3", lambda writer: writer.add_sliding_window(written)))
    assert config.sliding_window == window
