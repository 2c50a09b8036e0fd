"""`train` and `plan`: an adapter without a whole run, and what it would take."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness import processes
from harness.errors import HarnessError, UsageError
from harness.model.profile import ModelSpec
from harness.model.profile_schema import Quantization, Training
from harness.progress import ProgressReporter
from harness.storage.outputs import check_folder, output_folder


def train_model(
    model: str,
    *,
    profile: str | None,
    data: Sequence[str],
    out: Path | None,
    quantization: Quantization | None,
    split: Sequence[str] = (),
    push: str | None = None,
    merge: Path | None = None,
) -> None:
    """Train the model, with what is wrong in its data said before, and say where the adapter lies.

    Started by `accelerate launch`, its processes share each step, and the main one alone prints and writes.
    `push` names a repository on the hub that gets it; `merge` a folder for a merged 16-bit model.

    Raises:
        UsageError: the model is none that is trained, or a word means nothing.
        HarnessError: the weights cannot be had, or the training does not fit the GPU.
    """
    from harness.cli.merge_check import say_how_far_it_moved
    from harness.model.load import choose_precision
    from harness.model.profile import base_weights
    from harness.pipeline.config import one_model_config, resolve
    from harness.pipeline.prepare import prepare
    from harness.train.merge_adapter import export_merged
    from harness.train.push_to_hub import push_adapter

    reporter = ProgressReporter() if processes.is_main_process() else ProgressReporter(Console(quiet=True))
    config = one_model_config(model, profile, data, split, quantization)
    plan = resolve(config, models_only=True)
    reporter.say(f"profile {plan.profile.name}: {plan.profile.why}")
    _training_of(plan.specs[-1])
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
    weights = base_weights(candidate.spec.profile)
    if push is not None:
        reporter.say(f"pushed to {push_adapter(folder, push, weights)}")
    if merge is not None:
        del candidate  # its weights make room
        with reporter.stage("merging"):
            precision = choose_precision(plan.profile.file.quantization, plan.profile.file.dtype)
            export_merged(weights, precision, folder, trained.sha256, merge)
        say_how_far_it_moved(model, merge, config, reporter)


def _training_of(spec: ModelSpec) -> Training:
    if spec.file.train is None:
        raise UsageError(f"'{spec.name}' is not trained: its file has no `train`", "name a model such as tuned")
    return spec.file.train


def plan_training(model: str, *, profile: str | None, gpu: str | None) -> None:
    """Print weights to fetch, peak memory by part, and speed; for a training as its file asks for it.

    Raises:
        UsageError: a word means nothing, or the profile says nothing of its shape.
        HarnessError: the training cannot fit; the hint names the nearest setting that does.
    """
    from harness.generate.transformers.plan import plan_decoding
    from harness.model.gpu_memory import GIB, USABLE, checkpoint_bytes, named_card, this_card
    from harness.model.profile import base_weights, load_profile, resolve_model
    from harness.model.reach import UNKNOWN_LIMIT
    from harness.train.batch_layout import written_layout
    from harness.train.memory_plan import best_layout, nearest_fitting, peak_memory, tokens_per_second
    from harness.train.settings import check_names

    reporter = ProgressReporter()
    card = named_card(gpu) if gpu else this_card()
    chosen = load_profile(profile or ("llama-2-7b" if gpu else None))
    training, shape = _training_of(resolve_model(model, chosen)), chosen.file.shape
    check_names(training.sft, training.lora)
    if shape is None:
        raise UsageError(f"profile {chosen.name} has no `shape`", "copy the sizes from the model's config.json")
    if card is None:
        raise UsageError("there is no CUDA GPU to plan for", "name one: --gpu t4, l4, a10, a100 or h100")
    quantization = chosen.file.quantization
    written = written_layout(training.sft)
    layout = best_layout(shape, training, quantization, card) if training.batch_plan == "auto" else written
    memory = peak_memory(shape, training, layout or written, quantization)
    if layout is None or memory.total > USABLE * card.memory:
        raise HarnessError(
            f"{model} needs {memory.total / GIB:.1f} GiB, {card.name} has {USABLE * card.memory / GIB:.1f} GiB to give",
            nearest_fitting(shape, training, quantization, card),
        )
    source = base_weights(chosen)
    fetched = 0.0 if source.gguf or source.folder else checkpoint_bytes(shape) / 1e9
    reporter.say(f"{chosen.name}/{model} on {card.name}: {layout}; {'bfloat16' if card.modern else 'float16'}")
    reporter.say(f"weights to fetch unless they are in the hub's cache: {fetched:.1f} GB ({source})")
    for name in ("weights", "adapter", "optimiser", "activations", "workspace"):
        reporter.say(f"  {name:<12}{getattr(memory, name) / GIB:6.2f} GiB")
    reporter.say(f"  {'peak':<12}{memory.total / GIB:6.2f} GiB of {card.memory / GIB:.1f}")
    speed = tokens_per_second(shape, training, layout, quantization, card)
    source_of_speed = "from rates measured on one" if "H100" in card.name else "computed from the data sheet"
    reporter.say(f"about {speed:.0f} tokens/s ({source_of_speed})")
    file = chosen.file
    limit = file.max_new_tokens or UNKNOWN_LIMIT
    decoding = plan_decoding(shape, quantization, card, file.batch_size, limit)
    reporter.say(f"answering afterwards: {decoding}")
