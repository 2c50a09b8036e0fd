"""On the embedded model: packing and recomputing change how a training is computed and not what it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.model.prompt import PromptRenderer
from harness.train.job import TrainingJob
from harness.train.sft import train_adapter
from harness.types import Task
from tests.conftest import SUBJECTS

TASKS = [Task(name, f"Show {what}", reference=f"<html>{body}</html>") for name, what, body in SUBJECTS[3:5]]
UNPACKED = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 2e-3,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "gradient_checkpointing": False,
}


def test_packing_recomputing_and_a_cpus_plan_leave_every_loss_as_it_is(own_cache: Path, embedded: LoadedModel) -> None:
    renderer = PromptRenderer("{{ prompt }}:", False, embedded.tokenizer)  # short: nothing here is about prompts

    def losses(batch_plan: Literal["as-written", "auto"] = "as-written", **changed: Any) -> list[float | None]:
        sft = {**UNPACKED, **changed}
        training = Training(
            batch_plan=batch_plan, sft=sft, lora={"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
        )
        return [point.loss for point in train_adapter(TrainingJob(embedded, renderer, training, TASKS)).curve]

    unpacked = losses()
    first, last = unpacked
    assert first is not None
    assert last is not None
    assert last < 0.95 * first  # the second loss speaks of the gradients too
    assert len({len(renderer.tokens(task) + renderer.answer_tokens(task.reference)) for task in TASKS}) == 2  # padding
    assert losses(packing=True, max_length=512) == pytest.approx(unpacked, rel=1e-3)
    assert losses(gradient_checkpointing=True) == pytest.approx(unpacked, rel=1e-5)
    assert losses("auto", bf16=False) == pytest.approx(unpacked, rel=1e-5)
    assert losses("auto", bf16=True) == pytest.approx(unpacked, rel=1e-2)
