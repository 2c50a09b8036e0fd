"""Runs and frozen scores read from files, and one held against another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.compare.summary import Described, summarise
from harness.errors import HarnessError, UsageError, did_you_mean
from harness.runs.model_name import family
from harness.runs.pairs import CONTROL, TUNED, kinds_of
from harness.runs.read import Run
from harness.runs.schema import SCHEMA
from harness.storage.outputs import write_output

_NOT_DECIDING = {"schema", "run", "started", "finished", "command", "arguments"}
"""Keys of a manifest that name a run or its time and decide no number."""
_NOT_DECIDING_OF_MODELS = {"cost", "curve", "seconds"}
_KEPT_OF_ROWS = ("schema", "suite", "task", "model", "sample", "prompt_sha", "scores", "counts")
_KEPT_OF_TASKS = ("suite", "task", "category", "difficulty", "group", "prompt_sha")


def split_reference(text: str) -> tuple[str, str]:
    """Return (run, model) of `RUN[:MODEL]`; a drive letter or a path with a colon that exists is not split."""
    if Path(text).exists():
        return text, ""
    run, colon, model = text.rpartition(":")
    return (run, model) if colon else (text, "")


def choose_model(run: Run, wanted: str) -> str:
    """Return the model to compare: the named one; else `tuned`, else the only tuned one, else the only one.

    Raises:
        UsageError: the run has no such model, or several and none is named.
    """
    if wanted:
        if wanted not in run.models:
            raise UsageError(f"the run {run.name} has no model '{wanted}'", did_you_mean(wanted, run.models))
        return wanted
    if "tuned" in run.models:
        return "tuned"
    kinds = {name: entry["kind"] for name, entry in run.about_models.items()}
    tuned = [name for name, kind in kinds.items() if kind == TUNED]
    if len(tuned) == 1 or len(run.models) == 1:
        return (tuned or run.models)[0]
    raise UsageError(f"the run {run.name} has several models", f"name one: {run.name}:{run.models[0]}")


@dataclass(frozen=True)
class AcrossRuns:
    """Two models of two runs (or of one), compared on what both measured in the same way."""

    pair: str
    manifest_differences: list[dict[str, Any]]
    """What decides numbers and differs: `{key, left, right}`."""
    left_out_metrics: dict[str, str]
    """Metrics that cannot be compared, and why."""
    left_out_tasks: int
    summary: dict[str, Any]
    left_out_primary: tuple[str, ...] = ()
    """Those of the left-out metrics that are primary on a side."""
    left_out_by_suite: Mapping[str, int] = field(default_factory=dict)


def compare_runs(left: Run, left_model: str, right: Run, right_model: str, *, replicates: int = 10_000) -> AcrossRuns:
    """Compare right's model with left's, only over tasks with the same prompt and scorers of the same version.

    Raises:
        UsageError: nothing is left to compare.
    """
    same_run = left.path.resolve() == right.path.resolve()
    if same_run and left_model == right_model:
        raise UsageError("both sides name the same model of the same run", "name two models: RUN:base RUN:tuned")
    scorers, left_out = _common_scorers(left, right)
    # what a run asked, whoever answered: a task that the model at hand never answered is missing, not left out
    asked = [{(r["suite"], r["task"]): r.get("prompt_sha") for r in run.rows} for run in (left, right)]
    for run, prompts in zip((left, right), asked, strict=True):
        lacking = next((task for (_, task), sha in prompts.items() if sha is None), None)
        if lacking is not None and not same_run:
            raise HarnessError(f"{run.path}: the rows of task {lacking} have no prompt_sha", "call `run` again")
    shared = {key for key in asked[0].keys() & asked[1].keys() if asked[0][key] == asked[1][key]}
    answered = [
        {(r["suite"], r["task"]) for r in run.rows if family(r["model"]) == model}
        for run, model in ((left, left_model), (right, right_model))
    ]
    if not shared & answered[0] & answered[1] or not scorers:
        what = "task with the same prompt" if scorers else "scorer of the same version"
        raise UsageError(f"{left.name}:{left_model} and {right.name}:{right_model} share no {what}")
    labels = (left_model, right_model) if same_run else (f"{left_model}@{left.name}", f"{right_model}@{right.name}")
    if labels[0] == labels[1]:
        labels = (f"{labels[0]} (1)", f"{labels[1]} (2)")
    sides = [(left, left_model, labels[0]), (right, right_model, labels[1])]
    kinds = kinds_of(right.about_models)
    controls = [name for name in right.models if kinds[name] == CONTROL and name not in (*labels, right_model)]
    sides += [(right, name, name) for name in controls]
    rows = [
        {**row, "model": label + row["model"][len(model) :], "scores": _only(row["scores"], scorers)}
        for run, model, label in sides
        for row in run.rows
        if family(row["model"]) == model and (row["suite"], row["task"]) in shared
    ]
    models = {label: run.about_models[model] | {"family": label} for run, model, label in sides}
    leaked: dict[str, set[str]] = {}
    for run in (left, right):
        for suite, about in run.manifest.get("suites", {}).items():
            leaked.setdefault(suite, set()).update((about.get("leakage") or {}).get("flagged", ()))
    summary = summarise(
        rows,
        scorers,
        tasks={**left.tasks, **right.tasks},
        pairs=[labels],
        replicates=replicates,
        about=Described(models, right.manifest.get("suites", {}), leaked),
    )
    unshared = (asked[0].keys() | asked[1].keys()) - shared
    marked = [{m for m, s in run.manifest.get("scorers", {}).items() if s.get("primary")} for run in (left, right)]
    return AcrossRuns(
        ":".join(labels),
        [] if same_run else manifest_differences(left, right, left_model, right_model),
        left_out,
        len(unshared),
        summary,
        tuple(metric for metric in left_out if metric in marked[0] | marked[1]),
        Counter(suite for suite, _ in sorted(unshared)),
    )


def manifest_differences(left: Run, right: Run, left_model: str = "", right_model: str = "") -> list[dict[str, Any]]:
    """List what decides the numbers and differs between two manifests; of the models only the two named."""

    def flat(run: Run, model: str) -> dict[str, Any]:
        manifest = {key: value for key, value in run.manifest.items() if key not in _NOT_DECIDING | {"models"}}
        models = run.manifest.get("models", {})
        about: Mapping[str, Any] = next((facts for name, facts in models.items() if family(name) == model), {})
        return dict(_leaves({**manifest, "model": {"name": model, **about}}))

    sides = flat(left, left_model), flat(right, right_model)
    keys = sorted(sides[0].keys() | sides[1].keys())
    return [
        {"key": key, "left": sides[0].get(key), "right": sides[1].get(key)}
        for key in keys
        if sides[0].get(key) != sides[1].get(key)
    ]


_FROZEN = re.compile(rb'\A\{"schema": \d+, "manifest": \{')
"""What frozen scores begin with: they are written anew, another file of that name is not."""


def freeze(run: Run, target: Path) -> Path:
    """Write what a later comparison needs of a run, without prompts, answers and pages; return the file.

    Scores by task are kept, not only means, so that the comparison is paired.

    Raises:
        UsageError: `target` is a file of somebody's own.
        HarnessError: the disk takes no more; an older file of that name stays.
    """
    rows = [_only(row, _KEPT_OF_ROWS) for row in run.rows]
    tasks = [_only(task, _KEPT_OF_TASKS) for task in run.tasks.values()]
    content = {"schema": SCHEMA, "manifest": dict(run.manifest), "tasks": tasks, "rows": rows}
    write_output(target, json.dumps(content, ensure_ascii=False) + "\n", _FROZEN)
    return target


def _common_scorers(left: Run, right: Run) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the scorers of the same version on both sides, and why others are left out."""
    ours, theirs = left.manifest.get("scorers", {}), right.manifest.get("scorers", {})
    common, left_out = {}, {}
    for metric in dict.fromkeys([*ours, *theirs]):
        if metric not in ours or metric not in theirs:
            left_out[metric] = f"only {left.name if metric in ours else right.name} has it"
        elif ours[metric].get("version") != theirs[metric].get("version"):
            left_out[metric] = f"version {ours[metric].get('version')} against {theirs[metric].get('version')}"
        else:
            common[metric] = theirs[metric]
    return common, left_out


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _NOT_DECIDING_OF_MODELS:
                yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _only(mapping: Mapping[str, Any], keys: Any) -> dict[str, Any]:
    return {key: mapping[key] for key in mapping if key in keys}
