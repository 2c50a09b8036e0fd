"""Writes one run's page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.report import attempts, changes, making, markup, payload, plots, view
from harness.report.funnel import Funnel, Outcomes, funnel, outcomes
from harness.runs.folder import PAGE_FILE
from harness.runs.read import read_run
from harness.runs.run import Run
from harness.safe_text import one_line, script_json


def write(run_dir: Path, *, single_file: bool = False) -> Path:
    """Write the page of one run; see `harness.report.write_report`."""
    run = read_run(run_dir)
    labels = {"task_score": "Task score"} | {name: metric.label for name, metric in run.metrics.items()}
    light, packed, pictures = payload.gallery(run, inline=single_file)
    text = markup.render(
        "report",
        run=run,
        title=one_line(run.name),
        verdict=_Hero(view.verdict(run)),
        suites=[_suite(run, suite) for suite in run.suites],
        curves=[_Curve(training, labels) for training in making.trainings(run)],
        costs=making.costs(run),
        votes=changes.votes(run),
        facts=making.facts(run),
        started=one_line(run.manifest.started or ""),
        finished=view.finished(run),
        data=Markup(light),
        chunks=[Markup(chunk) for chunk in packed],
        pictures=Markup(script_json(pictures)) if single_file else None,
    )
    name = f"{run_dir.resolve().name}.html" if single_file else PAGE_FILE
    return markup.write(run_dir / name, text, "report")


class _Hero:
    """A verdict with its headline in large letters, its numbers beneath."""

    def __init__(self, said: view.Said) -> None:
        self.head = said.head + ("." if said.rest else "")
        self.rest = said.rest[:1].upper() + said.rest[1:]
        self.gains, self.notes = said.gains, said.notes


class _Curve:
    """One training's pictures."""

    def __init__(self, training: making.Training, labels: dict[str, str]) -> None:
        self.pictures = [Markup(one) for one in plots.training(training.model, training.entry, labels)]
        self.note = training.note


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    control: bool


@dataclass(frozen=True, slots=True)
class _Figure:
    """A primary metric of the suite's pair: from what to what, and the difference."""

    label: str
    means: list[str]
    change: view.Change


@dataclass(frozen=True, slots=True)
class _PairRow:
    label: str
    primary: bool
    change: view.Change


@dataclass(frozen=True, slots=True)
class _PairTable:
    first: str
    second: str
    rows: list[_PairRow]


@dataclass(frozen=True, slots=True)
class _Suite:
    """What the page shows of one suite."""

    name: str
    title: str
    measured: str
    notes: list[str]
    verdict: _Hero
    figures: list[_Figure]
    pair: list[str]
    models: list[_Model]
    forest: list[Markup]
    table: list[view.MetricGroup]
    unequal: str
    pairs: list[_PairTable]
    parts: list[changes.FlipTable]
    powers: list[changes.Power]
    attempts: attempts.PassAt | None
    funnel: list[Funnel]
    outcomes: Outcomes
    flagged: int


def _suite(run: Run, suite: str) -> _Suite:
    pair, title = run.pair(suite), view.suite_title(run, suite)
    rows = plots.forest_rows(run, suite)
    drawn = f"{pair.second} minus {pair.first}, {title}: paired differences with 95 % intervals" if pair else ""
    table = view.table(run, suite)
    return _Suite(
        name=suite,
        title=one_line(title),
        measured=view.measured(run, suite),
        notes=view.suite_notes(run, suite),
        verdict=_Hero(view.verdict(run, suite)),
        figures=[
            _Figure(row.label, [row.of(name).mean for name in pair or () if name in shown], row.change)
            for group in table
            for row in group.rows
            if row.primary and row.change and (shown := [cell.model for cell in row.cells])
        ],
        pair=[one_line(name) for name in pair or ()],
        models=[_Model(one_line(name, 40), run.manifest.is_control(name)) for name in view.suite_models(run, suite)],
        forest=[Markup(plots.forest(rows, drawn, wide=wide)) for wide in (True, False)] if rows else [],
        table=table,
        unequal=", ".join(view.unequal(run, suite)),
        pairs=_pairs(run, suite),
        parts=changes.parts(run, suite),
        powers=changes.powers(run, suite),
        attempts=attempts.pass_at(run, suite),
        funnel=funnel(run, suite),
        outcomes=outcomes(run, suite),
        flagged=len(view.about_suite(run, suite).leakage.flagged),
    )


def _pairs(run: Run, suite: str) -> list[_PairTable]:
    found = []
    for pair, differences in run.suite(suite).pairs.items():
        rows = [
            _PairRow(metric.label, metric.primary, change)
            for name, metric in run.metrics.items()
            if (change := view.change(differences.get(name), metric))
        ]
        if rows:
            found.append(_PairTable(one_line(pair.first, 40), one_line(pair.second, 40), rows))
    return found
