"""Writes a checkpoint of Llama-2's shape with random weights, for measuring speed and memory where no hub is reached.

    python benchmarks/llama_shape.py FOLDER --tokenizer FOLDER [--shape 7b|tiny] [--adapter FOLDER]

The folder then loads like the original: bfloat16 safetensors in shards, `config.json`, and the tokenizer's files copied
from `--tokenizer` (a folder with Llama-2's `tokenizer.json` and `tokenizer_config.json`). `--adapter`
writes a random LoRA adapter for all linear layers beside it. Random weights say nothing and never stop by themselves:
whoever measures with them fixes the lengths.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

SHARD_BYTES = 2 * 10**9
SHAPES: dict[str, dict[str, int]] = {
    # Touvron et al. 2023, Llama 2, as in the 7B checkpoint's own config.json
    "7b": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    "tiny": {
        "vocab_size": 32000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 4096,
    },
}


def llama_config(shape: str) -> Any:
    """Return transformers' LlamaConfig of one of SHAPES, with Llama-2's special tokens."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **SHAPES[shape],
        bos_token_id=1,
        eos_token_id=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def write_checkpoint(folder: Path, tokenizer: Path, shape: str = "7b", seed: int = 0) -> Path:
    """Write config, random bfloat16 weights (normal, standard deviation 0.02) and the tokenizer; return the folder.

    The weights are drawn on the GPU where there is one. 7b takes 13.5 GB of disk. What is there already stays.
    """
    from safetensors.torch import save_file
    from transformers import GenerationConfig, LlamaForCausalLM

    whole = folder / "generation_config.json"
    if whole.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = llama_config(shape)
    with torch.device("meta"):
        empty = LlamaForCausalLM(config).state_dict()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in empty.items():
        size = tensor.numel() * 2
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    files = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        drawn = {name: _draw(name, empty[name].shape, generator) for name in names}
        save_file(drawn, folder / file, metadata={"format": "pt"})
        files.update(dict.fromkeys(names, file))
    total = sum(tensor.numel() * 2 for tensor in empty.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    for part in tokenizer.glob("tokenizer*"):
        shutil.copy(part, folder)
    GenerationConfig(bos_token_id=1, eos_token_id=2).save_pretrained(folder)
    return folder


def _draw(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if name.endswith("norm.weight"):
        return torch.ones(shape, dtype=torch.bfloat16)
    drawn = torch.empty(shape, dtype=torch.bfloat16, device=generator.device)
    return drawn.normal_(std=0.02, generator=generator).cpu()


def write_adapter(folder: Path, base: Path, shape: str = "7b", rank: int = 16, seed: int = 1) -> Path:
    """Write a random, non-zero LoRA adapter for all linear layers of a checkpoint of that shape; return the folder."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    from harness.model.gpu_memory import linear_sizes
    from harness.model.profile_schema import Shape

    folder.mkdir(parents=True, exist_ok=True)
    sizes = SHAPES[shape]
    linear = linear_sizes(Shape.model_validate({name: sizes[name] for name in sizes if name in Shape.model_fields}))
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(sizes["num_hidden_layers"]):
        for name, (inputs, outputs) in linear.items():
            place = f"base_model.model.model.layers.{layer}.{name}"
            weights[f"{place}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * 0.02
            weights[f"{place}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * 0.02
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=sorted({name.split(".")[1] for name in linear}),
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base),
        inference_mode=True,
    ).save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--adapter", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    write_checkpoint(arguments.folder, arguments.tokenizer, arguments.shape)
    if arguments.adapter:
        write_adapter(arguments.adapter, arguments.folder, arguments.shape)
    print(f"{arguments.folder}: shape {arguments.shape}, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
