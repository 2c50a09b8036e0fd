"""An adapter added to its base says what both say together, or is not added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.errors import HarnessError
from harness.model.load import Precision
from harness.model.profile_schema import Weights
from harness.train.merge_adapter import export_merged
from tests.conftest import load_fp32
from tests.model.kinds import lora, write_base

IDS = torch.tensor([[40, 41, 42, 50, 60, 70]])
FP32 = Precision("none", "float32", "cpu")


def adapter_of(folder: Path, config: Any, out: Path, scale: float = 0.1) -> torch.Tensor:
    """Save a random adapter for the model in a folder; return what both say together."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(3)
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale)
        said: torch.Tensor = adapted(input_ids=IDS).logits
    adapted.save_pretrained(str(out))
    return said


@pytest.mark.parametrize(
    "config", [lora(), lora(use_dora=True), lora(modules_to_save=["embed_tokens"])], ids=["lora", "dora", "embeddings"]
)
def test_what_is_saved_says_the_same(tmp_path: Path, config: Any) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    together = adapter_of(base, config, tmp_path / "adapter")
    export_merged(Weights(folder=str(base)), FP32, tmp_path / "adapter", "sha", tmp_path / "out")
    with torch.no_grad():
        merged = load_fp32(tmp_path / "out").model(IDS).logits
    assert float((merged - together).std() / together.std()) < 0.03  # saved in bfloat16


@pytest.mark.parametrize(
    "config",
    [lora(target_modules=["embed_tokens", "q_proj"]), lora(layer_replication=[[0, 2], [1, 2]])],
    ids=["embeddings that the head is tied to", "layers that share weights"],
)
def test_a_sum_that_says_another_thing_is_refused(tmp_path: Path, config: Any) -> None:
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    adapter_of(base, config, tmp_path / "adapter")
    with pytest.raises(HarnessError, match=r"cannot be merged: .* \(serve base and adapter instead\)"):
        export_merged(Weights(folder=str(base)), FP32, tmp_path / "adapter", "sha", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("end", ["embed_tokens", "lm_head"])
def test_little_added_to_one_of_a_tied_pair_is_refused_in_16_bit_too(tmp_path: Path, end: str) -> None:
    """Where rounding moves the sum further than that."""
    base = write_base(tmp_path / "base", tie_word_embeddings=True)
    adapter_of(base, lora(target_modules=[end]), tmp_path / "adapter", scale=0.005)
    half = Precision("none", "bfloat16", "cpu")
    with pytest.raises(HarnessError, match="the sum is another model"):
        export_merged(Weights(folder=str(base)), half, tmp_path / "adapter", "sha", tmp_path / "out")
