"""Writes the list of all runs: what was asked, what came out, how the main metrics went from run to run."""

from __future__ import annotations

import os
from pathlib import Path

from markupsafe import Markup

from harness.errors import HarnessError, UsageError
from harness.outputs import is_ours
from harness.report import markup, numbers, plots, view
from harness.report.files import Json, RunFiles, as_dict, as_list, number, one_path, read_overview
from harness.report.safe import one_line, script_json
from harness.shard import is_shard_folder


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
        runs=[_run(run) for run in runs],
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


def _contenders(run: RunFiles) -> list[str]:
    return [model for model in run.models if not run.is_control(model)]


def _run(run: RunFiles) -> Json:
    models, suites = _contenders(run), []
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
        "page": (run.directory / "index.html").is_file(),
    }


def _numbers(run: RunFiles) -> Json:
    """What the page needs to lay two runs beside each other: means of its models with their intervals."""
    models, suites = _contenders(run), {}
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
    """One picture a suite and primary metric: the means of the pair's models from the oldest run to the newest."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
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
                        points = found.setdefault((suite, name), {}).setdefault(model, [])
                        points.append((float(place), value * numbers.factor(run.metrics[name]["scale"])))
    ticks = [str(as_list([run.manifest.get("started")])[0] or "")[5:10] for run in runs]
    return [
        {
            "title": one_line(titles[key]),
            "picture": Markup(
                plots.lines(
                    list(series.items()), f"{titles[key]} over the runs", "run, by date", "points of 100", ticks=ticks
                )
            ),
        }
        for key, series in found.items()
        if len(runs) > 1
    ]
