"""Looking at what a model says before it learns: of a few tokens, as it computes, and leaving nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOOKED_AT = 64
"""Tokens of a row."""


@contextlib.contextmanager
def looking_at(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute without dropout and gradients inside the block."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
