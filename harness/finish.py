"""The last step of a run: its rows become `samples.jsonl`, the comparison and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.jsonl import read_lines
from harness.rundir import RunFolder, row_key
from harness.types import Row


def write_rows(
    folder: RunFolder, manifest: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> None:
    """Write tasks, sorted rows and the finished manifest."""
    folder.write_lines("tasks.jsonl", tasks)
    folder.write_lines("samples.jsonl", sorted(rows, key=row_key))
    folder.write_json("manifest.json", manifest)


def write_answer(folder: RunFolder) -> None:
    """Compare what the folder's files hold, and write summary, report and the list of runs."""
    from harness.compare import summarise
    from harness.report import write_index, write_report

    manifest = json.loads((folder.path / "manifest.json").read_text(encoding="utf-8"))
    summary = summarise(
        read_lines(folder.path / "samples.jsonl"),
        manifest["scorers"],
        tasks={(task["suite"], task["task"]): task for task in read_lines(folder.path / "tasks.jsonl")},
        pairs=pairs_to_compare(manifest["models"]),
        leaked={name: suite["leakage"]["flagged"] for name, suite in manifest["suites"].items()},
    )
    folder.write_json("summary.json", summary)
    write_report(folder.path)
    write_index(folder.path.parent)


def pairs_to_compare(models: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the pairs to compare, the one that answers the question first; trainings of one family are one model.

    Each tuned model is held against base and against the few-shot base; then the bases against each other. Where
    nothing was tuned, every two models are compared.
    """
    kinds = {entry["family"]: entry["kind"] for entry in models.values() if entry["kind"] != "control"}
    untuned = [name for name, kind in kinds.items() if kind != "tuned"]
    tuned = [name for name, kind in kinds.items() if kind == "tuned"]
    if not tuned or not untuned:
        return list(combinations(kinds, 2))
    return [*((base, name) for name in tuned for base in untuned), *combinations(untuned, 2)]
