"""Names of models in a run: several trainings of one are told apart by their seed."""

from __future__ import annotations

import re

_SEED = re.compile(r"#seed-?\d+\Z")
"""`tuned#seed1` is the training of `tuned` with seed 1."""


def family(model: str) -> str:
    """Return the name under which the trainings of one model are compared: `tuned` for `tuned#seed1`."""
    return _SEED.sub("", model)


def family_of(model: str, written: str | None) -> str:
    """Return the name under which the trainings of a model are compared: as its run wrote it, else by its own name."""
    return written or family(model)
