"""What GPUs hold, and what a model's weights take there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.model.profile_schema import Shape
from harness.types import GpuName

GIB = 2**30


WORKSPACE = int(0.45 * GIB)
"""Products, a piece of the logits, unpacked matrices in passing. Measured."""


USABLE = 0.92
"""The share of a card's memory that tensors get: the rest goes to the CUDA context and to gaps. Measured."""


H100_BANDWIDTH = 3.35e12


NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Per weight: 4 bit, an 8-bit scale for each 64, a 32-bit one for 256 of those (Dettmers et al. 2023, section 3)."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its data sheet."""

    name: str
    memory: int
    """Bytes that a program can see."""
    flops: float
    """Dense 16-bit FLOP/s of the matrix units."""
    bandwidth: float
    """Bytes per second."""
    modern: bool
    """bfloat16 and flash attention: Ampere and later."""


CARDS: Mapping[GpuName, Card] = {
    "t4": Card("T4", int(14.6 * GIB), 65e12, 0.32e12, modern=False),
    "l4": Card("L4", int(22.0 * GIB), 121e12, 0.30e12, modern=True),
    "a10": Card("A10", int(22.0 * GIB), 125e12, 0.60e12, modern=True),
    "a100": Card("A100 40 GB", int(39.4 * GIB), 312e12, 1.56e12, modern=True),
    "h100": Card("H100 80 GB", int(79.1 * GIB), 989e12, H100_BANDWIDTH, modern=True),
}


def linear_weights(shape: Shape) -> int:
    """Return the number of weights in the linear layers of all blocks: what is quantised and what LoRA adapts."""
    return shape.num_hidden_layers * sum(inputs * outputs for inputs, outputs in linear_sizes(shape).values())


def matrix_weights(shape: Shape) -> int:
    """Return N of the FLOP counts: the weights of all linear layers and of the head."""
    return linear_weights(shape) + shape.vocab_size * shape.hidden_size


def linear_sizes(shape: Shape) -> dict[str, tuple[int, int]]:
    """Return (inputs, outputs) of each linear layer of a block, by its place there."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    narrow = hidden * shape.num_key_value_heads // shape.num_attention_heads
    return {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, narrow),
        "self_attn.v_proj": (hidden, narrow),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }


def checkpoint_bytes(shape: Shape) -> int:
    """Return the size of the 16-bit weights that are fetched."""
    tables = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return 2 * (linear_weights(shape) + tables)


def this_card() -> Card | None:
    """Return this machine's GPU: its own memory, the speed of the nearest card known; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    modern = properties.major >= 8
    known = [card for key, card in CARDS.items() if key in name.lower().replace("-", " ").split()]
    similar = known[0] if known else CARDS["a10" if modern else "t4"]
    if "h200" in name.lower():
        similar = CARDS["h100"]
    return replace(similar, name=name, memory=properties.total_memory, modern=modern)
