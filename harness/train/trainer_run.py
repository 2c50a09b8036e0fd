"""One attempt at a training in one layout: from the last checkpoint, where there is one, to the saved adapter."""

from __future__ import annotations

import contextlib
import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness import processes
from harness.model.context import context_length
from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.model.tokenizer import check_known
from harness.runs.schema import JsonObject
from harness.train.batch_layout import BatchPlan, laid_out
from harness.train.callbacks import Progress, last_checkpoint, recorder, refuse_useless, trainable_sums
from harness.train.cpu_plan import ATTEND_PLAINLY, planned_on_cpu
from harness.train.data import TrainingRow, check_context
from harness.train.evaluation import LAST, curve, evaluation_callback, keep_best, refuse_shards
from harness.train.initial import InitialAdapter
from harness.train.job import TrainingJob
from harness.train.loss_check import check_loss
from harness.train.model_card import write_card
from harness.train.rows_apart import check_rows_apart
from harness.train.settings import library_refusals, lora_config, sft_config

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Trainer
    from trl import SFTConfig


_OF_SETTINGS = (AttributeError, ImportError, IndexError, NotImplementedError, TypeError, ValueError)
"""What libraries raise in a step over settings that do not go together with each other or with the model."""


def attempt(
    job: TrainingJob,
    rows: Sequence[TrainingRow],
    folder: Path,
    on_progress: Callable[[Progress], None] | None,
    layout: BatchPlan,
) -> JsonObject:
    """Train in this layout, from the last checkpoint where there is one; save the adapter and return its record."""
    import torch
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from harness.train.ddp_trainer import trainer_class

    loaded, training, evaluation = job.loaded, job.training, job.evaluation
    checkpoints = folder / "checkpoints"
    dataset = Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    clock = recorder(on_progress, checkpoints)
    evaluating = [evaluation_callback(evaluation, checkpoints)] if evaluation else []
    with loaded.lent() as base:
        check_known((token for row in rows for token in row.input_ids), base)
        check_context(rows, context_length(base.config))
        base.config.use_cache = False  # with a cache, packed rows see each other under sdpa
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        settings = sft_config(laid_out(training.sft, layout), loaded.precision, training.seed, str(checkpoints))
        with _accelerated_base(loaded, training, settings, layout):
            initial = InitialAdapter(loaded, training.lora, rows[0].input_ids)
            torch.manual_seed(training.seed)
            with library_refusals():
                trainer = trainer_class(training.batch_plan == "auto")(
                    model=base,
                    args=settings,
                    train_dataset=dataset,
                    processing_class=copy.deepcopy(job.renderer.tokenizer),  # some settings change it
                    peft_config=lora_config(training.lora),
                    callbacks=[clock, *evaluating],
                )
            _begin_without_warm_up(trainer)
            loaded.model = trainer.model
            initial.keep(trainer.model)
            trainer.remove_callback(PrinterCallback)  # it prints every line of the log
            for callback in evaluating:
                refuse_shards(trainer)
                callback.log = trainer.log
            _keep_trainable_parameters_in_float32(trainer.model)
            if not processes.sharded():
                with library_refusals():
                    check_rows_apart(trainer, rows, loaded.precision.dtype)
                    if not _fitted(loaded, training):
                        check_loss(trainer, rows[0], loaded.precision.dtype)
            untrained = trainable_sums(trainer.model)
            for callback in evaluating:
                callback.untrained = untrained
            started = time.monotonic()
            last = last_checkpoint(checkpoints)
            fused, cards = _fused(trainer.model, loaded, training, layout), _checkpoints_without_cards(trainer)
            with library_refusals(_OF_SETTINGS), fused, cards:
                trainer.train(resume_from_checkpoint=str(last) if last else None)
            refuse_useless(trainer.model, trainer.state.global_step, untrained)
            kept = keep_best(trainer, folder, checkpoints)
            seconds = clock.seconds_before + time.monotonic() - started
            _save(trainer, folder)
            if processes.is_main_process():
                for saved in (folder, folder / LAST):
                    initial.subtract(saved)
        return {
            "tokens": int(trainer.state.num_input_tokens_seen),
            "steps": trainer.state.global_step,
            "seconds": round(seconds, 3),
            "curve": [*curve(trainer.state.log_history)],
            "watch": kept if evaluation else None,
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        }


def _begin_without_warm_up(trainer: Trainer) -> None:
    """Take the warm-up out of a training of one step: the learning rate would be 0 in it, and nothing be learnt."""
    make = trainer.create_scheduler

    def create_scheduler(num_training_steps: int, *more: object, **named: object) -> object:
        if num_training_steps == 1:
            trainer.args.warmup_steps = 0
        return make(num_training_steps, *more, **named)

    trainer.create_scheduler = create_scheduler


def _save(trainer: Trainer, folder: Path) -> None:
    """Write adapter, tokenizer and card, safetensors only; where the model is sharded, every process gives its part."""
    if processes.sharded():
        trainer.save_model(str(folder))
    if not processes.is_main_process():
        return
    if not processes.sharded():
        trainer.model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, which runs code in who opens it
    trainer.processing_class.save_pretrained(str(folder))
    write_card(folder, "html-adapter")  # in place of PEFT's form with everything left to be filled in


@contextlib.contextmanager
def _accelerated_base(
    loaded: LoadedModel, training: Training, settings: SFTConfig, layout: BatchPlan
) -> Iterator[None]:
    """Hold the base as the layout asks, and attend without masks where rows are packed."""
    from harness.train.dequantized_base import plain_base
    from harness.train.packed_attention import packed_attention

    with contextlib.ExitStack() as stack:
        if layout.plain_base and loaded.precision.quantization != "none":
            stack.enter_context(plain_base(loaded.model))
        without_padding = settings.padding_free or (settings.packing and settings.packing_strategy != "wrapped")
        without_padding |= planned_on_cpu(training, loaded) and layout.micro_batch == 1
        plain_attention = loaded.model.config.model_type in ATTEND_PLAINLY
        if _fitted(loaded, training) and without_padding and plain_attention:
            stack.enter_context(packed_attention(loaded.model))
        yield


@contextlib.contextmanager
def _fused(model: PeftModel, loaded: LoadedModel, training: Training, layout: BatchPlan) -> Iterator[None]:
    import torch

    from harness.train.fused_layers import lean_layers
    from harness.train.label_head import label_head

    with contextlib.ExitStack() as stack:
        if planned_on_cpu(training, loaded):
            dtype = getattr(torch, layout.products or "float32")
            stack.enter_context(lean_layers(model, dtype))
            stack.enter_context(label_head(model.get_base_model(), dtype))
        elif _fitted(loaded, training):
            stack.enter_context(lean_layers(model, loaded.precision.torch_dtype))
        yield


@contextlib.contextmanager
def _checkpoints_without_cards(trainer: Trainer) -> Iterator[None]:
    """Keep TRL and PEFT from filling in their forms of a model card at each checkpoint: half of what saving takes."""
    model = trainer.model  # where it is sharded, the trainer has another one around it afterwards
    trainer.create_model_card = model.create_or_update_model_card = lambda *_, **__: None
    try:
        yield
    finally:
        del trainer.create_model_card, model.create_or_update_model_card


def _fitted(loaded: LoadedModel, training: Training) -> bool:
    """Return whether leaner kernels may do the work."""
    on_gpu = training.batch_plan == "auto" and loaded.precision.dtype != "float32"
    return on_gpu or planned_on_cpu(training, loaded)


def free_memory() -> None:
    """Give back what a failed attempt took; the base is in place again."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _keep_trainable_parameters_in_float32(model: PeftModel) -> None:
    """TRL casts QLoRA adapters to bfloat16; fp16 mixed precision then fails to unscale them (trl#4901)."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
