"""Which decoders there are for a plan, and what they do not know."""

from __future__ import annotations

import pytest

from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoder_factory import Unfit, makings
from harness.generate.transformers.plan import DecodingPlan, plan_here
from harness.model.load import LoadedModel, Precision
from tests.generate.llama.test_decoder import with_adapter
from tests.generate.transformers.test_continuous_batching import stop_rule


def test_there_are_captured_steps_where_there_is_room(tiny: LoadedModel) -> None:
    assert list(makings(tiny, DecodingPlan(("fused",), 4, 0))) == ["fused", "slots"]
    assert list(makings(tiny, DecodingPlan(("fused-nf4", "fused"), 4, 0))) == ["fused-nf4", "fused", "slots"]
    assert list(makings(tiny, DecodingPlan((), 4, 0))) == list(makings(tiny, None)) == ["slots"]


def test_an_adapter_that_is_more_than_lora_is_left_to_the_other_decoder(tiny: LoadedModel) -> None:
    model = with_adapter(tiny.model, use_dora=True)
    plan = plan_here(tiny.weights.folder, Precision("none", "float32", "cpu"), GenerationSettings(8, 2))
    with pytest.raises(Unfit, match="more than LoRA"):
        makings(tiny, plan)["fused"](model, stop_rule(tiny, 2), 2, 0.0, None)
