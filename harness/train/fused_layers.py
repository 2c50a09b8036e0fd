"""The same layers in fewer kernels and with less kept for the backward pass, for training in 16 bit on a GPU.

PEFT's LoRA layer casts its input to the adapter's float32 and back, and scales and adds in kernels of their own, each
of which reads and writes whole activations. Llama's RMSNorm takes six kernels and keeps float32 copies. Llama's rotary
positions and its gate are Liger's kernels (Hsu et al. 2024, arXiv:2410.10989) where liger-kernel is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional


@contextlib.contextmanager
def lean_layers(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[int]:
    """Let LoRA layers, RMSNorms and gates compute leanly in `dtype` inside the block; yield how many modules do.

    LoRA layers of a kind that is not plain LoRA around a linear layer stay as they are.
    """
    leaned: list[Any] = []
    fused = fused_kernels_available()
    try:
        with lean_rotary() if fused else contextlib.nullcontext():
            for module in model.modules():
                forward = _lean_lora(module, dtype) or _lean_norm(module) or (_lean_gate(module) if fused else None)
                if forward is not None:
                    module.forward = forward
                    leaned.append(module)
            yield len(leaned)
    finally:
        for module in leaned:
            del module.forward


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


def _lean_gate(module: Any) -> Callable[..., torch.Tensor] | None:
    if type(module).__name__ != "LlamaMLP" or module.config.hidden_act != "silu":
        return None
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        gated = LigerSiLUMulFunction.apply(module.gate_proj(hidden), module.up_proj(hidden))
        return module.down_proj(gated)  # type: ignore[no-any-return]

    return forward


class LoraLinear(torch.autograd.Function):
    """x Wᵀ + s (x Aᵀ) Bᵀ with a frozen W, where both sums, forward and backward, are made by the matrix products.

    Shapes: x (tokens, in), W (out, in), A (rank, in), B (out, rank), all of one dtype; the result is (tokens, out).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Return the layer's output."""
        inner = hidden @ down.t()
        ctx.save_for_backward(hidden, weight, down, up, inner)
        ctx.scaling = scaling
        return (hidden @ weight.t()).addmm_(inner, up.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients of x, A and B."""
        (gradient,) = gradients
        hidden, weight, down, up, inner = ctx.saved_tensors
        of_inner = (gradient @ up).mul_(ctx.scaling)
        of_hidden = (gradient @ weight).addmm_(of_inner, down) if ctx.needs_input_grad[0] else None
        return of_hidden, None, of_inner.t() @ hidden, (gradient.t() @ inner).mul_(ctx.scaling), None


def _lean_lora(module: Any, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
    names = list(getattr(module, "lora_A", ()))
    if len(names) != 1 or module.merged or getattr(module, "lora_variant", None):
        return None
    (name,) = names
    base, down, up = module.get_base_layer(), module.lora_A[name], module.lora_B[name]
    if not isinstance(base, torch.nn.Linear) or down.bias is not None or up.bias is not None:
        return None
    scaling, dropout = float(module.scaling[name]), module.lora_dropout[name]
    if type(base) is torch.nn.Linear and base.bias is None and isinstance(dropout, torch.nn.Identity):
        return _fused_lora(module, base.weight, down, up, scaling, dtype)

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


def _fused_lora(
    module: Any, weight: torch.Tensor, down: Any, up: Any, scaling: float, dtype: torch.dtype
) -> Callable[..., torch.Tensor]:
    def forward(hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if module.disable_adapters:
            return functional.linear(hidden, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            flat = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
            factors = (weight.to(dtype), down.weight.to(dtype), up.weight.to(dtype))
            out: torch.Tensor = LoraLinear.apply(flat, *factors, scaling)  # type: ignore[no-untyped-call]
        return out.view(*hidden.shape[:-1], -1)

    return forward


def _lean_norm(module: Any) -> Callable[..., torch.Tensor] | None:
    if type(module).__name__ != "LlamaRMSNorm":
        return None

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            weight = module.weight.to(hidden.dtype)
            return functional.rms_norm(hidden, (hidden.shape[-1],), weight, module.variance_epsilon)

    return forward
