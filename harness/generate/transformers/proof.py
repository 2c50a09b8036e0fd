"""A decoder proves itself on the model at hand before its answers count; where it differs, `generate` answers.

The reference is transformers' own `generate`, one prompt at a time, through PEFT where there is an adapter. A decoder
writes a few tokens behind a few prompts; `generate` is led along the same tokens, and at every step its scores, from
which it would choose or draw, are compared with the decoder's. Windows, rotary scalings and positions, which short
prompts do not reach, are compared on a small random twin of the model (`harness.generate.transformers.twin`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from pydantic import JsonValue

from harness.errors import HarnessError
from harness.generate.transformers.adapter_kinds import active_configs, beyond_layers, unwrapped
from harness.generate.transformers.comparison import LIMITS, relative_difference
from harness.generate.transformers.decoder_check import STEPS, DecoderCheck, Making, real_prompts, rows_of_vocabulary
from harness.generate.transformers.decoder_verdict import Kind, Verdict
from harness.generate.transformers.reference import makers_processors
from harness.generate.transformers.twin_checks import TwinChecks
from harness.runs.schema import JsonObject

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prove(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kinds: Mapping[Kind, Making], dtype: str
) -> Verdict:
    """Return which decoder answers for a model: the first of `kinds` that holds, else `generate`.

    Args:
        model: On its device, its adapter on or off as it will answer.
        tokenizer: Its tokenizer.
        kinds: Decoders, the fastest first.
        dtype: What computes, as torch spells it.

    Raises:
        HarnessError: `generate` itself fails on this model.
    """
    plain = unwrapped(model)
    real = DecoderCheck(model, tokenizer, real_prompts(plain, tokenizer), STEPS, dtype)
    twins = TwinChecks(model, tokenizer, with_adapter=dtype != "float32" and bool(active_configs(model)))
    reasons: list[str] = []
    evidence: JsonObject = {}
    why = not_for_ours(model)
    if why is not None:
        reasons.append(why)
        if active_configs(model) and real.generate_leaves_out():
            reasons.append("PEFT's generate scores its first token otherwise than PEFT's model does")
    else:
        for kind, making in kinds.items():
            reason, found = real.differs(making)
            if found is not None:
                evidence[f"{kind}: weights"] = asdict(found)
            if reason is None:
                reason, found = twins.differs(kind, making)
                if found is not None:
                    evidence[f"{kind}: twin"] = asdict(found)
            if reason is None:
                return Verdict(kind, evidence=evidence, why="; ".join(reasons))
            reasons.append(f"{kind}: {reason}")
    padded = _padding_holds(real, twins, evidence)
    return Verdict("generate", padded=padded, evidence=evidence, why="; ".join(reasons))


def _padding_holds(real: DecoderCheck, twins: TwinChecks, evidence: JsonObject) -> bool:
    """Whether padded batches of `generate` say what it says of single prompts."""
    real.reference(1)  # where this fails, so would every answer, and the error says so
    if getattr(unwrapped(real.model).generation_config, "min_length", None):
        return False  # it counts a row's padding, and may lie beyond what is compared
    for name, differs in (("weights", real.padding_differs), ("twin", twins.padding_differs)):
        try:
            reason, found = differs()
        except HarnessError:  # it runs on single prompts alone
            return False
        if found is not None:
            evidence[f"padded: {name}"] = asdict(found)
        if reason is not None:
            return False
    return True


def not_for_ours(model: PreTrainedModel) -> str | None:
    """Return what about a model is outside its layers, so that no decoder of ours would do it; None for nothing."""
    beyond = beyond_layers(model)
    if beyond is not None:
        return beyond
    processors = makers_processors(unwrapped(model).generation_config)
    return f"its generation config sets {', '.join(processors)}" if processors else None


def check_causal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: Mapping[str, JsonValue]) -> None:
    """Refuse models that write nothing by themselves: `generate` may run on them, and its answers mean nothing.

    Args:
        model: On its device.
        tokenizer: Its tokenizer.
        config: Its folder's config.json; what was loaded of it may be a part only.

    Raises:
        HarnessError: it is an encoder with a decoder, or its tokens see those behind them.
    """
    plain = unwrapped(model)
    name = type(plain).__name__
    hint = "take a causal language model"
    if config.get("is_encoder_decoder"):
        raise HarnessError(f"{name} is half of an encoder-decoder model, which needs its encoder's input", hint)
    if not plain.can_generate():
        raise HarnessError(f"{name} is no model that generates text", hint)
    first = list(real_prompts(plain, tokenizer)[0].tokens)
    other = [*first[:-1], (first[-1] + 1) % rows_of_vocabulary(plain)]
    try:
        with torch.inference_mode():
            said = [
                plain(input_ids=torch.tensor([ids], device=plain.device)).logits[0, :-1].float().cpu()
                for ids in (first, other)
            ]
    except Exception:  # what only `generate` can call is left to it
        return
    if len(first) > 1 and relative_difference(said[1][0], said[0][0]) > LIMITS["bfloat16"] / 10:
        raise HarnessError(f"{name} lets tokens see those behind them, as masked language models do", hint)
