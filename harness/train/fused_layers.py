"""The same layers in fewer kernels and with less kept for the backward pass, for training in 16 bit on a GPU.

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

from harness.train.fused_lora import LoraGroup, LoraLinear, PlainLora, plain_lora

Forward = Callable[..., Any]


@contextlib.contextmanager
def lean_layers(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[int]:
    """Let LoRA layers, attention, RMSNorms and gates compute leanly in `dtype` inside the block; yield how many do.

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
                or _lean_attention(module, dtype, stack)
                or _lean_gate(module, dtype, stack, fused)
            )
            if forward is not None:
                module.forward = forward  # type: ignore[assignment]
                leaned.append(module)
        yield len(leaned)


def fused_kernels_available() -> bool:
    """Return whether liger-kernel is installed and has a GPU to run on."""
    return torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None


@contextlib.contextmanager
def lean_rotary() -> Iterator[None]:
    """Let Llama models turn queries and keys in one kernel, in place, inside the block."""
    from liger_kernel.ops.rope import LigerRopeFunction
    from transformers.models.llama import modeling_llama

    own = modeling_llama.apply_rotary_pos_emb
    modeling_llama.apply_rotary_pos_emb = LigerRopeFunction.apply
    try:
        yield
    finally:
        modeling_llama.apply_rotary_pos_emb = own


def _group(members: list[Any], dtype: torch.dtype, stack: contextlib.ExitStack) -> LoraGroup | None:
    """Return the layers as a group, widened until the stack is left; None where one of them is something else."""
    layers = [layer for layer in map(plain_lora, members) if layer is not None and layer.weight.dtype == dtype]
    if len(layers) != len(members):
        return None
    group = LoraGroup(layers)
    stack.enter_context(group.widened())
    return group


def _lean_attention(module: Any, dtype: torch.dtype, stack: contextlib.ExitStack) -> Forward | None:
    """Llama's attention with query, key and value from one group; with a cache, as in answering, it stays as it is."""
    if type(module).__name__ != "LlamaAttention":
        return None
    group = _group([module.q_proj, module.k_proj, module.v_proj], dtype, stack)
    if group is None:
        return None
    from transformers.models.llama import modeling_llama

    own = module.forward

    def forward(
        hidden_states: torch.Tensor, position_embeddings: Any = None, attention_mask: Any = None, **kwargs: Any
    ) -> Any:
        if not module.training or any(layer.off for layer in group.layers):
            return own(
                hidden_states, position_embeddings=position_embeddings, attention_mask=attention_mask, **kwargs
            )
        with torch.autocast(hidden_states.device.type, enabled=False):
            parts = group(hidden_states)
        query, key, value = (part.unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for part in parts)
        query, key = modeling_llama.apply_rotary_pos_emb(query, key, *position_embeddings)
        attend = modeling_llama.ALL_ATTENTION_FUNCTIONS.get_interface(
            module.config._attn_implementation, modeling_llama.eager_attention_forward
        )
        dropout = module.attention_dropout
        out, weights = attend(
            module, query, key, value, attention_mask, dropout=dropout, scaling=module.scaling, **kwargs
        )
        return module.o_proj(out.flatten(-2)), weights

    return forward


def _lean_gate(module: Any, dtype: torch.dtype, stack: contextlib.ExitStack, fused: bool) -> Forward | None:
    if type(module).__name__ != "LlamaMLP" or module.config.hidden_act != "silu":
        return None
    group = _group([module.gate_proj, module.up_proj], dtype, stack)
    if group is None and not fused:
        return None

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        if group is None or not module.training or any(layer.off for layer in group.layers):
            gate, up = module.gate_proj(hidden), module.up_proj(hidden)
        else:
            with torch.autocast(hidden.device.type, enabled=False):
                gate, up = group(hidden)
        return module.down_proj(_gated(gate, up, fused))  # type: ignore[no-any-return]

    return forward


def _gated(gate: torch.Tensor, up: torch.Tensor, fused: bool) -> torch.Tensor:
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
