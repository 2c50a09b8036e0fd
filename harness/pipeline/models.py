"""Which models a run has: the words of `--models` over profiles, and what each of them learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.model.adhoc_profile import adhoc_profile
from harness.model.profile import ModelSpec, Profile, load_profile, model_names, resolve_model
from harness.suite.load import SuiteLocation, find_suite
from harness.types import Quantization, Suite

FEW_SHOT_BASE = "base-fewshot"


def profile_of(name: str | None, quantization: Quantization | None) -> Profile:
    """Return the profile of that name, its weights held as asked; for None, the one that suits this machine.

    Raises:
        UsageError: there is no such profile, or its file is wrong.
    """
    profile = load_profile(name)
    if quantization is None:
        return profile
    return replace(profile, file=profile.file.model_copy(update={"quantization": quantization}))


def profiles_of_weights(weights: Sequence[str], quantization: Quantization | None) -> list[Profile]:
    """Return a profile for each model on the hub or the disk.

    Raises:
        UsageError: a word names no model, or two models have one name.
        HarnessError: a model cannot be had, or is no causal language model.
    """
    profiles = [adhoc_profile(word, quantization) for word in dict.fromkeys(weights)]
    names = [profile.name.casefold() for profile in profiles]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(f"two of --weights are called '{profiles[number].name}'", "rename one of the folders")
    return profiles


def resolve_specs(words: Sequence[str], profiles: Sequence[Profile], *, with_few_shot: bool) -> list[ModelSpec]:
    """Return the models that the words name, of several profiles each as `profile/model`.

    With `with_few_shot`, examples in the prompt are tried wherever something is tuned: what a user gets without it.

    Raises:
        UsageError: a word names nothing; the hint names the nearest.
    """
    specs: list[ModelSpec] = []
    for profile in profiles:
        of_profile = [word for word in words if profile is profiles[0] or word in model_names(profile)]
        found = [resolve_model(word, profile) for word in of_profile]
        tuned = any(spec.kind == "tuned" for spec in found)
        if with_few_shot and tuned and FEW_SHOT_BASE not in words and FEW_SHOT_BASE in model_names(profile):
            found.insert(len([spec for spec in found if spec.kind == "base"]), resolve_model(FEW_SHOT_BASE, profile))
        own = model_names(profile) if len(profiles) > 1 else []
        specs += [replace(spec, name=f"{profile.name}/{spec.name}") if spec.name in own else spec for spec in found]
    return specs


def training_locations(specs: Sequence[ModelSpec], usual: str) -> dict[str, SuiteLocation]:
    """Return the suites that models learn from or take examples from, by the models' names.

    That is the one which the model file names, else the `usual` one. A few-shot model takes its examples from where the
    first trained model of the run learns: both know the same.

    Raises:
        UsageError: there is no suite of such a name.
    """
    first = next((spec.file.train for spec in specs if spec.file.train), None)
    found = {}
    for spec in specs:
        training = spec.file.train or first
        if spec.file.train or spec.file.few_shot:
            found[spec.name] = find_suite((training.suite if training else None) or usual)
    return found


def with_rows_to_learn(
    specs: Sequence[ModelSpec], learns_from: Mapping[str, Suite]
) -> tuple[list[ModelSpec], tuple[str, ...]]:
    """Return the models that have rows to learn from, and a line for each few-shot model that has none.

    Raises:
        UsageError: a model is to be trained on a suite that is held out as a whole, or none is left.
    """
    kept, notes = [], []
    for spec in specs:
        suite = learns_from.get(spec.name)
        if suite is None or not suite.held_out_only:
            kept.append(spec)
        elif spec.file.train is not None:
            raise UsageError(
                f"{spec.name} cannot learn from {suite.name}, which is held out as a whole",
                "name a suite with training rows: --train-on SUITE, or `suite:` under `train:` in its model file",
            )
        else:
            notes.append(f"{spec.name} is left out: {suite.name} is held out as a whole, so it has no examples to show")
    if not kept:
        raise UsageError(notes[0], "name another model")
    return kept, tuple(notes)
