"""Where a model was fine-tuned on another suite than it is measured on: decided here for the verdict and the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from harness.runs.manifest import ModelEntry
from harness.runs.model_name import family_of


def trained_elsewhere(
    models: Mapping[str, ModelEntry], suites: Sequence[str], named: Collection[str] | None = None
) -> list[str]:
    """Return a sentence for each model that was trained on another suite than one of those measured.

    Args:
        models: The manifest's.
        suites: Those that are measured.
        named: The models to speak of, trainings by their family's name; None for all.
    """
    lines: dict[str, None] = {}
    for name, entry in models.items():
        of, learnt = family_of(name, entry.family), entry.training.suite if entry.training else ""
        others = [suite for suite in suites if suite != learnt]
        if learnt and others and (named is None or of in named):
            lines[f"{of} was trained on {learnt}, measured on {' and '.join(others)}."] = None
    return list(lines)
