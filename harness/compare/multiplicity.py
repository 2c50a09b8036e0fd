"""Holm's correction for asking several questions at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def holm(entries: Sequence[dict[str, Any]]) -> None:
    """Set `p_adjusted` of each entry that has a `p` by Holm's correction over all of them.

    Holm 1979. The tests hold it equal to statsmodels' `multipletests`, which is not called here because it runs the
    garbage collector each time (46 ms).
    """
    tested = sorted((entry for entry in entries if entry["p"] is not None), key=lambda entry: float(entry["p"]))
    factors = np.arange(len(tested), 0, -1)
    adjusted = np.maximum.accumulate(factors * np.array([entry["p"] for entry in tested], dtype=np.float64))
    for entry, p in zip(tested, adjusted, strict=True):
        entry["p_adjusted"] = min(1.0, float(p))


def adjust_for_primaries(suites: Mapping[str, Mapping[str, Any]]) -> None:
    """Set `p_adjusted` by Holm over the primary metrics of all suites, for each pair of models by itself."""
    for pair in dict.fromkeys(pair for content in suites.values() for pair in content["pairs"]):
        entries = [entry for content in suites.values() for entry in content["pairs"].get(pair, {}).values()]
        holm([entry for entry in entries if entry["primary"]])
