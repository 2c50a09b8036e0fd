"""Which models are held against which: decided here for the run, the verdict, the report and the votes alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from harness.runs.manifest import BASE, CONTROL, FEW_SHOT, TUNED, ModelEntry
from harness.runs.model_name import family, family_of
from harness.types import CONTROL_NAMES

_BY_NAME = {"base": BASE, "base-fewshot": FEW_SHOT, "tuned": TUNED, **dict.fromkeys(CONTROL_NAMES, CONTROL)}


class Pair(NamedTuple):
    """Two models of which the second is held against the first."""

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first}:{self.second}"


def read_pair(text: object) -> object:
    """Return the pair that a file names "first:second"; anything else as it is, to be refused by its type."""
    if not isinstance(text, str):
        return text
    first, colon, second = text.partition(":")
    return Pair(first, second) if colon else text


PairName = Annotated[Pair, BeforeValidator(read_pair), PlainSerializer(str), WithJsonSchema({"type": "string"})]
"""A pair that a file calls by one name, "first:second"."""


def pairs_to_compare(models: Mapping[str, ModelEntry]) -> list[Pair]:
    """Return the pairs to compare, the one that answers the question first; trainings of one family are one model.

    `models` is the manifest's. Each tuned model is held against base and against the few-shot base, but not against
    those of the weights that only another model was tuned from; then the bases against each other. Where nothing was
    tuned, every two models are compared.
    """
    kinds = {of: kind for of, kind in kinds_of(models).items() if kind != CONTROL}
    untuned = [name for name, kind in kinds.items() if kind != TUNED]
    tuned = [name for name, kind in kinds.items() if kind == TUNED]
    if not tuned or not untuned:
        return [Pair(*pair) for pair in combinations(kinds, 2)]
    return [
        *(Pair(base, name) for name in tuned for base in _rivals(name, untuned, tuned, models)),
        *(Pair(*two) for two in combinations(untuned, 2)),
    ]


def _rivals(name: str, untuned: Sequence[str], tuned: Sequence[str], models: Mapping[str, ModelEntry]) -> Sequence[str]:
    weights = {family_of(model, entry.family): entry.weights for model, entry in models.items()}
    if not any(weights[base] and weights[base] == weights[name] for base in untuned):
        return untuned
    of_others = {weights[model] for model in tuned} - {weights[name], None}
    return [base for base in untuned if weights[base] not in of_others]


def kinds_of(models: Mapping[str, ModelEntry]) -> dict[str, str]:
    """Return the kind of each family of models, as the manifest's entries say it."""
    kinds: dict[str, str] = {}
    for name, entry in models.items():
        kinds.setdefault(family_of(name, entry.family), entry.kind)
    return kinds


def described(names: Sequence[str], models: Mapping[str, ModelEntry]) -> dict[str, ModelEntry]:
    """Return an entry for each model named: the manifest's, or without one what its usual name stands for."""
    return {name: models.get(name) or ModelEntry(kind=_BY_NAME.get(family(name), "model")) for name in names}
