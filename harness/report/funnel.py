"""How far the answers get, and what became of their pages in the browser. No statistics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import get_args

from harness.report.view import rows_of, suite_models
from harness.runs.run import Run
from harness.types import Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)[::-1]
"""From `ok` to `unscored`."""
FUNNEL = ("extracted", "parses", "well_formed", "conforming")


@dataclass(frozen=True, slots=True)
class Step:
    """One tier of validity: the answers that passed it and all before it."""

    tier: str
    label: str
    count: int
    share: float
    unmeasured: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """One model's answers, tier by tier."""

    model: str
    rows: int
    steps: list[Step]


def funnel(run: Run, suite: str) -> list[Funnel]:
    """Per model, how many answers are left after each tier of validity; the unmeasured are counted apart.

    Each tier counts only answers that passed all tiers before it, so that the steps can only fall.
    """
    result = []
    for model in suite_models(run, suite):
        rows = rows_of(run, suite, model)
        tiers = [tier for tier in FUNNEL if any(tier in row.scores for row in rows)]
        if not rows or not tiers:
            continue
        left, steps = rows, []
        for tier in tiers:
            unmeasured = sum(row.scores.get(tier) is None for row in left)
            left = [row for row in left if row.scores.get(tier) == 1]
            label = run.metrics[tier].label if tier in run.metrics else tier
            steps.append(Step(tier, label, len(left), len(left) / len(rows), unmeasured))
        result.append(Funnel(model, len(rows), steps))
    return result


@dataclass(frozen=True, slots=True)
class OutcomeCell:
    """How often one outcome occurred."""

    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One model's outcomes."""

    model: str
    total: int
    cells: list[OutcomeCell]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the pages: only outcomes that occur, `ok` always."""

    columns: list[str]
    rows: list[OutcomeRow]


def outcomes(run: Run, suite: str) -> Outcomes:
    """Count what became of each model's pages."""
    counted: dict[str, Counter[str]] = {}
    given = run.suite(suite).outcomes
    for model in suite_models(run, suite):
        rows = rows_of(run, suite, model)
        if model in given:
            counted[model] = Counter(given[model])
        elif rows:
            counted[model] = Counter(row.outcome for row in rows)
    seen = {word for counter in counted.values() for word, times in counter.items() if times}
    columns = ["ok", *(word for word in OUTCOMES if word in seen and word != "ok"), *sorted(seen - set(OUTCOMES))]
    rows_of_model = [
        OutcomeRow(model, counter.total(), [OutcomeCell(word, counter[word]) for word in columns])
        for model, counter in counted.items()
    ]
    return Outcomes(columns, rows_of_model)
