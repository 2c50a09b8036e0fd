"""Proof that rows which stand one behind the other, packed or without padding, are read each by itself.

Models tell such rows apart by their positions, where they do. Others (learned positions, ALiBi, recurrent ones) let a
row see those before it, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.train.initial import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from trl import SFTTrainer

    from harness.train.data import TrainingRow

_LOOKED_AT = 64
"""Tokens of a row."""


def check_rows_apart(trainer: SFTTrainer, rows: Sequence[TrainingRow], dtype: str) -> None:
    """Compare what the model says of a row behind another one, put together as in the training, with the row alone.

    Args:
        trainer: Before its training.
        rows: What it learns from.
        dtype: What computes, as torch spells it.

    Raises:
        UsageError: the row before it changes what is said.
    """
    if not getattr(trainer, "padding_free", False):
        return
    import torch

    model = trainer.model
    both = [{"input_ids": row.input_ids[:_LOOKED_AT], "labels": row.labels[:_LOOKED_AT]} for row in (rows[0], rows[-1])]
    batch = {name: value for name, value in trainer.data_collator(both).items() if name != "labels"}
    alone = torch.tensor([both[1]["input_ids"]])

    def said(**inputs: object) -> torch.Tensor:
        here = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in inputs.items()}
        logits: torch.Tensor = model(**here, use_cache=False).logits[0, -alone.shape[1] :].float()
        return logits

    training = model.training
    model.eval()
    with torch.no_grad():
        together, single = said(**batch)[: alone.shape[1]], said(input_ids=alone)
    model.train(training)
    if float((together - single).std() / single.std()) > TOLERANCE[dtype]:
        raise UsageError(
            f"rows without padding see each other in this model ({model.config.model_type})",
            "take `packing` and `padding_free` out of train.sft",
        )
