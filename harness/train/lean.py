"""The same layers in fewer kernels and with less kept for the backward pass, for training in 16 bit on a GPU.

PEFT's LoRA layer casts its input to the adapter's float32 and back, and scales and adds in kernels of their own, each
of which reads and writes whole activations. Llama's RMSNorm takes six kernels and keeps float32 copies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional


@contextlib.contextmanager
def lean_layers(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[int]:
    """Let LoRA layers and RMSNorms compute leanly in `dtype` inside the block; yield how many do.

    LoRA layers of a kind that is not plain LoRA around a linear layer stay as they are.
    """
    leaned: list[Any] = []
    try:
        for module in model.modules():
            forward = _lean_lora(module, dtype) or _lean_norm(module)
            if forward is not None:
                module.forward = forward
                leaned.append(module)
        yield len(leaned)
    finally:
        for module in leaned:
            del module.forward


def _lean_lora(module: Any, dtype: torch.dtype) -> Callable[..., torch.Tensor] | None:
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


def _lean_norm(module: Any) -> Callable[..., torch.Tensor] | None:
    if type(module).__name__ != "LlamaRMSNorm":
        return None

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            weight = module.weight.to(hidden.dtype)
            return functional.rms_norm(hidden, (hidden.shape[-1],), weight, module.variance_epsilon)

    return forward
