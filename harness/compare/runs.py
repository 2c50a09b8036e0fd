"""Runs and frozen scores read from files, and one held against another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from harness.compare.summary import Described, summarise
from harness.compare.table import Tasks
from harness.errors import HarnessError, UsageError, did_you_mean
from harness.runs.manifest import CONTROL, TUNED, ScorerEntry
from harness.runs.model_name import family
from harness.runs.pairs import Pair, kinds_of
from harness.runs.run import Run
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord
from harness.runs.schema import SCHEMA
from harness.runs.summary import Summary
from harness.storage.outputs import write_output

_NOT_DECIDING = {"schema", "run", "started", "finished", "command", "arguments", "models"}
"""Keys of a manifest that name a run or its time and decide no number."""
_SAID_LAST = {"executor", "git", "hardware", "packages", "scorers", "self_test"}
"""Keys of which many differ at once: models, suites and tools are not to be lost behind them."""
_NOT_DECIDING_OF_MODELS = {"cost", "curve", "seconds"}
_KEPT_OF_ROWS = {"version", "suite", "task", "model", "sample", "prompt_sha", "scores", "counts"}
_KEPT_OF_TASKS = {
    *("version", "suite", "task", "category", "difficulty", "group"),
    *("prompt_sha", "reference_sha", "checks_sha"),
}
_OF_CHECKS = ("checks_must", "checks_all")
"""The metrics that a task's checks decide."""


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
        if wanted not in run.families:
            raise UsageError(f"the run {run.name} has no model '{wanted}'", did_you_mean(wanted, run.families))
        return wanted
    if not run.families:
        raise UsageError(f"the run {run.name} holds no answers", "call `run` again to measure it")
    if "tuned" in run.families:
        return "tuned"
    kinds = {name: entry.kind for name, entry in run.about_families.items()}
    tuned = [name for name, kind in kinds.items() if kind == TUNED]
    if len(tuned) == 1 or len(run.families) == 1:
        return (tuned or run.families)[0]
    raise UsageError(f"the run {run.name} has several models", f"name one: {run.name}:{run.families[0]}")


@dataclass(frozen=True, slots=True)
class ManifestDifference:
    """What decides numbers and differs between two runs; None where a side does not say."""

    key: str
    left: JsonValue
    right: JsonValue


@dataclass(frozen=True)
class AcrossRuns:
    """Two models of two runs (or of one), compared on what both measured in the same way."""

    pair: Pair
    """As the summary calls them."""
    models: Pair
    """As their runs call them."""
    manifest_differences: list[ManifestDifference]
    left_out_metrics: dict[str, str]
    """Metrics that cannot be compared, and why."""
    left_out_tasks: int
    summary: Summary
    left_out_primary: tuple[str, ...] = ()
    """Those of the left-out metrics that are primary on a side."""
    left_out_by_suite: Mapping[str, int] = field(default_factory=dict)
    otherwise_checked: int = 0
    """Tasks whose checks were others on each side: there the metrics of checks have no number."""


def compare_runs(left: Run, left_model: str, right: Run, right_model: str, *, replicates: int = 10_000) -> AcrossRuns:
    """Compare right's model with left's, only over tasks with the same prompt and reference, by scorers of one version.

    Raises:
        UsageError: nothing is left to compare.
    """
    same_run = left.path.resolve() == right.path.resolve()
    if same_run and left_model == right_model:
        raise UsageError("both sides name the same model of the same run", "name two models: RUN:base RUN:tuned")
    scorers, left_out = _common_scorers(left, right)
    # what a run asked, whoever answered: a task that the model at hand never answered is missing, not left out
    asked = [{row.of_task: row.prompt_sha for row in run.rows} for run in (left, right)]
    for run, prompts in zip((left, right), asked, strict=True):
        lacking = next((key.task for key, sha in prompts.items() if not sha), None)
        if lacking is not None and not same_run:
            raise HarnessError(f"{run.path}: the rows of task {lacking} have no prompt_sha", "call `run` again")
    shared = {key for key in asked[0].keys() & asked[1].keys() if asked[0][key] == asked[1][key]}
    shared -= _differing(left.tasks, right.tasks, lambda task: task.known_reference)
    answered = [
        {row.of_task for row in run.rows if family(row.model) == model}
        for run, model in ((left, left_model), (right, right_model))
    ]
    if not shared & answered[0] & answered[1] or not scorers:
        what = "task with the same prompt and reference" if scorers else "scorer of the same version"
        raise UsageError(f"{left.name}:{left_model} and {right.name}:{right_model} share no {what}")
    pair = Pair(left_model, right_model)
    if not same_run:
        pair = Pair(f"{left_model}@{left.name}", f"{right_model}@{right.name}")
    if pair.first == pair.second:
        pair = Pair(f"{pair.first} (1)", f"{pair.second} (2)")
    sides = [(left, left_model, pair.first), (right, right_model, pair.second)]
    kinds = kinds_of(right.about_families)
    controls = [name for name in right.families if kinds[name] == CONTROL and name not in (*pair, right_model)]
    sides += [(right, name, name) for name in controls]
    otherwise_checked = _differing(left.tasks, right.tasks, lambda task: task.checks_sha) & shared
    rows = [
        _relabelled(row, label + row.model[len(model) :], scorers)
        for run, model, label in sides
        for row in run.rows
        if family(row.model) == model and row.of_task in shared
    ]
    models = {label: run.about_families[model].with_(family=label) for run, model, label in sides}
    leaked: dict[str, set[str]] = {}
    for run in (left, right):
        for suite, flagged in run.manifest.flagged.items():
            leaked.setdefault(suite, set()).update(flagged)
    summary = summarise(
        rows,
        scorers,
        tasks=_grouped(left.tasks, right.tasks),
        pairs=[pair],
        replicates=replicates,
        about=Described(models, right.manifest.suites, leaked, dict.fromkeys(otherwise_checked, _OF_CHECKS)),
    )
    unshared = (asked[0].keys() | asked[1].keys()) - shared
    marked = {m for run in (left, right) for m, scorer in run.manifest.scorers.items() if scorer.primary}
    return AcrossRuns(
        pair=pair,
        models=Pair(left_model, right_model),
        manifest_differences=[] if same_run else manifest_differences(left, right, left_model, right_model),
        left_out_metrics=left_out,
        left_out_tasks=len(unshared),
        summary=summary,
        left_out_primary=tuple(metric for metric in left_out if metric in marked),
        left_out_by_suite=Counter(key.suite for key in sorted(unshared)),
        otherwise_checked=len(otherwise_checked),
    )


def _grouped(left: Tasks, right: Tasks) -> dict[TaskKey, TaskRecord]:
    """Return the tasks of both; those whose near-duplicates only the left run was written with keep them."""
    unknown = {key: task.with_(group=left[key].group) for key, task in right.items() if not task.group and key in left}
    return {**left, **right, **unknown}


def _relabelled(row: SampleRecord, model: str, scorers: Mapping[str, ScorerEntry]) -> SampleRecord:
    scores = {metric: score for metric, score in row.scores.items() if metric in scorers}
    return row.model_copy(update={"model": model, "scores": scores})


def manifest_differences(
    left: Run, right: Run, left_model: str = "", right_model: str = ""
) -> list[ManifestDifference]:
    """List what decides the numbers and differs between two manifests; of the models only the two named."""

    def flat(run: Run, model: str) -> dict[str, JsonValue]:
        manifest = {key: value for key, value in run.manifest.as_json().items() if key not in _NOT_DECIDING}
        found = next((entry.as_json() for name, entry in run.manifest.models.items() if family(name) == model), {})
        about: dict[str, JsonValue] = {"name": model, **found}
        return dict(_leaves({**manifest, "model": about}))

    sides = flat(left, left_model), flat(right, right_model)
    keys = sorted(sides[0].keys() | sides[1].keys(), key=lambda key: (key.partition(".")[0] in _SAID_LAST, key))
    pairs = ((key, sides[0].get(key), sides[1].get(key)) for key in keys)
    return [ManifestDifference(key, ours, theirs) for key, ours, theirs in pairs if ours != theirs]


_FROZEN = re.compile(rb'\A\{"schema": \d+, "manifest": \{')
"""What frozen scores begin with: they are written anew, another file of that name is not."""


def freeze(run: Run, target: Path) -> Path:
    """Write what a later comparison needs of a run, without prompts, answers and pages; return the file.

    Scores by task are kept, not only means, so that the comparison is paired.

    Raises:
        UsageError: `target` is a file of somebody's own.
        HarnessError: the disk takes no more; an older file of that name stays.
    """
    content = {
        "schema": SCHEMA,
        "manifest": run.manifest.as_json(),
        "tasks": [_frozen_task(task) for task in run.tasks.values()],
        "rows": [row.model_dump(include=_KEPT_OF_ROWS) for row in run.rows],
    }
    write_output(target, json.dumps(content, ensure_ascii=False) + "\n", _FROZEN)
    return target


def _frozen_task(task: TaskRecord) -> dict[str, JsonValue]:
    return task.with_(reference_sha=task.known_reference).model_dump(include=_KEPT_OF_TASKS)


def _differing(left: Tasks, right: Tasks, sha: Callable[[TaskRecord], str | None]) -> set[TaskKey]:
    """Return the tasks of which both sides know a hash, and not the same one."""
    both = ((key, sha(task), sha(right[key])) for key, task in left.items() if key in right)
    return {key for key, ours, theirs in both if ours and theirs and ours != theirs}


def _common_scorers(left: Run, right: Run) -> tuple[dict[str, ScorerEntry], dict[str, str]]:
    """Return the scorers of the same version on both sides, and why others are left out."""
    ours, theirs = left.manifest.scorers, right.manifest.scorers
    common, left_out = {}, {}
    for metric in dict.fromkeys([*ours, *theirs]):
        if metric not in ours or metric not in theirs:
            left_out[metric] = f"only {left.name if metric in ours else right.name} has it"
        elif ours[metric].version != theirs[metric].version:
            left_out[metric] = f"version {ours[metric].version} against {theirs[metric].version}"
        elif (ours[metric].scale, ours[metric].corpus) != (theirs[metric].scale, theirs[metric].corpus):
            left_out[metric] = f"{_measure(ours[metric])} against {_measure(theirs[metric])}"
        else:
            # a run that no longer calls it primary does not take it from the verdict
            common[metric] = theirs[metric].with_(primary=ours[metric].primary or theirs[metric].primary)
    return common, left_out


def _measure(scorer: ScorerEntry) -> str:
    return f"{scorer.scale}{' of the corpus' if scorer.corpus else ''}"


def _leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _NOT_DECIDING_OF_MODELS:
                yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
