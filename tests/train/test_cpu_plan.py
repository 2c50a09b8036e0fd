"""A training that is planned on a CPU: the same rows in the same steps, none of which sees another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from harness.model.load import LoadedModel, Precision
from harness.model.profile_schema import Training
from harness.train import cpu_plan
from harness.train.adapter_key import adapter_key
from harness.train.batch_layout import BatchPlan
from harness.train.cpu_plan import TOKENS, cpu_layout, planned_on_cpu, product_dtype
from harness.train.data import training_rows
from harness.train.fused_layers import lean_layers
from harness.train.job import TrainingJob
from harness.train.label_head import label_head
from harness.train.nonblocking_trainer import NonBlockingTrainer
from harness.train.packed_attention import packed_attention
from harness.train.sft import TrainedAdapter, train_adapter
from tests.train.test_evaluation import weights
from tests.train.test_sft import TASKS, renderer

SFT = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-2,
    "max_grad_norm": 0.5,
    "gradient_checkpointing": False,
}
WRITTEN = Training(seed=3, sft=SFT, lora={"r": 4, "target_modules": "all-linear"})
PLANNED = WRITTEN.model_copy(update={"batch_plan": "auto"})


def plan_for(products: str) -> Training:
    return PLANNED.model_copy(update={"sft": {**SFT, "bf16": products == "bfloat16"}})


def train(loaded: LoadedModel, training: Training) -> TrainedAdapter:
    return train_adapter(TrainingJob(loaded, renderer(loaded), training, TASKS))


def rows_of_steps(monkeypatch: pytest.MonkeyPatch, trainer: type) -> list[list[list[int]]]:
    """Collect what each micro-batch of that trainer learns from: rows in order, padding left out."""
    seen: list[list[list[int]]] = []
    own: Callable[..., Any] = trainer.compute_loss  # type: ignore[attr-defined]

    def compute_loss(self: Any, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        ids, bounds, mask = inputs["input_ids"], inputs.get("cu_seq_lens_q"), inputs.get("attention_mask")
        if bounds is not None:
            seen.append([row.tolist() for row in ids[0].split(bounds.diff().tolist())])
        else:
            seen.append([row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)])
        return own(self, model, inputs, *rest, **more)

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)
    return seen


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
def test_it_learns_the_same_rows_in_the_same_steps(
    products: str, own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    with monkeypatch.context() as patch:
        theirs = rows_of_steps(patch, SFTTrainer)
        written = train(tiny, WRITTEN)
    ours = rows_of_steps(monkeypatch, NonBlockingTrainer)
    planned = train(tiny, plan_for(products))
    assert (written.layout["micro_batch"], written.layout["products"]) == (1, None)
    assert (planned.layout["micro_batch"], planned.layout["accumulation"]) == (3, 1)
    assert (planned.layout["padding_free"], planned.layout["products"]) == (True, products)
    assert [len(micro) for micro in ours] == [3, 3, 2, 3, 3, 2]  # eight rows, twice
    assert [row for micro in ours for row in micro] == [row for micro in theirs for row in micro]
    assert (planned.steps, planned.tokens) == (written.steps, written.tokens)
    expected, found = ([point.loss for point in one.curve] for one in (written, planned))
    exactly = products == "float32"
    assert found[0] == pytest.approx(expected[0], rel=1e-5 if exactly else 5e-3)
    assert found == pytest.approx(expected, rel=1e-4 if exactly else 2e-2)
    assert exactly or found[0] != pytest.approx(expected[0], rel=1e-6)
    assert expected[-1] < 0.95 * expected[0]  # type: ignore[operator]
    if exactly:
        for name, value in weights(written.folder).items():
            assert (weights(planned.folder)[name] - value).norm() < 1e-2 * value.norm(), name
    assert tiny.changed_weights() == []


def test_rows_too_long_to_share_a_micro_batch_learn_one_by_one(
    own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    once = plan_for("float32").model_copy(update={"sft": {**plan_for("float32").sft, "max_steps": 2}})
    packed = train(tiny, once)
    monkeypatch.setattr(cpu_plan, "TOKENS", 1)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another"))
    alone = train(tiny, once)
    assert (packed.layout["micro_batch"], alone.layout["micro_batch"]) == (3, 1)
    assert [point.loss for point in alone.curve] == pytest.approx([point.loss for point in packed.curve], rel=1e-5)
    assert alone.tokens == packed.tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_row_of_a_pack_sees_another(tiny: LoadedModel, dtype: torch.dtype) -> None:
    from trl.trainer.utils import add_fused_lm_head

    ids = [tiny.tokenizer(task.reference)["input_ids"] for task in TASKS[:3]]
    add_fused_lm_head(tiny.model, outputs=("log_probs", "entropy", "is_top1"))
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(tiny.model, lora).train()

    def loss_and_gradients(*rows: list[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The log-probabilities of each row's tokens after its first, and the gradients of their sum."""
        model.zero_grad()
        flat = torch.tensor([[token for row in rows for token in row]])
        positions = torch.tensor([[place for row in rows for place in range(len(row))]])
        bounds = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).to(torch.int32)
        labels = flat.masked_fill(positions == 0, -100)
        lengths = {"cu_seq_lens_q": bounds, "max_length_q": max(map(len, rows))}
        out = model(flat, position_ids=positions, labels=labels, use_cache=False, fused_lm_head=True, **lengths)
        out.log_probs.sum().backward()
        gradients = [value.grad.clone() for value in model.parameters() if value.grad is not None]
        log_probs = out.log_probs if out.log_probs.dim() == 1 else out.log_probs[out.label_mask]
        return list(log_probs.detach().split([len(row) - 1 for row in rows])), gradients

    near: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.05}
    with packed_attention(tiny.model), lean_layers(model, dtype), label_head(tiny.model, dtype):
        together, gradients = loss_and_gradients(*ids)
        apart = [loss_and_gradients(row) for row in ids]
        torch.testing.assert_close(together, [alone[0][0] for alone in apart], **near)
        for own, *each in zip(gradients, *(alone[1] for alone in apart), strict=True):
            assert (own - sum(each)).norm() < (1e-4 if dtype == torch.float32 else 0.05) * own.norm()
        changed, _ = loss_and_gradients(ids[0][::-1], *ids[1:])
        assert torch.equal(changed[1], together[1])
        assert torch.equal(changed[2], together[2])
        assert not torch.equal(changed[0], together[0])
    written, plain = loss_and_gradients(ids[0])  # PEFT's layers and trl's head again
    torch.testing.assert_close(apart[0][0][0], written[0], **near)
    for own, other in zip(apart[0][1], plain, strict=True):
        assert (own - other).norm() < (1e-4 if dtype == torch.float32 else 0.05) * other.norm()


def test_a_micro_batch_is_as_large_as_is_fast() -> None:
    written = BatchPlan(1, 8, checkpointing=False)

    def rows(*lengths: int, **sft: Any) -> int:
        training = PLANNED.model_copy(update={"sft": {**SFT, **sft}})
        return cpu_layout(written, training, lengths).micro_batch

    assert rows(*[100] * 20) == 8
    assert rows(*[TOKENS // 8] * 8) == 8
    assert rows(*[TOKENS // 8] * 8, TOKENS // 8 + 1) == 4
    assert rows(TOKENS + 1, 1, 1) == 1
    assert rows(*[100] * 20, packing=True) == 1
    assert rows(*[100] * 20, train_sampling_strategy="group_by_length") == 1
    alone = cpu_layout(written, PLANNED, [TOKENS + 1])
    assert (alone.accumulation, alone.padding_free) == (8, False)
    shared = cpu_layout(written.shared(2), PLANNED, [100] * 20)
    assert (shared.micro_batch, shared.accumulation) == (4, 1)
    assert "rows without padding" in str(shared)


def test_products_follow_from_the_processor_and_are_in_the_key(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows, _ = training_rows(TASKS, renderer(tiny), 1024)
    keys: dict[tuple[str, bool], str] = {}
    for fast in (True, False):
        monkeypatch.setattr(cpu_plan, "has_bfloat16_products", lambda fast=fast: fast)
        assert product_dtype(PLANNED) == ("bfloat16" if fast else "float32")
        for name, training in (("written", WRITTEN), ("planned", PLANNED)):
            keys[name, fast] = adapter_key(tiny, renderer(tiny), training, rows)
    assert keys["written", True] == keys["written", False]
    assert len(set(keys.values())) == 3
    monkeypatch.setattr(cpu_plan, "has_bfloat16_products", lambda: True)
    for lora in ({"lora_dropout": 0.1}, {"use_dora": True}, {"target_modules": ["q_proj"]}):
        assert product_dtype(PLANNED.model_copy(update={"lora": {**PLANNED.lora, **lora}})) == "float32"
    assert product_dtype(plan_for("float32")) == "float32"


def test_what_cannot_be_packed_is_trained_as_before(tiny: LoadedModel, tmp_path: Path) -> None:
    assert planned_on_cpu(PLANNED, tiny)
    assert not planned_on_cpu(WRITTEN, tiny)
    for precision in (Precision("nf4", "float32", "cpu"), Precision("none", "bfloat16", "cuda")):
        assert not planned_on_cpu(PLANNED, replace(tiny, precision=precision))
    config = json.loads((tiny.weights.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gemma2"}))
    assert not planned_on_cpu(PLANNED, replace(tiny, weights=replace(tiny.weights, folder=tmp_path)))
