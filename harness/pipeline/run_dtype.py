"""A run has one dtype: the first of its parts and calls decides it, the others take it over or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from harness.errors import UsageError
from harness.pipeline.config import RunPlan
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.runs.shard import shard_folders
from harness.types import ComputeDType


def in_the_runs_dtype(plan: RunPlan, reports: Path) -> RunPlan:
    """Return the plan in the dtype that its run was begun in, where it was begun by `--dtype` and none is asked for.

    Raises:
        UsageError: `--dtype` asks for another one than the run was begun in, here or in another shard.
    """
    asked = plan.config.dtype
    for name, manifest in _begun(plan, reports):
        recorded = manifest.arguments.get("dtype")
        begun = next((dtype for dtype in get_args(ComputeDType) if dtype == recorded), None)
        if asked is None:
            if begun is not None:
                note = f"{name} was begun with --dtype {begun}, which this call takes over"
                return replace(plan, config=replace(plan.config, dtype=begun), notes=(*plan.notes, note))
            continue
        held = {entry.dtype for entry in manifest.models.values()} - {None, asked}
        if held:
            raise UsageError(
                f"{name} was begun in {' and '.join(sorted(map(str, held)))}, not in {asked}",
                "leave --dtype out, or give this run another --name",
            )
    return plan


def _begun(plan: RunPlan, reports: Path) -> Iterator[tuple[str, Manifest]]:
    """Yield what was recorded of this run so far, its own folder first."""
    names = [plan.run_name]
    if plan.config.shard is not None:
        whole = plan.config.shard.whole(plan.run_name)
        names += [folder.name for folder in shard_folders(whole, reports).values() if folder.name != plan.run_name]
    for name in names:
        manifest = RunFolder(name, reports).read_manifest()
        if manifest is not None:
            yield name, manifest
