"""The last step of a run: its rows become `samples.jsonl`, the comparison and the report."""

from __future__ import annotations

from collections.abc import Sequence

from harness.runs.folder import MANIFEST_FILE, SAMPLES_FILE, SUMMARY_FILE, TASKS_FILE, RunFolder
from harness.runs.manifest import Manifest
from harness.runs.samples import SampleRecord, TaskRecord
from harness.runs.summary import Summary


def write_rows(
    folder: RunFolder, manifest: Manifest, tasks: Sequence[TaskRecord], rows: Sequence[SampleRecord]
) -> list[SampleRecord]:
    """Write tasks, rows and the finished manifest; return the rows in the order in which they were written."""
    ordered = sorted(rows, key=lambda row: row.key)
    folder.write_lines(TASKS_FILE, tasks)
    folder.write_lines(SAMPLES_FILE, ordered)
    folder.write(MANIFEST_FILE, manifest)
    return ordered


def write_answer(
    folder: RunFolder, manifest: Manifest, tasks: Sequence[TaskRecord], rows: Sequence[SampleRecord]
) -> Summary:
    """Compare the rows that `write_rows` has written; write and return the summary, write votes' say and report."""
    from harness.compare import Described, summarise
    from harness.report import write_index, write_report
    from harness.runs.pairs import pairs_to_compare
    from harness.vote import write_agreement

    summary = summarise(
        rows,
        manifest.scorers,
        tasks={task.key: task for task in tasks},
        pairs=pairs_to_compare(manifest.models),
        about=Described(manifest.models, manifest.suites, manifest.flagged),
    )
    folder.write(SUMMARY_FILE, summary)
    write_agreement(folder.path)  # votes that were given before, as far as they were on these pages
    write_report(folder.path)
    write_index(folder.path.parent)
    return summary
