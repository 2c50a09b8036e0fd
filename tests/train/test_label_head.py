"""The head at labels alone against trl's over all positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from harness.model.load import LoadedModel
from harness.train import label_head as module
from harness.train.data import IGNORED_LABEL
from harness.train.label_head import label_head


def figures(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Log-probabilities of the labels, entropies, hits, and the gradient of the norm's weight."""
    weight = model.model.norm.weight
    weight.grad = None
    out = model(input_ids=ids, labels=labels, fused_lm_head=True)
    (out.log_probs.sum() * -0.1).backward()
    mask = out.label_mask
    found = [part if part.dim() == 1 else part[mask] for part in (out.log_probs, out.entropy, out.is_top1)]
    return found, weight.grad.clone()


def test_it_gives_what_trls_head_gives(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model
    model.requires_grad_(False)
    model.model.norm.weight.requires_grad_()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    torch.manual_seed(0)
    ids = torch.randint(len(tiny.tokenizer), (2, 20))
    labels = ids.clone()
    labels[:, :7], labels[1, 15:] = IGNORED_LABEL, IGNORED_LABEL
    labels[0, 9] = int(model(input_ids=ids).logits[0, 8].argmax())
    theirs = model.forward
    (expected, gradient) = figures(model, ids, labels)
    assert expected[2].any()
    monkeypatch.setattr(module, "TOKENS", 7)
    monkeypatch.setattr(module, "ROWS", 2)
    with label_head(model, torch.float32):
        (found, own) = figures(model, ids, labels)
        nothing = model(input_ids=ids, labels=torch.full_like(labels, IGNORED_LABEL), fused_lm_head=True)
        assert float(nothing.log_probs.detach().sum()) == 0
        nothing.log_probs.sum().backward()
        logits = model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(own, gradient, atol=1e-6, rtol=1e-4)
    assert model.forward == theirs
    assert torch.equal(logits, model(input_ids=ids).logits)
    with label_head(model, torch.bfloat16):
        (rounded, _) = figures(model, ids, labels)
    torch.testing.assert_close(rounded[0], expected[0], atol=0.05, rtol=0.02)
    assert not torch.equal(rounded[0], expected[0])


def test_a_head_that_is_trained_stays_trls(tiny: LoadedModel) -> None:
    before = tiny.model.forward
    with label_head(tiny.model, torch.float32):  # its weight wants a gradient
        assert tiny.model.forward == before
