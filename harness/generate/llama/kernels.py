"""Which kernels there are for this machine's GPU."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch


def kernels_here() -> ModuleType:
    """Return `triton_ops` where Triton is installed and knows the GPU, else `cuda_ops`: the same functions."""
    if importlib.util.find_spec("triton") is not None and torch.cuda.get_device_capability() >= (8, 0):
        from harness.generate.llama import triton_ops

        return triton_ops
    from harness.generate.llama import cuda_ops

    return cuda_ops
