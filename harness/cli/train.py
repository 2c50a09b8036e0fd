"""`train`: an adapter without a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DataOption,
    ProfileOption,
    QuantizationOption,
    SplitOption,
    TrainedModelArgument,
    TrainOnOption,
    WeightsOption,
    one_model_config,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.model.profile import ModelSpec
    from harness.model.profile_schema import Training


def train(
    model: TrainedModelArgument = "tuned",
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    train_on: TrainOnOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    quantization: QuantizationOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also copy the adapter to this folder.")] = None,
    push: Annotated[str | None, typer.Option("--push", metavar="REPO", help="Put the adapter onto the hub.")] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", metavar="FOLDER", help="Export a merged 16-bit model and measure it again."),
    ] = None,
) -> None:
    """Fine-tune a model, and say where its adapter lies.

    A training that has been done is found in the cache. Started by `accelerate launch`, several processes share a step.
    """
    import shutil

    from rich.console import Console

    from harness import processes
    from harness.cli.merge_check import say_how_far_it_moved
    from harness.model.load import choose_precision
    from harness.model.profile import base_weights
    from harness.pipeline.config import resolve
    from harness.pipeline.prepare import prepare
    from harness.progress import ProgressReporter
    from harness.storage.outputs import check_folder, output_folder
    from harness.train.merge_adapter import export_merged
    from harness.train.push_to_hub import push_adapter

    reporter = ProgressReporter() if processes.is_main_process() else ProgressReporter(Console(quiet=True))
    config = one_model_config(model, weights, profile, train_on, data, split, quantization)
    plan = resolve(config, models_only=True, measured_later=merge is not None)
    reporter.say(f"profile {plan.profile.name}: {plan.profile.why}")
    training_of(plan.specs[-1])
    if out is not None:
        check_folder(out)
    if merge is not None:
        processes.refuse_many("--merge")
        check_folder(merge)
    with processes.together() as count:
        if count > 1:
            reporter.say(f"{count} processes share each step")
        candidate = prepare(plan, reporter)[-1]
    if not processes.is_main_process():
        return
    trained = candidate.trained
    assert trained is not None
    losses = [point.loss for point in trained.curve if point.loss is not None]
    if losses:
        reporter.say(f"{trained.rows} rows, {trained.steps} steps, loss {losses[0]} → {losses[-1]}")
    if trained.evaluation is not None:
        reporter.say(
            f"kept step {trained.evaluation['kept_step']}, the best by the task score on the development slice"
        )
    folder = trained.folder
    if out is not None:
        with output_folder(out) as target:
            shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints"))
        folder = out
    reporter.say(f"adapter: {folder}")
    base = base_weights(candidate.spec.profile)
    if push is not None:
        reporter.say(f"pushed to {push_adapter(folder, push, base)}")
    if merge is not None:
        del candidate  # its weights make room
        with reporter.stage("merging"):
            precision = choose_precision(plan.profile.file.quantization, plan.profile.file.dtype)
            export_merged(base, precision, folder, trained.sha256, merge)
        say_how_far_it_moved(model, merge, config, reporter)


def training_of(spec: ModelSpec) -> Training:
    """Return how the model is trained.

    Raises:
        UsageError: it is none that is trained.
    """
    if spec.file.train is None:
        raise UsageError(f"'{spec.name}' is not trained: its file has no `train`", "name a model such as tuned")
    return spec.file.train
