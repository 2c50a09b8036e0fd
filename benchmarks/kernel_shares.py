"""Sorts what a GPU did while a program was watched by torch's profiler into kinds of work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention", ("flash", "fmha", "varlen", "attention")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk", "wgmma")),
    ("unpacking of 4 bit", ("dequant",)),
    ("gate and rotary positions", ("swiglu", "silu", "rope")),
    ("norms", ("norm",)),
    ("loss", ("nll", "softmax", "logsumexp", "cross_entropy")),
    ("optimiser", ("adam", "multi_tensor")),
    ("copies and casts", ("memcpy", "memset", "copy", "catarray")),
    ("other elementwise and sums", ("elementwise", "reduce", "index", "scatter", "gather", "triton")),
)
"""A kernel is of the first kind whose words its name holds; names are those of torch 2.11 on Hopper and Ampere."""


def kind_of(kernel: str) -> str:
    """Return the kind of work that a kernel of that name does, `other` where no word fits."""
    name = kernel.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), "other")


def shares(times: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return each kind's share of the summed time of (kernel, time), largest first."""
    by_kind: dict[str, float] = {}
    for kernel, spent in times:
        by_kind[kind_of(kernel)] = by_kind.get(kind_of(kernel), 0.0) + spent
    total = sum(by_kind.values()) or 1.0
    return {kind: round(spent / total, 4) for kind, spent in sorted(by_kind.items(), key=lambda item: -item[1])}


class Watch:
    """torch's profiler over a stretch of a program: `start`, `stop`, then `result`."""

    def __init__(self) -> None:
        activity = torch.profiler.ProfilerActivity
        self._gpu = torch.cuda.is_available()
        self._profiler = torch.profiler.profile(activities=[activity.CUDA if self._gpu else activity.CPU])

    def start(self) -> None:
        """Begin to watch."""
        self._profiler.start()
        self._began = time.perf_counter()

    def stop(self) -> None:
        """End, once the GPU has done what it was told."""
        if self._gpu:
            torch.cuda.synchronize()
        self._seconds = time.perf_counter() - self._began
        self._profiler.stop()

    def result(self) -> dict[str, Any]:
        """Return the shares by kind, the largest kernels with theirs, and the share of time that the GPU was busy."""
        name = "self_device_time_total" if self._gpu else "self_cpu_time_total"
        events = self._profiler.key_averages()
        times = sorted(((event.key, float(getattr(event, name))) for event in events), key=lambda item: -item[1])
        busy = sum(spent for _, spent in times) or 1.0
        return {
            "busy": round(busy / 1e6 / self._seconds, 4),
            "shares": shares(times),
            "kernels": {kernel[:90]: [kind_of(kernel), round(spent / busy, 4)] for kernel, spent in times[:25]},
        }
