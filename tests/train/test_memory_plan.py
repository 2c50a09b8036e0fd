"""The arithmetic of `plan` against peaks that benchmarks/train_7b.py measured on one H100 80 GB."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from harness.cli.plan import plan
from harness.errors import HarnessError, UsageError
from harness.model.gpu_memory import CARDS, GIB, USABLE, checkpoint_bytes
from harness.model.profile import load_profile, resolve_model
from harness.model.profile_schema import Shape, Training
from harness.train.batch_layout import BatchPlan, written_layout
from harness.train.memory_plan import best_layout, peak_memory
from harness.types import GpuName, Quantization
from tests.conftest import ROOT, CommandLine

PROFILE = load_profile("llama-2-7b", ROOT / "baselines")


def training(name: str, batch_plan: str | None = None) -> Training:
    written = resolve_model(name, PROFILE, ROOT / "baselines").file.train
    assert written is not None
    return written.model_copy(update={"batch_plan": batch_plan}) if batch_plan else written


@pytest.fixture
def shape() -> Shape:
    assert PROFILE.file.shape is not None
    return PROFILE.file.shape


@pytest.mark.parametrize(
    ("name", "batch_plan", "layout", "quantization", "measured"),
    [
        ("tuned", "auto", BatchPlan(4, 1, False, True), "nf4", 51.63),
        ("tuned", "auto", BatchPlan(1, 1, False, True), "nf4", 26.36),
        ("tuned", "auto", BatchPlan(1, 1, False), "nf4", 14.22),
        ("tuned", "auto", BatchPlan(1, 1, True), "nf4", 5.52),
        ("tuned", "auto", BatchPlan(1, 1, True, True), "nf4", 17.55),
        ("tuned", "auto", BatchPlan(4, 1, True), "nf4", 7.96),
        ("tuned", "auto", BatchPlan(4, 1, True, True), "nf4", 20.18),
        ("tuned", "auto", BatchPlan(4, 1, False), "none", 51.39),
        ("tuned", "as-written", BatchPlan(4, 1, False), "none", 67.84),
        ("notebook", None, BatchPlan(4, 1, True), "nf4", 7.88),
    ],
)
def test_memory_is_within_15_percent_of_what_was_measured(
    shape: Shape, name: str, batch_plan: str | None, layout: BatchPlan, quantization: Quantization, measured: float
) -> None:
    promised = peak_memory(shape, training(name, batch_plan), layout, quantization).total / GIB
    assert promised == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_the_chosen_layout_fits_and_learns_from_as_many_rows(shape: Shape, card: object) -> None:
    assert card in CARDS.values()
    known = next(other for other in CARDS.values() if other == card)
    tuned = training("tuned")
    layout = best_layout(shape, tuned, "nf4", known)
    assert layout is not None
    assert layout.effective_batch == written_layout(tuned.sft).effective_batch
    assert peak_memory(shape, tuned, layout, "nf4").total <= USABLE * known.memory


def test_a_large_card_keeps_layers_and_holds_the_base_plain(shape: Shape) -> None:
    assert best_layout(shape, training("tuned"), "nf4", CARDS["h100"]) == BatchPlan(4, 1, False, True)


def test_llama_2_7b_is_13_and_a_half_gigabytes(shape: Shape) -> None:
    assert checkpoint_bytes(shape) == pytest.approx(13.48e9, rel=1e-3)


def test_layouts_shrink_at_the_same_effective_batch_and_end() -> None:
    layout: BatchPlan | None = BatchPlan(6, 2, False, True)
    seen = []
    while layout is not None:
        seen.append(layout)
        assert layout.effective_batch == 12
        layout = layout.smaller()
    assert [(one.micro_batch, one.plain_base, one.checkpointing) for one in seen] == [
        (6, True, False),
        (3, True, False),
        (1, True, False),
        (1, False, False),
        (1, False, True),
    ]


def test_what_cannot_fit_is_refused_with_what_does(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    tuned = workplace / "baselines/llama-2-7b/tuned.yaml"
    tuned.write_text(
        tuned.read_text()
        .replace("batch_plan: auto", "batch_plan: as-written")
        .replace("checkpointing: true", "checkpointing: false")
    )
    with pytest.raises(HarnessError, match=r"needs \d+\.\d GiB, T4 .*'activation_checkpointing': True"):
        plan("tuned", profile="llama-2-7b", gpu="t4")
    settings = tuned.read_text()
    tuned.write_text(settings.replace("max_length: 2048", "max_length: 65536"))
    with pytest.raises(HarnessError, match=r"needs \d+\.\d GiB, T4 .*\(use train\.sft\.max_length: \d+\)"):
        plan("tuned", profile="llama-2-7b", gpu="t4")
    tuned.write_text(settings.replace("learning_rate:", "learning_rat:"))
    with pytest.raises(UsageError, match=r"no field 'learning_rat' \(did you mean 'learning_rate'\?\)"):
        plan("tuned", profile="llama-2-7b", gpu="t4")
    with pytest.raises(UsageError, match="'base' is not trained"):
        plan("base", profile="llama-2-7b", gpu="t4")


def test_the_gpus_that_can_be_named_are_those_that_are_known(command_line: CommandLine) -> None:
    assert set(get_args(GpuName)) == set(CARDS)
    code, _, error = command_line("plan", "--gpu", "h10")
    assert (code, error.count("\n")) == (2, 1)
    assert "'--gpu': 'h10' is not one of 't4', 'l4', 'a10', 'a100', 'h100'" in error


def test_the_plan_is_said(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    plan("tuned", profile="llama-2-7b", gpu="h100")
    said = capsys.readouterr().out
    assert "13.5 GB" in said
    assert "micro-batch 4 × 1, layers kept, 4-bit base held dequantized; bfloat16" in " ".join(said.split())
    assert "tokens/s" in said


def test_rows_without_a_limit_cannot_be_computed_with(shape: Shape) -> None:
    endless = Training(sft={"max_length": None})
    with pytest.raises(UsageError, match=r"set train\.sft\.max_length"):
        peak_memory(shape, endless, written_layout(endless.sft), "nf4")


def test_what_any_weights_take_is_said_without_a_gpu(
    capsys: pytest.CaptureFixture[str], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gpu_memory", "adhoc_profile"):
        monkeypatch.setattr(f"harness.model.{module}.this_card", lambda: None)
    plan("tuned", weights=str(tiny_folder))
    said = " ".join(capsys.readouterr().out.split())
    assert "llama, " in said and "no chat template" in said
    assert re.search(r"\d\.\d\d GiB of weights in float32 on this CPU$", said)
