"""Puts the parts of a run together that were measured apart, by `--shard I/N`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.pipeline.results import write_answer, write_rows
from harness.runs.cost import answering_cost
from harness.runs.folder import MANIFEST_FILE, REPORTS_FOLDER, SAMPLES_FILE, RunFolder
from harness.runs.manifest import Manifest, ShardEntry
from harness.runs.read import read_manifest, read_run
from harness.runs.run import Run
from harness.runs.samples import RecordKey, SampleRecord
from harness.runs.shard import Shard, shard_folders


def merge_shards(name: str, reports: Path = REPORTS_FOLDER) -> Path | None:
    """Make one run of its parts and return its folder; None where there are no parts of such a run.

    Raises:
        UsageError: a part is missing, unfinished, or was measured with other models, data or tools than the rest; or
            the run's folder holds rows that are not those of parts.
    """
    if Path(name).name != name:
        name, reports = Path(name).name, Path(name).parent
    folders = shard_folders(name, reports)
    if not folders:
        return None
    there = RunFolder(name, reports).read_manifest()
    if there is not None and not there.shards:
        raise UsageError(
            f"{reports / name} is a run of its own, and shards of a run {name} lie beside it",
            f"remove or rename {name}.shard-*, or that run's folder to put the shards together",
        )
    _complete(name, folders)
    _of_one_run(name, {shard: _manifest(shard, folder) for shard, folder in folders.items()})
    runs = {shard: read_run(folder) for shard, folder in folders.items()}
    tasks = list(next(iter(runs.values())).tasks.values())
    rows = _rows(runs)
    with RunFolder(name, reports) as whole:
        for folder in folders.values():
            if (folder / "shots").is_dir():
                shutil.copytree(folder / "shots", whole.path / "shots", dirs_exist_ok=True)
        manifest = _merged(name, [run.manifest for run in runs.values()], rows)
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


def _manifest(shard: Shard, folder: Path) -> Manifest:
    if not (folder / MANIFEST_FILE).is_file() or not (folder / SAMPLES_FILE).is_file():
        raise _unfinished(shard)
    manifest = read_manifest(folder)
    if not manifest.finished:
        raise _unfinished(shard)
    return manifest


def _unfinished(shard: Shard) -> UsageError:
    return UsageError(f"the shard {shard} has not finished", "run it again: it goes on where it was")


def _of_one_run(name: str, manifests: Mapping[Shard, Manifest]) -> None:
    first, *others = manifests.items()
    for shard, manifest in others:
        if manifest.deciding != first[1].deciding:
            sides = [_bare(side) for side in (manifest, first[1])]
            differs = [part for part in sides[0] if sides[0][part] != sides[1][part]]
            dtypes = [_dtypes(side) for side in (first[1], manifest)]
            if dtypes[0] != dtypes[1]:
                differs = [f"dtype ({' against '.join(', '.join(found) for found in dtypes)})"]
            raise UsageError(
                f"the shards {first[0]} and {shard} of {name} differ in {' and '.join(differs) or 'their scorers'}",
                "measure them with the same dtype, adapter, data, browser and versions",
            )


def _bare(manifest: Manifest) -> dict[str, object]:
    """Return what decides a run's rows, without what a part of it says of itself."""
    models = {name: entry.model_dump(exclude=_OF_A_PART) for name, entry in manifest.models.items()}
    suites = {name: entry.model_dump(exclude={"leakage"}) for name, entry in manifest.suites.items()}
    return {"models": models, "suites": suites, "tools": manifest.tools}


def _dtypes(manifest: Manifest) -> list[str]:
    return sorted({entry.dtype for entry in manifest.models.values() if entry.dtype is not None})


_OF_A_PART = {"training", "cost", "batch_size", "decoding", "batch_check"}


def _rows(runs: Mapping[Shard, Run]) -> list[SampleRecord]:
    rows: dict[RecordKey, SampleRecord] = {}
    for shard, run in runs.items():
        for row in run.rows:
            if row.key in rows:
                raise UsageError(f"the shard {shard} holds task {row.task} again", "remove its folder, run it again")
            rows[row.key] = row
    return list(rows.values())


def _merged(name: str, manifests: Sequence[Manifest], rows: Sequence[SampleRecord]) -> Manifest:
    """Return the manifest of the whole: the first part's, with the time and cost of all."""
    models = dict(manifests[0].models)
    for model, entry in models.items():
        if entry.cost is not None:
            costs = [manifest.models[model].cost for manifest in manifests]
            peaks = [cost.peak_memory_bytes for cost in costs if cost and cost.peak_memory_bytes is not None]
            own = (row for row in rows if row.model == model)
            models[model] = entry.with_(cost=answering_cost(own, max(peaks, default=None)))
    return manifests[0].with_(
        run=name,
        shard=None,
        started=min(manifest.started or "" for manifest in manifests),
        finished=max(manifest.finished or "" for manifest in manifests),
        shards=[ShardEntry(shard=m.shard, hardware=m.hardware, finished=m.finished) for m in manifests],
        models=models,
    )
