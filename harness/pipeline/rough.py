"""About how long work takes on a processor where none was measured: a product is timed for a moment, the rest is ratio.

The ratios are those of the embedded model on two cores. They are right within a factor of two on others, which is what
the run calls "roughly"; from its first measured stage on it knows better.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass

from harness.model.gpu_memory import matrix_weights
from harness.model.profile_schema import Shape

_TRAINING, _DECODING = 0.41, 0.25
"""The share of a large product's pace that training and decoding reach: fewer rows, attention, what is no product."""
_ANSWER = 0.5
"""The length of an answer, in limits of new tokens."""
_PAGE, _SELF_TEST, _REPORT = 0.36, 20.0, 0.006
"""Seconds on one core: a page is checked, rendered and scored; metrics are tried on a suite; a row is reported."""
_MEASURED_S = 0.3
_ROWS, _INPUTS, _OUTPUTS = 512, 576, 1536
"""The timed product: a layer of the embedded model on a training batch."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a piece of work takes, wherever it is done."""

    flops: float = 0.0
    """Floating point operations at the pace of the timed product."""
    dtype: str = "float32"
    """The dtype of its products, as torch spells it."""
    core_seconds: float = 0.0
    """Seconds that one core needs for what is no product."""

    def seconds(self) -> float:
        """Return about how long it takes on this machine; times a product when it is first asked."""
        products = self.flops / product_rate(self.dtype) if self.flops else 0.0
        return products + self.core_seconds / (os.cpu_count() or 1)


def training_effort(shape: Shape, dtype: str, tokens: float) -> Effort:
    """Return what learning from so many tokens takes.

    A frozen base costs 4 operations a weight and token: 2 forward, 2 for the gradients of the activations.
    """
    return Effort(4 * matrix_weights(shape) * tokens / _TRAINING, dtype)


def answers_effort(shape: Shape, dtype: str, answers: float, limit: int) -> Effort:
    """Return what so many answers of at most `limit` new tokens take: 2 operations a weight and token."""
    return Effort(2 * matrix_weights(shape) * answers * _ANSWER * limit / _DECODING, dtype)


def pages_effort(pages: float) -> Effort:
    """Return what so many pages take."""
    return Effort(core_seconds=_PAGE * pages)


def self_test_effort(suites: int) -> Effort:
    """Return what the self-tests of so many suites take."""
    return Effort(core_seconds=_SELF_TEST * suites)


def report_effort(rows: int) -> Effort:
    """Return what comparing and reporting so many rows takes; it is done on one core."""
    return Effort(core_seconds=_REPORT * rows * (os.cpu_count() or 1))


@functools.cache
def product_rate(dtype: str) -> float:
    """Return the FLOP/s of a product of that dtype on this machine's processor, timed for a third of a second."""
    import torch

    kind: torch.dtype = getattr(torch, dtype)
    left, right = torch.ones(_ROWS, _INPUTS, dtype=kind), torch.ones(_INPUTS, _OUTPUTS, dtype=kind)
    left @ right  # the first one makes ready
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _MEASURED_S:
        left @ right
        count += 1
    return 2.0 * _ROWS * _INPUTS * _OUTPUTS * count / (time.perf_counter() - started)
