"""How weights are held and computed with, by the card's capability."""

from __future__ import annotations

import pytest
import torch

from harness.model.load import choose_precision
from harness.model.profile_schema import DType


@pytest.mark.parametrize(
    ("capability", "wanted", "dtype"),
    [
        ((7, 5), "auto", "float16"),  # T4: torch calls bfloat16 supported there and emulates it
        ((8, 0), "auto", "bfloat16"),
        ((8, 6), "auto", "bfloat16"),
        ((9, 0), "auto", "bfloat16"),
        ((9, 0), "float32", "float32"),
        ((7, 5), "bfloat16", "bfloat16"),
    ],
)
def test_the_card_decides_unless_the_profile_does(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wanted: DType, dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    precision = choose_precision("nf4", wanted)
    assert (precision.dtype, precision.device, precision.quantization) == (dtype, "cuda", "nf4")
    assert precision.torch_dtype == getattr(torch, dtype)


def test_a_cpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision("none", "auto").dtype == "float32"
