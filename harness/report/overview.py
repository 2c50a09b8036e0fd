"""Writes the list of all runs: what was asked, what came out, how the main metrics went from run to run."""

from __future__ import annotations

import os
from pathlib import Path

from markupsafe import Markup

from harness.errors import HarnessError, UsageError
from harness.report import markup, numbers, plots, view
from harness.runs.read import Json, RunFiles, as_dict, as_list, number, one_path, read_overview
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
    runs: list[RunFiles] = []
    damaged: list[Json] = []
    for folder in sorted(path.parent for path in reports_dir.glob("*/manifest.json")):
        if is_shard_folder(folder):
            continue  # part of a run that is yet to be put together
        try:
            runs.append(read_overview(folder))
        except HarnessError as error:
            damaged.append({"folder": one_line(folder.name), "why": one_line(error.message)})
    runs.sort(key=lambda run: (_instant(run), run.directory.name), reverse=True)
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


def _instant(run: RunFiles) -> float:
    """When the run began, as seconds since the epoch; 0 where the manifest does not say."""
    from datetime import UTC, datetime

    try:
        began = datetime.fromisoformat(str(run.manifest.get("started")))
    except ValueError:
        return 0.0
    return (began if began.tzinfo else began.replace(tzinfo=UTC)).timestamp()


def _compared_models(run: RunFiles) -> list[str]:
    return [model for model in run.models if not run.is_control(model)]


def _versions(run: RunFiles) -> dict[str, Json]:
    """The scorers of a run as its manifest tells them."""
    return {name: as_dict(facts) for name, facts in as_dict(run.manifest.get("scorers")).items()}


def _current_scorers(runs: list[RunFiles]) -> dict[str, Json]:
    """Each scorer as the newest run that has it tells it; `runs` are newest first."""
    current: dict[str, Json] = {}
    for run in runs:
        for name, facts in _versions(run).items():
            current.setdefault(name, facts)
    return current


def _other_scorers(run: RunFiles, current: dict[str, Json]) -> str:
    """Which scorers of a run are of another version than the newest run's, whose numbers are others: in words."""
    differing = [
        (not facts.get("primary"), one_line(f"{facts.get('label') or name} {facts.get('version')}", 30))
        for name, facts in _versions(run).items()
        if facts.get("version") != current[name].get("version")
    ]
    shown = [text for _, text in sorted(differing, key=lambda item: item[0])]
    more = len(shown) - _MOST_SCORERS
    return ", ".join(shown[:_MOST_SCORERS]) + (f" and {more} more" if more > 0 else "")


def _run(run: RunFiles, current: dict[str, Json]) -> Json:
    models, suites = _compared_models(run), []
    for suite in run.suites:
        pair = run.pair(suite)
        differences = as_dict(as_dict(run.suite(suite).get("pairs")).get(pair))
        suites.append(
            {
                "title": one_line(view.suite_title(run, suite)),
                "headline": view.verdict(run, suite)["sentence"].partition(": ")[0],
                "changes": [
                    {"label": one_line(facts["label"], 30), **change}
                    for name, facts in run.metrics.items()
                    if facts["primary"] and (change := view.change(differences.get(name), facts["scale"]))
                ],
            }
        )
    return {
        "name": one_line(run.name, 80),
        "folder": run.directory.name,
        "started": one_line(run.manifest.get("started") or "")[:16].replace("T", " "),
        "unfinished": not run.manifest.get("finished"),
        "profile": one_line(as_dict(run.manifest.get("profile")).get("name") or ""),
        "models": [one_line(model, 40) for model in models],
        "controls": len(run.models) - len(models),
        "suites": suites,
        "other_scorers": _other_scorers(run, current),
        "page": (run.directory / "index.html").is_file(),
    }


def _numbers(run: RunFiles) -> Json:
    """What the page needs to lay two runs beside each other: means of its models with their intervals."""
    models, suites = _compared_models(run), {}
    for suite in run.suites:
        metrics = as_dict(run.suite(suite).get("metrics"))
        suites[suite] = {
            "title": one_line(view.suite_title(run, suite)),
            "split": as_dict(as_dict(run.manifest.get("suites")).get(suite)).get("split_hash"),
            "metrics": [
                {
                    "name": name,
                    "label": facts["label"],
                    "scale": facts["scale"],
                    "primary": facts["primary"],
                    "version": as_dict(as_dict(run.manifest.get("scorers")).get(name)).get("version"),
                    "models": {
                        model: [number(as_dict(about).get(key)) for key in ("mean", "low", "high")]
                        for model, about in as_dict(metrics[name]).items()
                        if model in models
                    },
                }
                for name, facts in sorted(run.metrics.items(), key=lambda item: not item[1]["primary"])
                if name in metrics
            ],
        }
    return {"name": one_line(run.name, 80), "folder": run.directory.name, "models": models, "suites": suites}


def _trends(runs: list[RunFiles]) -> list[Json]:
    """One picture a suite and primary metric: the means of the pair's models from the oldest run to the newest.

    Numbers of another version of the scorer are another measure: their line has the version beside the model's name.
    """
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    current = _current_scorers(runs[::-1])
    titles: dict[tuple[str, str], str] = {}
    for place, run in enumerate(runs):
        for suite in run.suites:
            metrics = as_dict(run.suite(suite).get("metrics"))
            models = [name for name in run.pair(suite).split(":") if name]
            for name in (name for name, facts in run.metrics.items() if facts["primary"] and name in metrics):
                titles[suite, name] = f"{view.suite_title(run, suite)}: {run.metrics[name]['label']}"
                for model in models:
                    value = number(as_dict(as_dict(metrics[name]).get(model)).get("mean"))
                    if value is not None:
                        version = _versions(run).get(name, {}).get("version")
                        same = version == current.get(name, {}).get("version")
                        line = model if same else f"{model}, scorer {version}"
                        points = found.setdefault((suite, name), {}).setdefault(line, [])
                        points.append((float(place), value * numbers.factor(run.metrics[name]["scale"])))
    ticks = [str(as_list([run.manifest.get("started")])[0] or "")[5:10] for run in runs]
    return [
        {
            "title": one_line(titles[key]),
            "picture": Markup(
                plots.lines(
                    list(series.items()), f"{titles[key]} over the runs", ("run, by date", "points of 100"), ticks=ticks
                )
            ),
        }
        for key, series in found.items()
        if len(runs) > 1
    ]
