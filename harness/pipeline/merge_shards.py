"""Puts the parts of a run together that were measured apart, by `--shard I/N`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.pipeline.results import write_answer, write_rows
from harness.runs.cost import answering_cost
from harness.runs.folder import REPORTS_FOLDER, RunFolder, row_key
from harness.runs.schema import upgraded
from harness.runs.shard import Shard, shard_folders
from harness.storage.jsonl import read_lines
from harness.types import Row


def merge_shards(name: str, reports: Path = REPORTS_FOLDER) -> Path | None:
    """Make one run of its parts and return its folder; None where there are no parts of such a run.

    Raises:
        UsageError: a part is missing, unfinished, or was measured with other models, data or tools than the rest.
    """
    if Path(name).name != name:
        name, reports = Path(name).name, Path(name).parent
    folders = shard_folders(name, reports)
    if not folders:
        return None
    _complete(name, folders)
    manifests = {shard: _manifest(shard, folder) for shard, folder in folders.items()}
    _of_one_run(name, manifests)
    tasks = read_lines(next(iter(folders.values())) / "tasks.jsonl")
    rows = _rows(folders)
    with RunFolder(name, reports) as whole:
        for folder in folders.values():
            if (folder / "shots").is_dir():
                shutil.copytree(folder / "shots", whole.path / "shots", dirs_exist_ok=True)
        manifest = _merged(name, list(manifests.values()), rows)
        write_answer(whole, manifest, tasks, write_rows(whole, manifest, tasks, rows))
        return whole.path


def _complete(name: str, folders: Mapping[Shard, Path]) -> None:
    counts = {shard.count for shard in folders}
    if len(counts) > 1:
        raise UsageError(
            f"the run {name} has parts of {' and of '.join(str(count) for count in sorted(counts))}",
            "remove the folders that do not belong to it",
        )
    (count,) = counts
    missing = sorted(set(range(1, count + 1)) - {shard.number for shard in folders})
    if missing:
        words = ", ".join(f"{number}/{count}" for number in missing)
        raise UsageError(f"the run {name} lacks the shard {words}", "run it, or copy its folder here")


def _manifest(shard: Shard, folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = {}
    manifest = upgraded(manifest, folder / "manifest.json")
    if not manifest.get("finished") or not (folder / "samples.jsonl").exists():
        raise UsageError(f"the shard {shard} has not finished", "run it again: it goes on where it was")
    return manifest


def _of_one_run(name: str, manifests: Mapping[Shard, Mapping[str, Any]]) -> None:
    first, *others = manifests.items()
    for shard, manifest in others:
        if manifest["deciding"] != first[1]["deciding"]:
            differs = [part for part in ("models", "suites", "tools") if _decides(manifest, first[1], part)]
            raise UsageError(
                f"the shards {first[0]} and {shard} of {name} differ in {' and '.join(differs) or 'their scorers'}",
                "measure them with the same adapter, data, browser and versions",
            )


def _decides(left: Mapping[str, Any], right: Mapping[str, Any], part: str) -> bool:
    def bare(entries: Mapping[str, Any]) -> dict[str, Any]:
        apart = ("training", "cost", "batch_size", "decoding", "batch_check", "leakage")
        return {
            name: {key: value for key, value in entry.items() if key not in apart}
            if isinstance(entry, Mapping)
            else entry
            for name, entry in entries.items()
        }

    return bare(left[part]) != bare(right[part])


def _rows(folders: Mapping[Shard, Path]) -> list[Row]:
    rows: dict[tuple[str, str, str, int], Row] = {}
    for shard, folder in folders.items():
        for line in read_lines(folder / "samples.jsonl"):
            row = upgraded(line, folder / "samples.jsonl")
            if row_key(row) in rows:
                raise UsageError(f"the shard {shard} holds task {row['task']} again", "remove its folder, run it again")
            rows[row_key(row)] = row
    return list(rows.values())


def _merged(name: str, manifests: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the manifest of the whole: the first part's, with the time and cost of all."""
    merged = json.loads(json.dumps(manifests[0]))
    merged |= {
        "run": name,
        "shard": None,
        "started": min(manifest["started"] for manifest in manifests),
        "finished": max(manifest["finished"] for manifest in manifests),
        "shards": [
            {"shard": part["shard"], "hardware": part["hardware"], "finished": part["finished"]} for part in manifests
        ],
    }
    for model, entry in merged["models"].items():
        if entry["cost"] is not None:
            peaks = [manifest["models"][model]["cost"]["peak_memory_bytes"] for manifest in manifests]
            entry["cost"] = answering_cost(
                (row for row in rows if row["model"] == model),
                max((peak for peak in peaks if peak is not None), default=None),
            )
    return dict(merged)
