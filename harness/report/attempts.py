"""What several answers to each task are worth: pass@k, as the comparison computed it. No statistics."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report import numbers
from harness.report.view import suite_models
from harness.runs.run import Run
from harness.safe_text import one_line


@dataclass(frozen=True, slots=True)
class PassAtRow:
    """One metric: of each model one text a k, an en dash where fewer answers were measured."""

    name: str
    label: str
    primary: bool
    cells: list[list[str]]


@dataclass(frozen=True, slots=True)
class PassAt:
    """The chance that one of k answers passes, in percent; `ks` are the numbers of answers drawn, ascending."""

    ks: list[int]
    models: list[str]
    rows: list[PassAtRow]


def pass_at(run: Run, suite: str) -> PassAt | None:
    """Return what a suite's answers are worth if k are drawn; None where every task was answered once."""
    metrics = run.suite(suite).metrics
    found = {
        (name, model): estimate.pass_at
        for name in run.metrics
        for model, estimate in metrics.get(name, {}).items()
        if estimate.pass_at
    }
    if not found:
        return None
    # Where an answer was not measured, a metric ends at an odd k of its own: the columns are those of the most answers.
    ks = max((sorted(int(k) for k in shares if k.isdecimal()) for shares in found.values()), key=lambda one: one[-1:])
    models = [model for model in suite_models(run, suite) if any(model == one for _, one in found)]
    rows = []
    for name, metric in run.metrics.items():
        if any(name == one for one, _ in found):
            shares = [found.get((name, model), {}) for model in models]
            cells = [[numbers.mean(of_model.get(str(k)), metric.scale) for k in ks] for of_model in shares]
            rows.append(PassAtRow(name, one_line(metric.label, 40), metric.primary, cells))
    return PassAt(ks, models, rows)
