"""Proof that rows which stand one behind the other, packed or without padding, are read each by itself.

Models tell such rows apart by their positions, where they do. Others (learned positions, ALiBi, recurrent ones) let a
row see those before it, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.train.looking import LOOKED_AT, looking_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from trl import SFTTrainer

    from harness.train.data import TrainingRow

_SEEN = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02}
"""How far other tokens in the row before may move a row's logits, relative to their spread: by rounding alone."""
_ELSEWHERE = {"float32": 1e-3, "bfloat16": 0.3, "float16": 0.1}
"""How far standing behind another row may: there products of another size round otherwise, all the way up."""


def check_rows_apart(trainer: SFTTrainer, rows: Sequence[TrainingRow], dtype: str) -> None:
    """Compare what the model says of a row behind two others, put together as in the training, and alone.

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
    before, row = ({"input_ids": r.input_ids[:LOOKED_AT], "labels": r.labels[:LOOKED_AT]} for r in (rows[0], rows[-1]))
    another = {name: values[::-1] for name, values in before.items()}
    start, end = len(before["input_ids"]), len(before["input_ids"]) + len(row["input_ids"])

    def said(**inputs: object) -> torch.Tensor:
        here = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in inputs.items()}
        logits: torch.Tensor = model(**here, use_cache=False).logits[0].float()
        return logits

    def behind(first: dict[str, list[int]]) -> torch.Tensor:
        batch = trainer.data_collator([dict(first), dict(row)])
        return said(**{name: value for name, value in batch.items() if name != "labels"})[start:end]

    with looking_at(model), trainer.accelerator.autocast():
        one, other, alone = behind(before), behind(another), said(input_ids=torch.tensor([row["input_ids"]]))
    seen, elsewhere = (float((one - of).std() / one.std()) for of in (other, alone))
    if seen > _SEEN[dtype] or elsewhere > _ELSEWHERE[dtype]:
        raise UsageError(
            f"rows without padding see each other in this model ({model.config.model_type})",
            "take `packing` and `padding_free` out of train.sft",
        )
