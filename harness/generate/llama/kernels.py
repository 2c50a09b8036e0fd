"""Which kernels there are for a device."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch


def kernels_for(device: torch.device) -> ModuleType:
    """Return what a model on this device goes through between its products, the same functions each.

    On a GPU `triton_ops` where Triton is installed and knows it, else `cuda_ops`; elsewhere `torch_ops`.
    """
    if device.type != "cuda":
        from harness.generate.llama import torch_ops

        return torch_ops
    if importlib.util.find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (8, 0):
        from harness.generate.llama import triton_ops

        return triton_ops
    from harness.generate.llama import cuda_ops

    return cuda_ops
