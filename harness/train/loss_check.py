"""Proof that what trl learns from is what the model says: it works the loss out from the head's weights by itself.

Scales and caps that a model puts behind its head are known to it by their usual names alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.train.initial import TOLERANCE
from harness.train.looking import LOOKED_AT, looking_at

if TYPE_CHECKING:
    from trl import SFTTrainer

    from harness.train.data import TrainingRow


def check_loss(trainer: SFTTrainer, row: TrainingRow, dtype: str) -> None:
    """Compare the log-probabilities that trl learns from with those of the model's own scores.

    Args:
        trainer: Before its training.
        row: A training row.
        dtype: What computes, as torch spells it.

    Raises:
        UsageError: they differ.
    """
    import torch

    model = trainer.model
    ids = torch.tensor([row.input_ids[:LOOKED_AT]], device=model.device)
    with looking_at(model), trainer.accelerator.autocast():
        learnt = getattr(model(input_ids=ids, labels=ids, fused_lm_head=True), "log_probs", None)
        said = model(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
    if learnt is None:
        return
    own = said.gather(-1, ids[:, 1:, None])[..., 0]
    off = float((learnt.float() - own).abs().mean() / own.abs().mean())
    if off > TOLERANCE[dtype]:
        kind = model.config.model_type
        raise UsageError(
            f"trl learns from other scores than this model ({kind}) says: log-probabilities differ by {off:.1%}",
            "the installed trl does not know what this model does behind its head: take another model",
        )
