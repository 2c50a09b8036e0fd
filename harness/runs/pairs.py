"""Which models are held against which: decided here for the run, the verdict, the report and the votes alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.runs.model_name import family
from harness.types import CONTROL_NAMES

TUNED, FEW_SHOT, BASE, CONTROL = "tuned", "few-shot", "base", "control"
_BY_NAME = {"base": BASE, "base-fewshot": FEW_SHOT, "tuned": TUNED, **dict.fromkeys(CONTROL_NAMES, CONTROL)}


def pairs_to_compare(models: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs to compare, the one that answers the question first; trainings of one family are one model.

    `models` is the manifest's. Each tuned model is held against base and against the few-shot base; then the bases
    against each other. Where nothing was tuned, every two models are compared.
    """
    kinds = {of: kind for of, kind in kinds_of(models).items() if kind != CONTROL}
    untuned = [name for name, kind in kinds.items() if kind != TUNED]
    tuned = [name for name, kind in kinds.items() if kind == TUNED]
    if not tuned or not untuned:
        return list(combinations(kinds, 2))
    return [*((base, name) for name in tuned for base in untuned), *combinations(untuned, 2)]


def kinds_of(models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the kind of each family of models, as the manifest's entries say it."""
    kinds: dict[str, str] = {}
    for name, entry in models.items():
        kinds.setdefault(str(entry.get("family") or family(name)), str(entry.get("kind") or "model"))
    return kinds


def described(names: Sequence[str], models: Mapping[str, Mapping[str, Any]] | None) -> dict[str, dict[str, Any]]:
    """Return an entry for each model named: the manifest's, or without a manifest what its usual name stands for."""
    known = models or {}
    return {name: {"kind": _BY_NAME.get(family(name), "model"), **known.get(name, {})} for name in names}
