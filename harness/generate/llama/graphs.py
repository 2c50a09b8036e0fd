"""CUDA graphs by the shape of what they do, captured when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE


class Graphs:
    """Work of one kind after the other on one stream: its results are good until the next work of any kind."""

    def __init__(self) -> None:
        self._captured: dict[Hashable, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}
        self._memory: _POOL_HANDLE | None = None
        self._beside: torch.cuda.Stream | None = None

    def __contains__(self, key: Hashable) -> bool:
        """Whether the work of a key is captured."""
        return key in self._captured

    def run(self, key: Hashable, work: Callable[[], torch.Tensor], rehearse: Callable[[], object]) -> torch.Tensor:
        """Return what `work` returns.

        Args:
            key: What decides its kernels and their sizes.
            work: Waits for nothing, and reads what changes from the same tensors each time.
            rehearse: Runs outside the capture, once for each key: kernels are compiled and libraries wake up.
        """
        if key not in self._captured:
            self._captured[key] = self._capture(work, rehearse)
        graph, result = self._captured[key]
        graph.replay()
        return result

    def _capture(
        self, work: Callable[[], torch.Tensor], rehearse: Callable[[], object]
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        rehearse()
        torch.cuda.synchronize()
        self._beside = self._beside or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._beside):  # `torch.cuda.graph` would also give back all cached memory each time
            graph.capture_begin(pool=self._memory)
            try:
                result = work()
            finally:
                graph.capture_end()
        self._memory = graph.pool()
        return graph, result
