"""The same training in other layouts and kernels learns the same; memory that runs out makes it smaller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import HarnessError
from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.train import packed_attention
from harness.train.callbacks import Progress
from harness.train.fused_layers import lean_layers
from harness.train.fused_lora import ROOM_STEP_CPU, LoraGroup, plain_lora
from harness.train.job import TrainingJob
from harness.train.sft import train_adapter
from tests.train.test_sft import SFT, TASKS, TRAINING, renderer

PLAIN = TRAINING.model_copy(update={"lora": {"r": 4, "target_modules": "all-linear"}})


def train(loaded: LoadedModel, training: Training, **more: Any) -> Any:
    return train_adapter(TrainingJob(loaded, renderer(loaded), training, TASKS), **more)


def test_out_of_memory_halves_the_micro_batch_and_learns_the_same(
    own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny, PLAIN.model_copy(update={"seed": 5}))
    notices: list[str] = []
    fallen = False

    def run_out(progress: Progress) -> None:
        nonlocal fallen
        if progress.step == 4 and not fallen:
            fallen = True
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setenv("HARNESS_CACHE", str(own_cache / "other"))
    done = train(tiny, PLAIN.model_copy(update={"seed": 5}), on_progress=run_out, on_notice=notices.append)
    assert notices == [
        "out of memory with micro-batch 2 × 1, layers kept: going on with micro-batch 1 × 2, layers kept"
    ]
    assert done.out_of_memory == tuple(notices)
    assert (done.layout["micro_batch"], done.layout["accumulation"]) == (1, 2)
    assert [point.step for point in done.curve] == [1, 2, 3, 4, 5, 6]
    assert [point.loss for point in done.curve] == pytest.approx([point.loss for point in whole.curve], rel=1e-3)


def test_memory_that_never_suffices_is_one_line(own_cache: Path, tiny: LoadedModel) -> None:
    def run_out(_: Progress) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(HarnessError, match=r"does not suffice for one row of 1024 tokens \(set a smaller"):
        train(tiny, PLAIN, on_progress=run_out)
    assert train(tiny, PLAIN).steps == 6  # the model was left clean


def test_checkpointing_changes_no_loss_and_ends_with_its_training(own_cache: Path, tiny: LoadedModel) -> None:
    kept = train(tiny, PLAIN)
    again = train(tiny, PLAIN.model_copy(update={"sft": {**SFT, "gradient_checkpointing": True}}))
    assert [point.loss for point in again.curve] == pytest.approx([point.loss for point in kept.curve], rel=1e-4)
    assert again.layout["checkpointing"]
    train(tiny, PLAIN.model_copy(update={"seed": 8}))
    assert not tiny.model.is_activation_checkpointing


@pytest.mark.parametrize("training", [True, False], ids=["training", "answering"])
def test_lean_layers_compute_what_peft_computes(tiny: LoadedModel, training: bool) -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, rank_pattern={"k_proj": 7})
    model = get_peft_model(tiny.model, config).train(training)
    ids = torch.tensor([tiny.tokenizer("A page with a list")["input_ids"]])

    def loss_and_gradients() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        return float(loss), [value.grad.clone() for value in model.parameters() if value.grad is not None]

    plain_loss, plain = loss_and_gradients()
    query = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj").get_base_layer().weight
    before = query.detach().clone()
    with lean_layers(model, torch.float32) as count:
        assert count == 2 * 7 + 2 * 2 + 1 + 2
        assert query.stride() == (len(before[0]) + ROOM_STEP_CPU, 1)
        for _ in range(2):
            lean_loss, lean = loss_and_gradients()
        with model.disable_adapter():
            bare = model(ids, labels=ids, use_cache=False).loss
    assert lean_loss == pytest.approx(plain_loss, rel=1e-5)
    torch.testing.assert_close(lean, plain, atol=1e-5, rtol=1e-3)
    assert torch.equal(query, before)
    assert query.is_contiguous()
    assert loss_and_gradients()[0] == plain_loss
    with model.disable_adapter():
        assert float(bare) == pytest.approx(float(model(ids, labels=ids, use_cache=False).loss), rel=1e-5)


def test_a_small_step_of_an_adapter_is_not_lost_in_the_rounding_of_its_layer() -> None:
    """In 16 bit what is added to a rounded sum vanishes below half of its last place; within one product it stays."""
    from peft import LoraConfig, get_peft_model

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = torch.nn.Linear(256, 64, bias=False)

    torch.manual_seed(0)
    layer = get_peft_model(Net(), LoraConfig(r=4, target_modules=["q_proj"])).base_model.model.q_proj
    layer.lora_B["default"].weight.data.normal_(std=4e-3)
    base = layer.get_base_layer()
    base.weight.data = (base.weight.data * 8).bfloat16()
    plain = plain_lora(layer)
    assert plain is not None
    inputs = torch.randn(512, 256).bfloat16()
    normed = torch.nn.functional.rms_norm(inputs.float(), (256,))
    moved = plain.scaling * normed @ plain.down.t() @ plain.up.t()

    def kept(out: torch.Tensor, without: torch.Tensor) -> float:
        return float(((out.float() - without.float()) * moved).sum() / moved.square().sum())

    group = LoraGroup([plain])
    found = []
    with group.widened(), torch.no_grad():
        for factor in (1.0, 0.0):
            plain.up.data *= factor
            found.append(group.normed(inputs, torch.ones(256).bfloat16(), 1e-6)[0][0])
    assert kept(found[0], found[1]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("way", ["varlen", "side by side", "row by row"])
def test_packed_attention_sees_each_row_alone(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """The kernel runs on GPUs alone; here plain attention of each stretch that it is given stands in for it."""

    def stretches(q: Any, k: Any, v: Any, bounds: Any, _: Any, longest: int, __: int, scale: float | None) -> Any:
        cuts = bounds.diff().tolist()
        assert longest == max(cuts)
        parts = zip(*(part.transpose(0, 1).split(cuts, dim=1) for part in (q, k, v)), strict=True)
        attend = torch.nn.functional.scaled_dot_product_attention
        return torch.cat([attend(*part, is_causal=True, scale=scale) for part in parts], dim=1).transpose(0, 1)

    monkeypatch.setattr(packed_attention, "_varlen", lambda: stretches)
    monkeypatch.setattr(packed_attention, "varlen_available", lambda: way == "varlen")
    if way != "row by row":
        monkeypatch.setattr(packed_attention, "_row_by_row", packed_attention._all_rows)
    rows = [tiny.tokenizer(task.prompt + task.reference)["input_ids"] for task in TASKS[:4]]
    rows.insert(1, rows[0][:1])
    assert len({len(row).bit_length() for row in rows}) > 1
    apart = torch.cat([tiny.model(torch.tensor([row]), use_cache=False).logits[0] for row in rows])
    together = torch.tensor([[token for row in rows for token in row]])
    positions = torch.tensor([[place for row in rows for place in range(len(row))]])
    bounds = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).to(torch.int32)
    lengths = {"cu_seq_lens_q": bounds, "max_length_q": max(map(len, rows))}
    with packed_attention.packed_attention(tiny.model):
        seen = tiny.model(together, position_ids=positions, use_cache=False, **lengths).logits[0]
    torch.testing.assert_close(seen, apart, atol=1e-4, rtol=1e-4)
    assert tiny.model.config._attn_implementation == "sdpa"


def test_a_plain_base_has_the_values_of_the_4_bit_one_and_gives_it_back(tiny_folder: Path) -> None:
    from harness.model.load import Precision, load_model
    from harness.model.profile_schema import Weights
    from harness.train.dequantized_base import plain_base

    loaded = load_model(Weights(folder=str(tiny_folder)), Precision("nf4", "float32", "cpu"))
    model = loaded.model
    before = list(model.modules())
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        with plain_base(model) as count:  # first: a 4-bit layer packs its weights anew when it computes on a CPU
            assert count == 2 * 7
            plain = model(ids, use_cache=False).logits
        assert list(model.modules()) == before
        quantised = model(ids, use_cache=False).logits  # by a kernel that may multiply in bfloat16
        assert (plain - quantised).norm() < 0.01 * quantised.norm()
