"""What the stages of a run are called, on the screen and in the schedule."""

from __future__ import annotations

from typing import Literal

from harness.runs.shard import Shard

Part = Literal["training", "answers", "pages", "answers and pages", "the rest"]
"""The kinds of work that a run's time is told by."""

SELF_TEST = "metrics prove themselves on perturbed references"


def training(model: str, rows: int, suite: str) -> str:
    """Return the name of a model's training."""
    return f"training {model} on {rows} rows of {suite}"


def proof(model: str) -> str:
    """Return the name of the stage in which it is found out which decoder writes for a model."""
    return f"the decoder of {model} proves itself against transformers' generate"


def pages(suite: str) -> str:
    """Return the name of the stage in which a suite's answers become rows."""
    return f"checking and rendering {suite}"


def alone(model: str) -> str:
    """Return the name of the stage in which answers are compared with those of whole batches."""
    return f"{model} answers again at batch 1"


def finish(shard: Shard | None) -> str:
    """Return the name of the last stage."""
    return "comparing and reporting" if shard is None else "writing the rows"
