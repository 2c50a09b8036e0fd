"""Which loaded models the decoder by few large products knows."""

from __future__ import annotations

from typing import Any

import pytest

from harness.generate.llama.loaded_layers import why_not_fused
from harness.model.load import LoadedModel
from tests.generate.llama.test_decoder import with_adapter


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, None),
        ({"use_dora": True}, "more than LoRA"),
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"modules_to_save": ["embed_tokens"]}, "embed_tokens"),
    ],
)
def test_what_is_not_known_is_left_to_the_other_decoder(
    tiny: LoadedModel, more: dict[str, Any], why: str | None
) -> None:
    found = why_not_fused(with_adapter(tiny.model, **more))
    assert found is None if why is None else why in str(found)


def test_other_models_are_left_to_the_other_decoder(tiny: LoadedModel) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=len(tiny.tokenizer)))
    assert "no Llama" in str(why_not_fused(other))
