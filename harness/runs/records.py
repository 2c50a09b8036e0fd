"""Rows of samples.jsonl and of frozen scores, checked before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import HarnessError
from harness.types import Row

_HIGHEST = {"binary": 1.0, "share": 1.0, "percent": 100.0}
_SLACK = 1e-6
"""How far a score may lie outside its range: sacrebleu's 100 is 100.00000000000004."""
_LONGEST = 60
_HINT = "call `run` again to write it anew"


def checked_rows(rows: Iterable[tuple[str, Row]], scorers: Mapping[str, Any]) -> list[Row]:
    """Return the rows, each given with the place it stands at ("FILE line 3").

    Raises:
        HarnessError: a field is missing, holds what it cannot hold, or a row stands there twice; names place and field.
    """
    found: list[Row] = []
    places: dict[tuple[str, str, str, int], str] = {}
    lengths: dict[str, int] = {}
    for place, row in rows:
        for field in ("suite", "task", "model", "prompt_sha"):
            value = row.get(field)
            if field == "prompt_sha" and field not in row:
                continue  # only a comparison needs it, which says so
            if not isinstance(value, str) or not value:
                raise _unfit(place, field, value, "text", field in row)
        sample = row.get("sample")
        if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
            raise _unfit(place, "sample", sample, "a whole number from 0", "sample" in row)
        _check_scores(place, row, scorers)
        _check_counts(place, row, lengths)
        key = (row["suite"], row["task"], row["model"], sample)
        if key in places:
            said = f"sample {sample} of {row['model']} on task {row['task']} stands at {places[key]} already"
            raise HarnessError(f"{place}: {said}", "take one of the two out")
        places[key] = place
        found.append(row)
    return found


def checked_scorers(place: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the manifest's `scorers`.

    Raises:
        HarnessError: one has no scale or kind that is known.
    """
    for field in ("scorers", "models", "suites"):
        value = manifest.get(field, {})
        if not isinstance(value, Mapping) or not all(isinstance(entry, Mapping) for entry in value.values()):
            raise _unfit(place, field, value, "an object of objects", True)
    scorers: Mapping[str, Any] = manifest.get("scorers", {})
    for metric, scorer in scorers.items():
        if scorer.get("scale") not in _HIGHEST:
            raise _unfit(
                place, f"scorers.{metric}.scale", scorer.get("scale"), " or ".join(_HIGHEST), "scale" in scorer
            )
        if not isinstance(scorer.get("kind"), str):
            raise _unfit(place, f"scorers.{metric}.kind", scorer.get("kind"), "text", "kind" in scorer)
    return scorers


def checked_tasks(rows: Iterable[tuple[str, Row]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the lines of tasks.jsonl by suite and task.

    Raises:
        HarnessError: a line names no suite or task, or its group, category or difficulty is no text.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for place, task in rows:
        for field in ("suite", "task", "group", "category", "difficulty"):
            value = task.get(field)
            if value is None and field not in ("suite", "task"):
                continue
            if not isinstance(value, str):
                raise _unfit(place, field, value, "text", field in task)
        found[task["suite"], task["task"]] = task
    return found


def _check_scores(place: str, row: Row, scorers: Mapping[str, Any]) -> None:
    scores = row.get("scores")
    if not isinstance(scores, dict):
        raise _unfit(place, "scores", scores, "an object of numbers", "scores" in row)
    for metric, score in scores.items():
        if score is None:
            continue
        highest = _HIGHEST[scorers[metric]["scale"]] if metric in scorers else math.inf
        field, wanted = f"scores.{metric}", f"null or a number from 0 to {highest:g}"
        if not _finite(score) or not -_SLACK <= score <= highest + _SLACK:
            raise _unfit(place, field, score, wanted, True)
        if metric in scorers and scorers[metric]["scale"] == "binary" and score not in (0, 1):
            raise _unfit(place, field, score, "null, 0 or 1", True)


def _check_counts(place: str, row: Row, lengths: dict[str, int]) -> None:
    counts = row.get("counts")
    if counts is None:
        return
    if not isinstance(counts, dict):
        raise _unfit(place, "counts", counts, "an object of lists", True)
    for metric, numbers in counts.items():
        if numbers is None:
            continue
        if not isinstance(numbers, list) or not all(_finite(number) and number >= 0 for number in numbers):
            raise _unfit(place, f"counts.{metric}", numbers, "a list of numbers from 0", True)
        if lengths.setdefault(metric, len(numbers)) != len(numbers):
            raise _unfit(place, f"counts.{metric}", numbers, f"{lengths[metric]} numbers as in the rows before", True)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unfit(place: str, field: str, value: object, wanted: str, there: bool) -> HarnessError:
    shown = repr(value) if there else "missing"
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    return HarnessError(f"{place}: {field} is {shown}, not {wanted}", _HINT)
