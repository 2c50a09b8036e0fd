"""How a model will be decoded on a GPU, from what its config says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.generate.settings import GenerationSettings
from harness.generate.transformers.plan import DecodingPlan, plan_decoding, plan_here, rows_at_once
from harness.model.gpu_memory import CARDS, GIB, USABLE
from harness.model.load import Precision
from harness.model.profile_schema import Shape

SIZES = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}


@pytest.fixture(autouse=True)
def a_large_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    card = SimpleNamespace(total_memory=80 * GIB, major=9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)


def plan_of(folder: Path, config: Any) -> Any:
    (folder / "config.json").write_text(json.dumps(config))
    return plan_here(folder, Precision("nf4", "bfloat16", "cuda"), GenerationSettings(1024, batch_size=64))


def test_a_seven_billion_model_is_unpacked_on_a_large_gpu(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SIZES)
    assert (plan.fused, plan.rows) == (("fused", "fused-nf4"), 64)
    assert (rows_at_once(plan, 64), rows_at_once(plan, 128), rows_at_once(None, 128)) == (64, 64, 128)


@pytest.mark.parametrize(
    "config",
    [
        None,
        7,
        [],
        {},
        SIZES | {"num_attention_heads": 0},
        SIZES | {"hidden_size": None},
        SIZES | {"hidden_size": [1, 2]},
        SIZES | {"num_hidden_layers": 0, "hidden_size": 0},
    ],
)
def test_impossible_sizes_are_no_plan_and_no_traceback(tmp_path: Path, config: Any) -> None:
    assert plan_of(tmp_path, config) is None


def test_a_folder_without_a_config_has_no_plan(tmp_path: Path) -> None:
    assert plan_here(tmp_path, Precision("none", "bfloat16", "cuda"), GenerationSettings(1024, batch_size=64)) is None


def plan_on(card: str, batch_size: int = 64, quantization: Any = "nf4", **sizes: int) -> DecodingPlan:
    return plan_decoding(Shape(**SIZES | sizes), quantization, CARDS[card], batch_size, 1024)


def test_4_bit_weights_stay_packed_where_unpacked_ones_cost_rows() -> None:
    for card in ("l4", "a10", "a100"):
        assert plan_on(card).fused == ("fused-nf4",)
    assert plan_on("l4").rows == plan_on("a10").rows == 25
    assert plan_on("a100").rows == 50
    assert "in 4 bit, unpacked within each product, 25 rows at once" in str(plan_on("l4"))
    assert plan_on("l4").record() == {"weights": "packed", "rows": 25}


def test_where_both_fit_the_measured_one_decodes_and_the_other_stands_behind_it() -> None:
    assert plan_on("h100", 32).fused == ("fused-nf4", "fused")
    assert plan_on("h100", 64).fused == ("fused", "fused-nf4")
    assert plan_on("a100", 8).fused == ("fused", "fused-nf4")


def test_more_rows_than_unpacked_weights_leave_are_not_worth_packed_ones_for_ever() -> None:
    both = plan_on("h100", 128)
    assert (both.fused, both.rows) == (("fused", "fused-nf4"), 90)
    assert plan_on("a100", 128).fused == ("fused-nf4",)


def test_what_cannot_be_packed_is_not() -> None:
    assert (plan_on("t4").fused, plan_on("t4").rows) == (("fused-nf4",), 14)
    assert plan_on("t4", quantization="none").fused == ()
    assert str(plan_on("t4", quantization="none")).startswith("weights as they are loaded")
    assert plan_on("h100", quantization="none").fused == ("fused",)
    assert plan_on("l4", quantization="none").fused == ()
    assert plan_on("l4", intermediate_size=11000).fused == ()


@pytest.mark.parametrize("card", sorted(CARDS))
@pytest.mark.parametrize("batch_size", [1, 32, 64, 256])
def test_a_plan_stays_within_its_card(card: str, batch_size: int) -> None:
    plan = plan_on(card, batch_size)
    assert plan.memory <= USABLE * CARDS[card].memory
    assert f"{plan.memory / GIB:.1f} GiB" in str(plan)
