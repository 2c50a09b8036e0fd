"""What happens beside a training: progress, the clock of interrupted trainings, whole checkpoints."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import processes
from harness.errors import HarnessError
from harness.storage.atomic import write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback, TrainerState

COMPLETE = "complete"
"""Put into a checkpoint when all of it is there: transformers writes file by file, and a kill can come between."""


_LESS = "try a smaller learning_rate or another dtype, and look at the training rows"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the training tells while it runs."""

    step: int
    steps: int
    loss: float | None
    tokens_per_second: float | None
    tokens: int = 0
    """Learnt from since training began or went on, of all processes."""


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end; those that were not are removed."""
    whole: dict[int, Path] = {}
    with processes.main_first():
        for checkpoint in folder.glob("checkpoint-*"):
            if (checkpoint / COMPLETE).exists():
                whole[int(checkpoint.name.rpartition("-")[2])] = checkpoint
            elif processes.is_main_process():
                shutil.rmtree(checkpoint)
    return whole[max(whole)] if whole else None


def check_finite(model: PreTrainedModel, step: int) -> None:
    """Stop a training whose weights are no numbers any more.

    Raises:
        HarnessError: one of the trained tensors holds a NaN or an infinity; the message names the step.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter.detach()).all()):
            raise HarnessError(f"after step {step} of the training {name} is not finite", _LESS)


def trainable_sums(model: PreTrainedModel) -> list[list[int]]:
    """Return a checksum of each tensor that is trained."""
    from harness.model.base_state import checksums

    return [checksums(parameter).tolist() for parameter in model.parameters() if parameter.requires_grad]


def refuse_useless(model: PreTrainedModel, steps: int, untrained: list[list[int]]) -> None:
    """Refuse what is no fine-tuned model: a training that made no step, or whose weights are not finite or the first.

    Args:
        model: After its training.
        steps: That were made.
        untrained: Its `trainable_sums` from before.

    Raises:
        HarnessError: it is one of these.
    """
    if steps < 1:
        raise HarnessError("the training made no step", "look at train.sft.max_steps, num_train_epochs and the rows")
    check_finite(model, steps)
    if trainable_sums(model) == untrained:  # in float16 a step whose gradients overflow is left out
        raise HarnessError(
            f"{steps} steps of the training changed no weight", "look at train.sft.learning_rate, or take another dtype"
        )


def recorder(on_progress: Callable[[Progress], None] | None, folder: Path) -> TrainerCallback:
    """Build the callback that reports progress and adds up the time of interrupted trainings."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]  # transformers ships no types for it
        seconds_before = 0.0

        def on_train_begin(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
            clock = folder / "seconds"
            self.seconds_before = float(clock.read_text()) if state.global_step and clock.exists() else 0.0
            self.started = time.monotonic()
            self.first_tokens = state.num_input_tokens_seen

        def on_save(
            self, args: object, state: TrainerState, control: object, model: PreTrainedModel, **kwargs: object
        ) -> None:
            check_finite(model, state.global_step)  # a checkpoint without its mark is not gone on from
            processes.wait()  # each writes its own random numbers' state
            if not processes.is_main_process():
                return
            write_atomically(folder / "seconds", str(self.seconds_before + time.monotonic() - self.started))
            write_atomically(folder / f"checkpoint-{state.global_step}" / COMPLETE, "")

        def on_log(
            self, args: object, state: TrainerState, control: object, logs: Mapping[str, float], **kwargs: object
        ) -> None:
            if "loss" not in logs:
                return
            if not math.isfinite(float(logs["loss"])):
                raise HarnessError(f"the loss is {logs['loss']} at step {state.global_step} of the training", _LESS)
            if on_progress is None:
                return
            tokens = state.num_input_tokens_seen - self.first_tokens
            speed = tokens / max(time.monotonic() - self.started, 1e-9) if tokens else None
            on_progress(Progress(state.global_step, state.max_steps, float(logs["loss"]), speed, tokens))

    return Recorder()
