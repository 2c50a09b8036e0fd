"""The head at the positions of labels alone, with its gradient worked out on the way.

trl's own multiplies all positions by the vocabulary where there is no Triton, and again in the backward pass. The
gradient of a token's log-probability, (1[label] − p) W, needs nothing that comes later but a factor.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch

from harness.train.data import IGNORED_LABEL

TOKENS = 512
"""Positions whose logits are held at once: 100 MB in float32 at 49,152 words."""
ROWS = 16
"""Positions that are looked at together: their logits stay in a processor's cache meanwhile."""


class LabelLogProbs(torch.autograd.Function):
    """Log-probabilities of labels, with entropies and hits for the log."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return three vectors: log p(label), entropy in nats, whether the label is the likeliest token.

        Args:
            ctx: Of autograd.
            hidden: (tokens, hidden).
            weight: (vocabulary, hidden), frozen; in the dtype of the product.
            labels: (tokens).
        """
        found = []
        of_hidden = torch.empty(hidden.shape, dtype=torch.float32, device=hidden.device)
        for part, wanted, gradient in zip(
            *(torch.split(whole, TOKENS) for whole in (hidden, labels, of_hidden)), strict=True
        ):
            logits = part.to(weight.dtype) @ weight.t()
            found += [
                _probabilities(*rows)
                for rows in zip(*(torch.split(whole, ROWS) for whole in (logits, wanted)), strict=True)
            ]
            gradient.copy_(logits @ weight).neg_()
        ctx.save_for_backward(of_hidden)
        ctx.dtype = hidden.dtype
        log_probs, entropies, hits = (torch.cat(parts) for parts in zip(*found, strict=True))
        ctx.mark_non_differentiable(entropies, hits)
        return log_probs, entropies, hits

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient of the hidden states."""
        (of_hidden,) = ctx.saved_tensors
        return (of_hidden * gradients[0][:, None]).to(ctx.dtype), None, None


def _probabilities(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return log p(label), entropy and hits; p, less one at the label, takes the place of the logits."""
    log_p = torch.log_softmax(logits, -1, dtype=torch.float32)
    chosen, best = log_p.gather(-1, labels[:, None]), log_p.amax(-1)
    p = log_p.exp()
    entropy = log_p.mul_(p).sum(-1).neg_()
    logits.copy_(p.scatter_add_(-1, labels[:, None], p.new_full((len(p), 1), -1.0)))
    return chosen[:, 0], entropy, chosen[:, 0] >= best


@contextlib.contextmanager
def label_head(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Let a Llama model with trl's head multiply the vocabulary in `dtype`, at labels alone, inside the block.

    Args:
        model: A causal language model of transformers that trl's trainer has taken over.
        dtype: Of the product.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None or head.weight.requires_grad:
        yield
        return
    theirs, weight = model.forward, head.weight.detach().to(dtype)

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head or labels is None:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        mask = labels[:, 1:] != IGNORED_LABEL
        places = mask.flatten().nonzero()[:, 0]
        chosen = hidden.flatten(0, 1).index_select(0, places)
        if len(places):
            parts: tuple[torch.Tensor, ...] = LabelLogProbs.apply(chosen, weight, labels[:, 1:][mask])
        else:  # a zero that can be differentiated
            parts = chosen.sum(-1), chosen.detach().sum(-1), mask[mask]
        log_probs, entropy, is_top1 = parts
        return types.SimpleNamespace(log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=mask)

    model.forward = types.MethodType(forward, model)
    try:
        yield
    finally:
        model.forward = theirs
