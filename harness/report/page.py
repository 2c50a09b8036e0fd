"""Writes one run's page."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from harness.report import attempts, changes, making, markup, payload, plots, view
from harness.runs.read import Json, RunFiles, as_dict, as_list, number, read_run
from harness.safe_text import one_line, script_json


def write(run_dir: Path, *, single_file: bool = False) -> Path:
    """Write the page of one run; see `harness.report.write_report`."""
    run = read_run(run_dir)
    labels = {"task_score": "Task score"} | {name: facts["label"] for name, facts in run.metrics.items()}
    light, packed, pictures = payload.gallery(run, inline=single_file)
    text = markup.render(
        "report",
        run=run,
        title=one_line(run.name),
        verdict=_hero(view.verdict(run)),
        suites=[_suite(run, suite) for suite in run.suites],
        curves=[
            {**curve, "pictures": [Markup(p) for p in plots.training(curve, labels)]} for curve in making.curves(run)
        ],
        costs=making.costs(run),
        votes=[{**vote, "sentence": changes.votes_line(vote)} for vote in changes.votes(run)],
        facts=[(title, [(key, _fact(value)) for key, value in items]) for title, items in making.facts(run)],
        started=one_line(run.manifest.get("started") or ""),
        finished=run.manifest.get("finished"),
        profile=as_dict(run.manifest.get("profile")),
        data=Markup(light),
        chunks=[Markup(chunk) for chunk in packed],
        pictures=Markup(script_json(pictures)) if single_file else None,
    )
    name = f"{run_dir.resolve().name}.html" if single_file else "index.html"
    return markup.write(run_dir / name, text, "report")


def _suite(run: RunFiles, suite: str) -> Json:
    pair = run.pair(suite)
    first, _, second = pair.partition(":")
    rows = view.forest_rows(run, suite)
    drawn = f"{second} minus {first}, {view.suite_title(run, suite)}: paired differences with 95 % intervals"
    about = as_dict(as_dict(run.manifest.get("suites")).get(suite))
    return {
        "name": suite,
        "title": one_line(view.suite_title(run, suite)),
        "measured": view.measured(run, suite),
        "notes": view.suite_notes(run, suite),
        "verdict": _hero(view.verdict(run, suite)),
        "figures": _figures(run, suite),
        "pair": [one_line(name) for name in (first, second)] if pair else [],
        "models": [
            {"name": one_line(name, 40), "control": run.is_control(name)} for name in view.suite_models(run, suite)
        ],
        "forest": [Markup(plots.forest(rows, drawn, wide=wide)) for wide in (True, False)] if rows else [],
        "table": view.table(run, suite),
        "unequal": ", ".join(view.unequal(run, suite)),
        "pairs": _pairs(run, suite),
        "parts": changes.parts(run, suite),
        "powers": changes.powers(run, suite),
        "attempts": attempts.pass_at(run, suite),
        "funnel": view.funnel(run, suite),
        "outcomes": view.outcomes(run, suite),
        "flagged": len(as_list(as_dict(about.get("leakage")).get("flagged"))),
        "held_out": number(about.get("held_out")),
    }


def _hero(verdict: Json) -> Json:
    """Split the sentence at its first colon: what it says in large letters, its numbers beneath."""
    head, colon, numbers = verdict["sentence"].partition(": ")
    return {**verdict, "head": head + ("." if colon else ""), "rest": numbers[:1].upper() + numbers[1:]}


def _figures(run: RunFiles, suite: str) -> list[Json]:
    """The primary metrics of the suite's pair: from what to what, and the difference."""
    pair = run.pair(suite).split(":")
    return [
        {**row, "means": [cell["mean"] for name in pair for cell in row["cells"] if cell["model"] == name]}
        for group in view.table(run, suite)
        for row in group["rows"]
        if row["primary"] and row["change"]
    ]


def _pairs(run: RunFiles, suite: str) -> list[Json]:
    found = []
    for pair, metrics in as_dict(run.suite(suite).get("pairs")).items():
        first, _, second = pair.partition(":")
        rows = [
            {"label": facts["label"], "primary": facts["primary"], **change}
            for name, facts in run.metrics.items()
            if (change := view.change(as_dict(metrics).get(name), facts["scale"]))
        ]
        if rows:
            found.append({"first": one_line(first, 40), "second": one_line(second, 40), "rows": rows})
    return found


def _fact(value: object) -> str:
    if value is None:
        return "not there"
    if isinstance(value, dict):
        return "; ".join(f"{one_line(key)} {_fact(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_fact(item) for item in value) or "none"
    return one_line(value, 400)
