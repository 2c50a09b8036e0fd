"""Writes the list of all runs: what was asked, what came out, how the main metrics went from run to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from harness.errors import HarnessError, UsageError
from harness.report import markup, numbers, plots, view
from harness.runs.folder import PAGE_FILE
from harness.runs.manifest import ScorerEntry
from harness.runs.read import one_path, read_overview
from harness.runs.run import Run
from harness.runs.schema import JsonObject
from harness.runs.shard import is_shard_folder
from harness.safe_text import one_line, script_json
from harness.storage.outputs import is_ours

_MOST_SCORERS = 4


def write(reports_dir: Path) -> Path | None:
    """Write the list of all runs; see `harness.report.write_index`."""
    if not reports_dir.is_dir():
        raise UsageError(f"there is no folder {one_path(reports_dir)}", "run something first: python -m harness run")
    page = reports_dir / "index.html"
    if is_somebody_elses(reports_dir):
        return None
    runs: list[Run] = []
    damaged: list[_Damaged] = []
    for folder in sorted(path.parent for path in reports_dir.glob("*/manifest.json")):
        if is_shard_folder(folder):
            continue  # part of a run that is yet to be put together
        try:
            runs.append(read_overview(folder))
        except HarnessError as error:
            damaged.append(_Damaged(one_line(folder.name), one_line(error.message)))
    runs.sort(key=lambda run: (_instant(run), run.path.name), reverse=True)
    text = markup.render(
        "overview",
        runs=[_run(run, _current_scorers(runs)) for run in runs],
        damaged=damaged,
        trends=_trends(runs[::-1]),
        data=Markup(script_json({"runs": [_numbers(run) for run in runs]})),
    )
    return markup.write(page, text, "overview")


def is_somebody_elses(reports_dir: Path) -> bool:
    """Whether the list of runs has no place in this folder: what stands there is none of ours."""
    page = reports_dir / "index.html"
    return os.path.lexists(page) and not (page.is_file() and is_ours(page, markup.mark("overview")))


def _instant(run: Run) -> float:
    """When the run began, as seconds since the epoch; 0 where the manifest does not say."""
    from datetime import UTC, datetime

    try:
        began = datetime.fromisoformat(str(run.manifest.started))
    except ValueError:
        return 0.0
    return (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp()


def _compared_models(run: Run) -> list[str]:
    return [model for model in run.models if not run.manifest.is_control(model)]


def _current_scorers(runs: Sequence[Run]) -> dict[str, ScorerEntry]:
    """Each scorer as the newest run that has it tells it; `runs` are newest first."""
    current: dict[str, ScorerEntry] = {}
    for run in runs:
        current = run.manifest.scorers | current
    return current


def _other_scorers(run: Run, current: Mapping[str, ScorerEntry]) -> str:
    """Which scorers of a run are of another version than the newest run's, whose numbers are others: in words."""
    differing = [
        (not scorer.primary, one_line(f"{scorer.label or name} {scorer.version}", 30))
        for name, scorer in run.manifest.scorers.items()
        if scorer.version != current[name].version
    ]
    shown = [text for _, text in sorted(differing, key=lambda item: item[0])]
    more = len(shown) - _MOST_SCORERS
    return ", ".join(shown[:_MOST_SCORERS]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Damaged:
    folder: str
    why: str


@dataclass(frozen=True, slots=True)
class _Change:
    label: str
    way: numbers.Way
    arrow: str
    difference: str


@dataclass(frozen=True, slots=True)
class _SuiteLine:
    title: str
    headline: str
    changes: list[_Change]


@dataclass(frozen=True, slots=True)
class _RunLine:
    name: str
    folder: str
    started: str
    unfinished: bool
    profile: str
    models: list[str]
    controls: int
    suites: list[_SuiteLine]
    other_scorers: str
    page: bool


def _run(run: Run, current: Mapping[str, ScorerEntry]) -> _RunLine:
    models, suites = _compared_models(run), []
    for suite in run.suites:
        differences = run.differences(suite)
        found = [
            _Change(one_line(metric.label, 30), change.way, change.arrow, change.difference)
            for name, metric in run.metrics.items()
            if metric.primary and (change := view.change(differences.get(name), metric))
        ]
        suites.append(_SuiteLine(one_line(view.suite_title(run, suite)), view.verdict(run, suite).head, found))
    return _RunLine(
        name=one_line(run.name, 80),
        folder=run.path.name,
        started=one_line(run.manifest.started or "")[:16].replace("T", " "),
        unfinished=not view.finished(run),
        profile=one_line(run.manifest.profile.name),
        models=[one_line(model, 40) for model in models],
        controls=len(run.models) - len(models),
        suites=suites,
        other_scorers=_other_scorers(run, current),
        page=(run.path / PAGE_FILE).is_file(),
    )


def _numbers(run: Run) -> JsonObject:
    """What the page needs to lay two runs beside each other: means of its models with their intervals."""
    models = _compared_models(run)
    suites: JsonObject = {}
    for suite in run.suites:
        metrics = run.suite(suite).metrics
        shown = ((n, m) for n, m in sorted(run.metrics.items(), key=lambda item: not item[1].primary) if n in metrics)
        suites[suite] = {
            "title": one_line(view.suite_title(run, suite)),
            "split": view.about_suite(run, suite).split_hash,
            "metrics": [
                {
                    "name": name,
                    "label": metric.label,
                    "scale": metric.scale,
                    "primary": metric.primary,
                    "version": metric.version,
                    "models": {m: [e.mean, e.low, e.high] for m, e in metrics[name].items() if m in models},
                }
                for name, metric in shown
            ],
        }
    return {"name": one_line(run.name, 80), "folder": run.path.name, "models": [*models], "suites": suites}


@dataclass(frozen=True, slots=True)
class _Trend:
    title: str
    picture: Markup


def _trends(runs: list[Run]) -> list[_Trend]:
    """One picture a suite and primary metric: the means of the pair's models from the oldest run to the newest.

    Numbers of another version of the scorer are another measure: their line has the version beside the model's name.
    """
    if len(runs) < 2:
        return []
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    current = _current_scorers(runs[::-1])
    titles: dict[tuple[str, str], str] = {}
    for place, run in enumerate(runs):
        for suite in run.suites:
            means = run.suite(suite).metrics
            for name, metric in run.metrics.items():
                if not metric.primary or name not in means:
                    continue
                titles[suite, name] = f"{view.suite_title(run, suite)}: {metric.label}"
                for model in run.pair(suite) or ():
                    value = means[name][model].mean if model in means[name] else None
                    if value is not None:
                        same = name not in current or metric.version == current[name].version
                        line = model if same else f"{model}, scorer {metric.version}"
                        points = found.setdefault((suite, name), {}).setdefault(line, [])
                        points.append((float(place), value * numbers.factor(metric.scale)))
    ticks = [(run.manifest.started or "")[5:10] for run in runs]
    return [
        _Trend(
            one_line(titles[key]),
            Markup(
                plots.lines(
                    list(series.items()), f"{titles[key]} over the runs", ("run, by date", "points of 100"), ticks=ticks
                )
            ),
        )
        for key, series in found.items()
    ]
