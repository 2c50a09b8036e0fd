"""What a metric is, and what it may use.

A metric never sees a model, only what the model wrote and what was measured on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from harness.metrics.parser_pool import NotMeasured
from harness.types import Message, Page, Rendering, Score, Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NuReport:
    """What the Nu Html Checker said of one page; CSS messages apart, for its CSS checker lags behind the standard."""

    errors: tuple[Message, ...]
    css: tuple[Message, ...] = ()
    silent: str = ""
    """Why Nu said nothing of this page; then nothing is known of it."""


@dataclass(frozen=True)
class Evidence:
    """All that is known of one page when it is scored.

    `rendering` or `nu` is None where it was not measured; the reason is in `why_not`.
    """

    task: Task
    completion: str
    page: Page
    rendering: Rendering | None = None
    reference_rendering: Rendering | None = None
    nu: NuReport | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a page. A new metric is one function and one entry in `harness.metrics.registry`."""

    name: str
    label: str
    """For table heads: short, sentence case."""
    kind: Literal["form", "content", "similarity", "render"]
    scale: Literal["binary", "percent", "share"]
    """binary: 0 or 1, its mean is a share; percent: 0 to 100; share: 0 to 1."""
    score: Callable[[Evidence], Score | None]
    """Returns None where the metric does not apply to the task (no reference, no checks): it is absent from the row."""
    description: str
    primary: bool = False
    corpus: Callable[[Sequence[float]], float] | None = None
    """For corpus metrics: the value of a whole corpus from the column sums of its rows' `Score.counts`."""
    version: int = 1
    """Raised whenever the same page could get another number."""


def or_null(work: Callable[[], T]) -> T | Score:
    """Return what `work` returns; a failure inside it is a null with a note that names it, never an exception."""
    try:
        return work()
    except NotMeasured as reason:
        return Score(None, str(reason))
    except Exception as error:
        return Score(None, f"the metric failed: {type(error).__name__}: {error}"[:300])
