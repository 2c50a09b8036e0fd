"""Which kernels there are for a device, and what those for CUDA share."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import torch

_ENOUGH_BLOCKS = 512
"""Attention splits rows until it has about this many blocks: a few for each multiprocessor of a large card."""
_MOST_SPLITS = 16


def attention_splits(rows: int, narrow: int) -> int:
    """Return into how many parts each row is split, so that few rows keep the GPU busy: a power of two."""
    splits = 1
    while rows * narrow * splits < _ENOUGH_BLOCKS and splits < _MOST_SPLITS:
        splits *= 2
    return splits


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
