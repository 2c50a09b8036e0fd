"""Attention of our own inside a transformers model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

P = ParamSpec("P")
Q = ParamSpec("Q")

_OWN: dict[int, str] = {}
"""By the id of a config: how its model attends outside, while it attends otherwise."""


@contextlib.contextmanager
def attending_by(
    model: PreTrainedModel,
    name: str,
    attention: Callable[P, tuple[torch.Tensor, torch.Tensor | None]],
    mask: Callable[Q, torch.Tensor | None],
) -> Iterator[None]:
    """Let the model attend by `attention`, with masks made by `mask`, inside the block.

    Args:
        model: A model of transformers, unwrapped.
        name: What both are registered as with transformers.
        attention: An attention function of transformers' signature.
        mask: One of transformers' mask functions.
    """
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, mask)
    before = model.config._attn_implementation
    _OWN.setdefault(id(model.config), before)
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before
        if _OWN[id(model.config)] == before:
            del _OWN[id(model.config)]


def own_attention(config: PretrainedConfig) -> str:
    """Return how a model attends outside all blocks of `attending_by`, as it was loaded."""
    return str(_OWN.get(id(config), config._attn_implementation))
