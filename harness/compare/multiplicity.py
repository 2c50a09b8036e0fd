"""Holm's correction for asking several questions at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from harness.runs.summary import PairDifferences


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values after Holm's correction over all of them; None stays None and counts for nothing.

    Holm 1979. The tests hold it equal to statsmodels' `multipletests`, which is not called here because it runs the
    garbage collector each time (46 ms).
    """
    tested = sorted((p, place) for place, p in enumerate(values) if p is not None)
    factors = np.arange(len(tested), 0, -1)
    adjusted = np.maximum.accumulate(factors * np.array([p for p, _ in tested], dtype=np.float64))
    found: list[float | None] = [None] * len(values)
    for (_, place), p in zip(tested, adjusted, strict=True):
        found[place] = min(1.0, float(p))
    return found


def adjust_for_primaries(suites: Collection[PairDifferences]) -> None:
    """Set `p_adjusted` by Holm over the primary metrics of all suites, for each pair of models by itself."""
    for pair in dict.fromkeys(pair for pairs in suites for pair in pairs):
        held = [(pairs[pair], m) for pairs in suites if pair in pairs for m, e in pairs[pair].items() if e.primary]
        adjusted = holm([entries[metric].p for entries, metric in held])
        for (entries, metric), p in zip(held, adjusted, strict=True):
            entries[metric] = entries[metric].model_copy(update={"p_adjusted": p})
