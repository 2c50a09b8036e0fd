"""Fine-tunes a LoRA adapter with TRL's SFTTrainer; the result is cached by everything that decides it."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.cache import cache_folder, content_key, file_sha256, write_atomically
from harness.errors import HarnessError
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.profile.schema import Training
from harness.train.data import DataReport, TrainingRow, training_rows
from harness.train.layout import Layout, written_layout
from harness.train.settings import check_names, lora_config, max_length, sft_config
from harness.types import Task, TrainingCurvePoint

ADAPTER_FILE = "adapter_model.safetensors"
DECIDING_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
COMPLETE = "complete"
"""Put into a checkpoint when all of it is there: transformers writes file by file, and a kill can come between."""


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """A finished adapter on disk, and how it came about."""

    folder: Path
    sha256: str
    rows: int
    tokens: int
    steps: int
    seconds: float
    curve: tuple[TrainingCurvePoint, ...]
    report: DataReport
    from_cache: bool
    layout: Mapping[str, Any]
    """The `Layout` that it ended with, field by field."""
    out_of_memory: tuple[str, ...] = ()
    """What was changed because memory ran out, one line each."""
    peak_memory_bytes: int | None = None
    """The most GPU memory that tensors took while training; None on a CPU."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the training tells while it runs."""

    step: int
    steps: int
    loss: float | None
    tokens_per_second: float | None


def adapter_key(loaded: LoadedModel, renderer: PromptRenderer, training: Training, rows: Sequence[TrainingRow]) -> str:
    """Return the content key of the adapter that this training makes: never a name."""
    return content_key(
        {
            "weights": loaded.weights.sha256,
            "precision": asdict(loaded.precision),
            "template": renderer.sha,
            "seed": training.seed,
            "sft": training.sft,
            "lora": training.lora,
            "rows": [[row.input_ids, row.labels] for row in rows],
            "packages": {name: version(name) for name in DECIDING_PACKAGES},
        }
    )


def train_adapter(
    loaded: LoadedModel,
    renderer: PromptRenderer,
    training: Training,
    tasks: Sequence[Task],
    on_progress: Callable[[Progress], None] | None = None,
    on_report: Callable[[DataReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    layout: Layout | None = None,
) -> TrainedAdapter:
    """Fine-tune an adapter, or return it from the cache; a killed training goes on from its last checkpoint.

    Args:
        loaded: The base weights; left as they were, without an adapter.
        renderer: The profile's prompt renderer.
        training: Settings of the model file.
        tasks: Training rows; never held-out ones.
        on_progress: Called after each logged step.
        on_report: Called once before training with what is wrong in the data.
        on_notice: Called with a line for each thing that the training had to change.
        layout: How to lay it out on the card; None is as the settings say. It is no part of the cache's key: it
            changes the order of sums and nothing else.

    Raises:
        UsageError: a setting is wrong or no rows are left.
        HarnessError: the memory does not even suffice for one row at a time.
    """
    check_names(training.sft, training.lora)
    rows, report = training_rows(tasks, renderer, max_length(training.sft))
    if on_report:
        on_report(report)
    folder = cache_folder("adapters") / adapter_key(loaded, renderer, training, rows)[:32]
    record_path = folder / "training.json"
    if not record_path.exists():
        attempt = functools.partial(_attempt, loaded, renderer, training, rows, folder, on_progress)
        _train(attempt, loaded, training, folder, on_notice, layout or written_layout(training.sft))
        from_cache = False
    else:
        from_cache = True
    record = _as_written(training) | json.loads(record_path.read_text(encoding="utf-8"))
    return TrainedAdapter(
        folder=folder,
        sha256=file_sha256(folder / ADAPTER_FILE),
        rows=len(rows),
        tokens=record["tokens"],
        steps=record["steps"],
        seconds=record["seconds"],
        curve=tuple(TrainingCurvePoint(**point) for point in record["curve"]),
        report=report,
        from_cache=from_cache,
        layout=record["layout"],
        out_of_memory=tuple(record["out_of_memory"]),
        peak_memory_bytes=record["peak_memory_bytes"],
    )


def _as_written(training: Training) -> dict[str, Any]:
    """Return what a record says of its layout where it was written before records spoke of layouts."""
    return {"layout": asdict(written_layout(training.sft)), "out_of_memory": [], "peak_memory_bytes": None}


def _train(
    attempt: Callable[[Layout], dict[str, Any]],
    loaded: LoadedModel,
    training: Training,
    folder: Path,
    on_notice: Callable[[str], None] | None,
    layout: Layout,
) -> None:
    """Train to the end, in smaller and smaller layouts while memory runs out, and write adapter and record."""
    import torch

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    out_of_memory: list[str] = []
    while True:
        try:
            record = attempt(layout)
            break
        except torch.OutOfMemoryError:
            smaller = layout.smaller()
        _recover(loaded)
        if smaller is None:
            raise HarnessError(
                f"the GPU's memory does not suffice for one row of {max_length(training.sft)} tokens",
                "set a smaller train.sft.max_length, or `python -m harness plan` for what fits",
            )
        out_of_memory.append(f"out of memory with {layout}: going on with {smaller}")
        if on_notice:
            on_notice(out_of_memory[-1])
        layout = smaller
    record |= {"layout": asdict(layout), "out_of_memory": out_of_memory}
    write_atomically(folder / "training.json", json.dumps(record))
    shutil.rmtree(checkpoints, ignore_errors=True)


def _attempt(
    loaded: LoadedModel,
    renderer: PromptRenderer,
    training: Training,
    rows: Sequence[TrainingRow],
    folder: Path,
    on_progress: Callable[[Progress], None] | None,
    layout: Layout,
) -> dict[str, Any]:
    """Train in this layout, from the last checkpoint where there is one; save the adapter and return its record."""
    import torch
    from datasets import Dataset
    from trl import SFTTrainer

    checkpoints = folder / "checkpoints"
    dataset = Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    torch.manual_seed(training.seed)
    recorder = _recorder(on_progress, checkpoints)
    loaded.drop_adapters()
    _forget_checkpointing(loaded.model)
    loaded.model.config.use_cache = False  # with a cache, packed rows see each other under sdpa
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    settings = sft_config(training.sft | layout.sft(), loaded.precision, training.seed, str(checkpoints))
    with _accelerated_base(loaded, training, settings, layout):
        trainer = SFTTrainer(
            model=loaded.model,
            args=settings,
            train_dataset=dataset,
            processing_class=renderer.tokenizer,
            peft_config=lora_config(training.lora),
            callbacks=[recorder],
        )
        loaded.model = trainer.model
        trainer.remove_callback(_printer())
        _keep_trainable_parameters_in_float32(trainer.model)
        started = time.monotonic()
        last = _last_checkpoint(checkpoints)
        with _lean(trainer.model, loaded, training):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        seconds = recorder.seconds_before + time.monotonic() - started
        trainer.model.save_pretrained(str(folder), safe_serialization=True)
        renderer.tokenizer.save_pretrained(str(folder))
        loaded.model = trainer.model.unload()
    loaded.model.config.use_cache = True
    loaded.model.eval()
    return {
        "tokens": int(trainer.state.num_input_tokens_seen) or sum(len(row.input_ids) for row in rows),
        "steps": trainer.state.global_step,
        "seconds": round(seconds, 3),
        "curve": [
            {"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry
        ],
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }


@contextlib.contextmanager
def _accelerated_base(loaded: LoadedModel, training: Training, settings: Any, layout: Layout) -> Iterator[None]:
    """Hold the base as the layout asks, and attend without masks where rows are packed and the GPU can."""
    from harness.train.packed import packed_attention, packed_attention_available
    from harness.train.plain import plain_base

    with contextlib.ExitStack() as stack:
        if layout.plain_base and loaded.precision.quantization != "none":
            stack.enter_context(plain_base(loaded.model))
        without_padding = settings.padding_free or (settings.packing and settings.packing_strategy != "wrapped")
        if _fitted(loaded, training) and without_padding and packed_attention_available():
            stack.enter_context(packed_attention(loaded.model))
        yield


def _lean(model: Any, loaded: LoadedModel, training: Training) -> contextlib.AbstractContextManager[Any]:
    from harness.train.lean import lean_layers

    if not _fitted(loaded, training):
        return contextlib.nullcontext()
    return lean_layers(model, loaded.precision.torch_dtype)


def _fitted(loaded: LoadedModel, training: Training) -> bool:
    """Return whether leaner kernels may do the work: float32 on a CPU stays torch's own arithmetic, bit for bit."""
    return training.fit == "card" and loaded.precision.dtype != "float32"


def _forget_checkpointing(model: Any) -> None:
    """A model that was once trained with checkpointing keeps recomputing, whatever the next training's settings say."""
    if getattr(model, "is_gradient_checkpointing", False):
        model.gradient_checkpointing_disable()


def _recover(loaded: LoadedModel) -> None:
    """Take off what a failed attempt left on the model, and give its memory back."""
    import torch

    if hasattr(loaded.model, "unload"):
        loaded.model = loaded.model.unload()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _keep_trainable_parameters_in_float32(model: Any) -> None:
    """TRL casts QLoRA adapters to bfloat16; fp16 mixed precision then fails to unscale them (trl#4901)."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end; those that were not are removed."""
    whole: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).exists():
            whole[int(checkpoint.name.rpartition("-")[2])] = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return whole[max(whole)] if whole else None


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _recorder(on_progress: Callable[[Progress], None] | None, folder: Path) -> Any:
    """Build the callback that reports progress and adds up the time of interrupted trainings."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]  # transformers ships no types for it
        seconds_before = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock = folder / "seconds"
            self.seconds_before = float(clock.read_text()) if state.global_step and clock.exists() else 0.0
            self.started = time.monotonic()
            self.first_tokens = state.num_input_tokens_seen

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            write_atomically(folder / "seconds", str(self.seconds_before + time.monotonic() - self.started))
            write_atomically(folder / f"checkpoint-{state.global_step}" / COMPLETE, "")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if on_progress is None or not logs or "loss" not in logs:
                return
            tokens = state.num_input_tokens_seen - self.first_tokens
            speed = tokens / max(time.monotonic() - self.started, 1e-9) if tokens else None
            on_progress(Progress(state.global_step, state.max_steps, float(logs["loss"]), speed))

    return Recorder()
