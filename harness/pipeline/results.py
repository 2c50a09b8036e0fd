"""The last step of a run: its rows become `samples.jsonl`, the comparison and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.runs.folder import RunFolder, row_key
from harness.types import Row


def write_rows(
    folder: RunFolder, manifest: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> list[Row]:
    """Write tasks, rows and the finished manifest; return the rows in the order in which they were written."""
    ordered = sorted(rows, key=row_key)
    folder.write_lines("tasks.jsonl", tasks)
    folder.write_lines("samples.jsonl", ordered)
    folder.write_json("manifest.json", manifest)
    return ordered


def write_answer(
    folder: RunFolder, manifest: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> dict[str, Any]:
    """Compare the rows that `write_rows` has written; write and return the summary, write the report."""
    from harness.compare import Described, summarise
    from harness.report import write_index, write_report
    from harness.runs.pairs import pairs_to_compare

    summary = summarise(
        rows,
        manifest["scorers"],
        tasks={(task["suite"], task["task"]): task for task in tasks},
        pairs=pairs_to_compare(manifest["models"]),
        about=Described(
            manifest["models"],
            manifest["suites"],
            {name: suite["leakage"]["flagged"] for name, suite in manifest["suites"].items()},
        ),
    )
    folder.write_json("summary.json", summary)
    write_report(folder.path)
    write_index(folder.path.parent)
    return summary
