"""Fine-tunes a LoRA adapter with TRL's SFTTrainer; the result is cached by everything that decides it."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import processes
from harness.errors import HarnessError
from harness.model.identity import adapter_hashes
from harness.model.profile_schema import Training
from harness.storage.atomic import disk_faults_named, write_atomically
from harness.storage.lock import one_at_a_time
from harness.train.adapter_key import FORM, RECORD, adapter_place, trained_tokens
from harness.train.batch_layout import BatchPlan, written_layout
from harness.train.callbacks import Progress
from harness.train.cpu_plan import cpu_layout, planned_on_cpu
from harness.train.data import DataReport, training_rows
from harness.train.evaluation import TrainingEvaluation
from harness.train.job import TrainingJob
from harness.train.settings import check_names, check_targets, max_length
from harness.train.trackers import tensorboard_beside
from harness.train.trainer_run import attempt, free_memory
from harness.types import TrainingCurvePoint


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """A finished adapter on disk, and how it came about."""

    folder: Path
    sha256: str
    """Over everything in it that decides a text (`harness.model.identity`)."""
    rows: int
    tokens: int | None
    """Learnt from in all epochs, padding left out; None where an older record does not tell."""
    steps: int
    seconds: float
    curve: tuple[TrainingCurvePoint, ...]
    report: DataReport
    from_cache: bool
    layout: Mapping[str, Any]
    """The `BatchPlan` that it ended with, field by field."""
    out_of_memory: tuple[str, ...] = ()
    """What was changed because memory ran out, one line each."""
    peak_memory_bytes: int | None = None
    """The most GPU memory that tensors took while training; None on a CPU."""
    evaluation: Mapping[str, Any] | None = None
    """`settings`, `development` (task ids), `kept_step`, `stopped_early`; None without an evaluation."""


def train_adapter(
    job: TrainingJob,
    layout: BatchPlan | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_report: Callable[[DataReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> TrainedAdapter:
    """Fine-tune an adapter, or return it from the cache; a killed training goes on from its last checkpoint.

    Args:
        job: What is to be trained.
        layout: How to lay it out on the card; None is as the settings say. It is no part of the cache's key: it
            changes the order of sums and nothing else.
        on_progress: Called after each logged step.
        on_report: Called once before training with what is wrong in the data.
        on_notice: Called with a line for each thing that the training had to change.

    Raises:
        UsageError: a setting is wrong, no rows are left, or the processes cannot share a step's rows evenly.
        HarnessError: the memory does not even suffice for one row at a time, or the disk takes no more.
    """
    loaded, renderer, training, evaluation = job.loaded, job.renderer, job.training, job.evaluation
    check_names(training.sft, training.lora)
    rows, report = training_rows(job.tasks, renderer, max_length(training.sft))
    if on_report:
        on_report(report)

    def tell(line: str = "another process trains the same adapter: waiting for it") -> None:
        if on_notice:
            on_notice(line)

    folder = adapter_place(job, rows, tell)
    record_path = folder / RECORD

    # of the processes that share a training one holds the lock; the others meet it at the first thing they do together
    lock = (
        one_at_a_time(folder.with_name(f"{folder.name}.lock"), tell) if processes.is_main_process() else nullcontext()
    )
    with lock, disk_faults_named(folder.parent):
        from_cache = processes.any_rank(record_path.exists())
        if not from_cache:
            check_targets((name for name, _ in loaded.model.named_modules()), training.lora)
            once = functools.partial(attempt, job, rows, folder, on_progress)
            shared = layout or written_layout(training.sft).shared(processes.count())
            if planned_on_cpu(training, loaded):
                shared = cpu_layout(shared, training, [len(row.input_ids) for row in rows])
            _train(once, training, folder, on_notice, shared)
    record = _as_written(training) | json.loads(record_path.read_text(encoding="utf-8"))
    return TrainedAdapter(
        folder=folder,
        sha256=adapter_hashes(folder).identity,
        rows=len(rows),
        tokens=trained_tokens(record, training, len(rows)),
        steps=record["steps"],
        seconds=record["seconds"],
        curve=tuple(TrainingCurvePoint(**point) for point in record["curve"]),
        report=report,
        from_cache=from_cache,
        layout=record["layout"],
        out_of_memory=tuple(record["out_of_memory"]),
        peak_memory_bytes=record["peak_memory_bytes"],
        evaluation=_evaluation_record(evaluation, record) if evaluation else None,
    )


def _evaluation_record(evaluation: TrainingEvaluation, record: Mapping[str, Any]) -> dict[str, Any]:
    development = [task.id for task in evaluation.development]
    return {"settings": evaluation.settings.model_dump(), "development": development, **record["watch"]}


def _as_written(training: Training) -> dict[str, Any]:
    """Return what a record says of its layout where it was written before records spoke of layouts."""
    return {"layout": asdict(written_layout(training.sft)), "out_of_memory": [], "peak_memory_bytes": None}


def _train(
    once: Callable[[BatchPlan], dict[str, Any]],
    training: Training,
    folder: Path,
    on_notice: Callable[[str], None] | None,
    layout: BatchPlan,
) -> None:
    """Train to the end, in smaller and smaller layouts while memory runs out, and write adapter and record."""
    import torch

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    out_of_memory: list[str] = []
    while True:
        try:
            with tensorboard_beside(folder):
                record = once(layout)
            break
        except torch.OutOfMemoryError:
            smaller = layout.smaller()
        free_memory()
        if smaller is None:
            raise HarnessError(
                f"the GPU's memory does not suffice for one row of {max_length(training.sft)} tokens",
                "set a smaller train.sft.max_length, or `python -m harness plan` for what fits",
            )
        out_of_memory.append(f"out of memory with {layout}: going on with {smaller}")
        if on_notice:
            on_notice(out_of_memory[-1])
        layout = smaller
    together = {"processes": processes.count()} if processes.count() > 1 else {}
    record |= {"layout": asdict(layout) | together, "out_of_memory": out_of_memory}
    if processes.is_main_process():
        write_atomically(folder / RECORD, json.dumps(record | {"form": FORM}))
        shutil.rmtree(checkpoints, ignore_errors=True)
    processes.wait()
