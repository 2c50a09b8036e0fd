"""A profile made of weights alone: `--weights` gives base, few-shot base and tuned of any causal language model."""

from __future__ import annotations

from pathlib import Path

from harness.model.gpu_memory import Card, this_card
from harness.model.profile import EMBEDDED_PROFILE, GPU_PROFILE, Profile, load_profile, read_model_file
from harness.model.profile_schema import ModelFile, ProfileFile, Training, Weights
from harness.model.weights_facts import WeightsFacts, weights_facts, weights_named
from harness.types import Quantization

SIXTEEN_BIT_SHARE = 0.35
"""Weights in 16 bit may take so much of a card's memory; answers, a training and a copy for the fast decoder follow."""
FEW_SHOT = 2
PACKED = ("llama",)
"""Architectures whose rows are trained side by side in one sequence: their attention is known to keep them apart."""


def adhoc_profile(word: str, quantization: Quantization | None = None, card: Card | None = None) -> Profile:
    """Return the profile of the weights that a word names: how they are asked, held and fine-tuned.

    Prompts go through the model's own chat template, where it has one, in the words of the embedded profile; else they
    have the instruction form of the Llama-2 profile. Training is that of the profile made for such a machine.

    Args:
        word: A model's folder, a GGUF file, or a hub id, with or without @REVISION.
        quantization: How the weights are held; None chooses for the card.
        card: The GPU that they are to be held on; None is this machine's, if it has one.

    Raises:
        UsageError: the word names no weights.
        HarnessError: the hub does not hand them out, or they are of no causal language model.
    """
    weights = weights_named(word)
    facts = weights_facts(weights)
    card = card or this_card()
    file = _profile_file(weights, facts, card, quantization)
    models = {
        "base": ModelFile(description="The model as published."),
        "base-fewshot": ModelFile(
            description=f"The model as published, with {FEW_SHOT} training examples before the request.",
            few_shot=FEW_SHOT,
        ),
        "tuned": ModelFile(description="LoRA on all linear layers.", train=_training(facts, card)),
    }
    return Profile(weights.name, Path(), file, f"made for {weights}: {facts}", models)


def _profile_file(
    weights: Weights, facts: WeightsFacts, card: Card | None, quantization: Quantization | None
) -> ProfileFile:
    embedded = load_profile(EMBEDDED_PROFILE).file
    instructed = load_profile(GPU_PROFILE).file
    return ProfileFile(
        title=weights.name,
        weights=weights,
        shape=facts.shape,
        prompt=embedded.prompt if facts.chat else instructed.prompt,
        chat=facts.chat,
        quantization=quantization or _fitting_quantization(facts, card),
        batch_size=(instructed if card else embedded).batch_size,
        suites=embedded.suites,
    )


def _fitting_quantization(facts: WeightsFacts, card: Card | None) -> Quantization:
    """16 bit where a card has the room, else 4 bit; a CPU computes in float32, and 4 bit would only slow it down."""
    return "nf4" if card is not None and 2 * facts.parameters > SIXTEEN_BIT_SHARE * card.memory else "none"


def _training(facts: WeightsFacts, card: Card | None) -> Training:
    preset = read_model_file(load_profile(GPU_PROFILE if card else EMBEDDED_PROFILE), "tuned").train
    assert preset is not None
    sft = dict(preset.sft)
    if facts.context is not None:
        sft["max_length"] = min(int(str(sft["max_length"])), facts.context)
    if sft.get("packing") and facts.architecture not in PACKED:
        sft["packing"] = False
    return preset.model_copy(update={"sft": sft, "rows": preset.rows if card is None else None})
