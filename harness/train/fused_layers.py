"""The same layers in fewer kernels and with less kept for the backward pass: in 16 bit on a GPU, or on a CPU.

PEFT's LoRA layer casts its input to the adapter's float32 and back, and scales and adds in kernels of their own, each
of which reads and writes whole activations. Llama's RMSNorm takes six kernels and keeps float32 copies. Llama's rotary
positions and its gate are Liger's kernels (Hsu et al. 2024, arXiv:2410.10989) where liger-kernel is installed; its own
patching is not used, because it cannot be taken off again and would stay on the base that is measured.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional
from transformers.models.llama import modeling_llama

from harness.train.fused_lora import LoraGroup, LoraLinear, PlainLora, plain_lora
from harness.train.torch_ops import GatedUnit, Rotary

Forward = Callable[..., Any]


@contextlib.contextmanager
def lean_layers(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[int]:
    """Let LoRA layers, Llama's layers, RMSNorms and gates compute leanly in `dtype` inside the block; yield how many.

    LoRA layers of a kind that is not plain LoRA around a linear layer stay as they are.
    """
    leaned: list[Any] = []
    fused = fused_kernels_available()
    with contextlib.ExitStack() as stack:
        if fused:
            stack.enter_context(lean_rotary())
        stack.callback(lambda: [module.__dict__.pop("forward") for module in leaned])
        for module in model.modules():
            forward = (
                _lean_lora(module, dtype)
                or _lean_norm(module)
                or _lean_block(module, dtype, stack, fused)
                or (_lean_gate(module) if fused else None)
            )
            if forward is not None:
                module.forward = forward
                leaned.append(module)
        yield len(leaned)


def fused_kernels_available() -> bool:
    """Return whether liger-kernel is installed and has a GPU to run on."""
    return torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None


@contextlib.contextmanager
def lean_rotary() -> Iterator[None]:
    """Let Llama models turn queries and keys in one kernel, in place, inside the block."""
    from liger_kernel.ops.rope import LigerRopeFunction

    own = modeling_llama.apply_rotary_pos_emb
    modeling_llama.apply_rotary_pos_emb = LigerRopeFunction.apply
    try:
        yield
    finally:
        modeling_llama.apply_rotary_pos_emb = own


def _lean_block(layer: Any, dtype: torch.dtype, stack: contextlib.ExitStack, fused: bool) -> Forward | None:
    """Llama's layer with a norm and the products behind it in one, and residuals added by products.

    None where one of its linear layers or norms is something else. When it answers, it stays as it is.
    """
    if type(layer).__name__ != "LlamaDecoderLayer" or layer.mlp.config.hidden_act != "silu":
        return None
    attention, mlp, norms = layer.self_attn, layer.mlp, (layer.input_layernorm, layer.post_attention_layernorm)
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    found = [plain_lora(getattr(attention, name, None) or getattr(mlp, name)) for name in names]
    linear = [plain for plain in found if plain is not None and plain.weight.dtype in (dtype, torch.float32)]
    if len(linear) < len(names) or any(type(n).__name__ != "LlamaRMSNorm" or n.weight.requires_grad for n in norms):
        return None
    residual_dtype = linear[0].weight.dtype
    query_key_value, out, gate_up, down = (LoraGroup(linear[a:b], dtype) for a, b in ((0, 3), (3, 4), (4, 6), (6, 7)))
    for group in (query_key_value, out, gate_up, down):
        stack.enter_context(group.widened())
    own, heads_of = layer.forward, _heads_on_cpu if query_key_value.on_cpu else _heads

    def forward(hidden_states: torch.Tensor, position_embeddings: Any = None, **kwargs: Any) -> Any:
        if not layer.training or hidden_states.dtype != residual_dtype or any(plain.off for plain in linear):
            return own(hidden_states, position_embeddings=position_embeddings, **kwargs)
        with torch.autocast(hidden_states.device.type, enabled=False):
            parts, residual = query_key_value.normed(hidden_states, norms[0].weight, norms[0].variance_epsilon)
            query, key, value = heads_of(attention, parts, position_embeddings)
            attend = modeling_llama.ALL_ATTENTION_FUNCTIONS.get_interface(
                attention.config._attn_implementation, modeling_llama.eager_attention_forward
            )
            kwargs = {"attention_mask": None, **kwargs, "scaling": attention.scaling}
            attended, _ = attend(attention, query, key, value, dropout=attention.attention_dropout, **kwargs)
            hidden = out.added(attended.flatten(-2), residual)
            parts, residual = gate_up.normed(hidden, norms[1].weight, norms[1].variance_epsilon)
            return down.added(_gated(parts, fused), residual)

    return forward


def _heads(
    attention: Any, parts: list[torch.Tensor], positions: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Return query, key and value with heads in front, the first two turned by their positions."""
    query, key, value = (part.view(*part.shape[:-1], -1, attention.head_dim).transpose(1, 2) for part in parts)
    return *modeling_llama.apply_rotary_pos_emb(query, key, *positions), value


def _heads_on_cpu(
    attention: Any, parts: list[torch.Tensor], positions: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """As `_heads`, of one matrix that holds all three, in float32."""
    (part,), half = parts, attention.head_dim // 2
    keys = attention.config.num_key_value_heads
    queries = attention.config.num_attention_heads
    cos, sin = (table[..., :half].expand(*part.shape[:-1], -1).reshape(-1, 1, half).float() for table in positions)
    turned = part.reshape(-1, queries + 2 * keys, attention.head_dim), cos, sin, queries + keys
    heads: torch.Tensor = Rotary.apply(*turned)  # type: ignore[no-untyped-call]
    apart = heads.view(*part.shape[:-1], -1, attention.head_dim).transpose(1, 2)
    return torch.split(apart, [queries, keys, keys], 1)


def _lean_gate(module: Any) -> Forward | None:
    if type(module).__name__ != "LlamaMLP" or module.config.hidden_act != "silu":
        return None

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return module.down_proj(_gated([module.gate_proj(hidden), module.up_proj(hidden)], fused=True))  # type: ignore[no-any-return]

    return forward


def _gated(parts: list[torch.Tensor], fused: bool) -> torch.Tensor:
    if len(parts) == 1:
        return GatedUnit.apply(*parts)  # type: ignore[no-any-return, no-untyped-call]
    gate, up = parts
    if not fused:
        return functional.silu(gate) * up
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return LigerSiLUMulFunction.apply(gate, up)  # type: ignore[no-any-return]


def _lean_lora(module: Any, dtype: torch.dtype) -> Forward | None:
    plain = plain_lora(module)
    if plain is not None:
        return _fused_lora(plain, dtype)
    names = list(getattr(module, "lora_A", ()))
    if len(names) != 1 or module.merged or getattr(module, "lora_variant", None):
        return None
    (name,) = names
    base, down, up = module.get_base_layer(), module.lora_A[name], module.lora_B[name]
    if not isinstance(base, torch.nn.Linear) or down.bias is not None or up.bias is not None:
        return None
    scaling, dropout = float(module.scaling[name]), module.lora_dropout[name]

    def forward(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        result: torch.Tensor = base(hidden)
        if module.disable_adapters:
            return result
        inner = functional.linear(dropout(hidden).to(dtype), down.weight.to(dtype))
        flat = torch.addmm(
            result.reshape(-1, result.shape[-1]).to(dtype),
            inner.reshape(-1, inner.shape[-1]),
            up.weight.to(dtype).t(),
            alpha=scaling,
        )
        return flat.view(result.shape)

    return forward


def _fused_lora(layer: PlainLora, dtype: torch.dtype) -> Forward:
    def forward(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if layer.off:
            return functional.linear(hidden, layer.weight)
        with torch.autocast(hidden.device.type, enabled=False):
            flat = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
            factors = (layer.weight.to(dtype), layer.down.to(dtype), layer.up.to(dtype))
            out: torch.Tensor = LoraLinear.apply(flat, *factors, layer.scaling)  # type: ignore[no-untyped-call]
        return out.view(*hidden.shape[:-1], -1)

    return forward


def _lean_norm(module: Any) -> Forward | None:
    if type(module).__name__ != "LlamaRMSNorm":
        return None

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            weight = module.weight.to(hidden.dtype)
            return functional.rms_norm(hidden, (hidden.shape[-1],), weight, module.variance_epsilon)

    return forward
