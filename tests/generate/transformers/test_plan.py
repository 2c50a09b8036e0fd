"""How a model will be decoded on a GPU, from what its config says."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.generate.settings import GenerationSettings
from harness.generate.transformers.plan import plan_here, rows_at_once
from harness.model.gpu_memory import GIB

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
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * GIB))


def plan_of(folder: Path, config: Any) -> Any:
    (folder / "config.json").write_text(json.dumps(config))
    return plan_here(folder, "nf4", GenerationSettings(1024, batch_size=64))


def test_a_seven_billion_model_is_unpacked_on_a_large_gpu(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SIZES)
    assert (plan.unpacked, plan.rows) == (True, 64)
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
    assert plan_here(tmp_path, "none", GenerationSettings(1024, batch_size=64)) is None
