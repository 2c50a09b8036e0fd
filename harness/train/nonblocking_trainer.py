"""SFTTrainer whose steps never wait for the GPU: the host is a step ahead, and figures are logged when they are there.

transformers reads the loss back in every step and only then clips, steps, logs and collects the next rows, while the
GPU stands idle; it also walks over all modules several times. The learning is the same.
"""

from __future__ import annotations

import functools
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from trl import SFTTrainer

from harness import processes

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.trainer_utils import TrainOutput

FIGURES = ("loss", "entropy", "top1", "labels", "tokens", "grad_norm", "out_of_memory")
"""What a step leaves on the device, in this order: sums over its micro-batches."""


class FlatGradients:
    """The gradients of all trained weights as one buffer, of which each weight's gradient is a part.

    Args:
        parameters: All of one dtype.
        all_of_them: A weight without a gradient gets zeros, so that the buffer is as long in every process; else it
            stays without, and the optimiser passes it over.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], *, all_of_them: bool) -> None:
        self._parameters = list(parameters)
        self._all_of_them = all_of_them
        self._parts: list[torch.Tensor | None] = []
        self._flat = torch.zeros(0)

    def collect(self) -> torch.Tensor:
        """Return the buffer, which is empty before any weight has a gradient."""
        gradients = [weight.grad for weight in self._parameters]
        if self._parts and all(one is other for one, other in zip(gradients, self._parts, strict=True)):
            return self._flat
        with torch.no_grad():
            there = [
                (weight, torch.zeros_like(weight) if grad is None else grad)
                for weight, grad in zip(self._parameters, gradients, strict=True)
                if grad is not None or self._all_of_them
            ]
            if there:
                self._flat = torch.cat([grad.flatten() for _, grad in there])
                parts = torch.split(self._flat, [grad.numel() for _, grad in there])
                for (weight, grad), part in zip(there, parts, strict=True):
                    weight.grad = part.view_as(grad)
        self._parts = [weight.grad for weight in self._parameters]
        return self._flat

    def zero(self, set_to_none: bool = True) -> None:
        """Stand in for `zero_grad` of the model: the buffer stays, and holds zeros."""
        self.collect().zero_()

    def average(self) -> None:
        """Replace each gradient by its mean over the processes, in one exchange."""
        flat = self.collect()
        torch.distributed.all_reduce(flat)
        flat /= processes.count()

    def clip(self, max_norm: float) -> torch.Tensor:
        """Scale the gradients so that their norm is `max_norm` at most, as torch does; return the norm before."""
        flat = self.collect()
        norm: torch.Tensor = torch.linalg.vector_norm(flat)
        if max_norm < float("inf"):
            flat.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm


class Later:
    """Numbers that the device will have worked out, fetched beside what it does meanwhile."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._fetched: torch.cuda.Event | None = None
        if numbers.device.type == "cuda":
            self._host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._host.copy_(numbers, non_blocking=True)
            self._fetched = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._fetched.record()
        else:
            self._host = numbers.clone()

    def read(self) -> list[float]:
        """Return the numbers; waits for them, and for nothing that was begun after them."""
        if self._fetched is not None:
            self._fetched.synchronize()
        return self._host.tolist()


@dataclass
class _Step:
    """A step whose figures are on their way."""

    number: int
    epoch: float
    learning_rate: float
    started: float
    """When the training began, as transformers notes it."""
    figures: Later
    settled: bool = False
    to_be_logged: bool = False


class NonBlockingTrainer(SFTTrainer):  # type: ignore[misc]  # trl ships no types for it
    """Not for models that are sharded."""

    _last: _Step | None = None
    _globalstep_last_logged: int

    def train(self, *args: object, **kwargs: object) -> TrainOutput:
        """Train, and leave the model without what was put onto it."""
        gc.freeze()  # else Python looks through all that is loaded every few steps, for longer than the GPU has work
        try:
            return super().train(*args, **kwargs)
        finally:
            gc.unfreeze()
            for name in ("zero_grad", "train"):
                self.model.__dict__.pop(name, None)

    def _prepare_for_training(self, *args: object, **kwargs: object) -> tuple[PreTrainedModel, object]:
        model, loader = super()._prepare_for_training(*args, **kwargs)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self.gradients = FlatGradients(trained, all_of_them=processes.count() > 1)
        self._figures = torch.zeros(len(FIGURES), dtype=torch.float64, device=self.args.device)
        self._sums: Counter[str] = Counter()
        self._logged_step = self.state.global_step

        def train(mode: bool = True) -> PreTrainedModel:
            return model if model.training == mode else type(model).train(model, mode)

        type(model).train(model)  # of all modules once: the trainer asks for it in every step
        model.train, model.zero_grad = train, self.gradients.zero
        return model, loader

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, object]:
        """Return SFTTrainer's loss; where it is the plain one, entropy and accuracy stay on the device."""
        mask = inputs.get("attention_mask")
        self._figures[4] += inputs["input_ids"].numel() if mask is None else mask.sum()
        plain = self.args.loss_type == "nll" and self.label_smoother is None and self.compute_loss_func is None
        if return_outputs or num_items_in_batch is None or self.aux_loss_enabled or not plain:
            theirs: torch.Tensor | tuple[torch.Tensor, object]
            theirs = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return theirs
        outputs = model(**{**inputs, "use_cache": False, "fused_lm_head": True})
        loss: torch.Tensor = -outputs.log_probs.sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
        if self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        seen = (outputs.entropy.detach(), outputs.is_top1, outputs.label_mask)
        self._figures[1:4] += torch.stack([figure.sum().double() for figure in seen])
        return loss

    def note_memory(self, ran_out: bool) -> None:
        """Note for all processes whether the memory of this one did not suffice in this step."""
        self._figures[6] = float(ran_out)

    @functools.cached_property
    def _size(self) -> int:
        return int(self.model.num_parameters(exclude_embeddings=True))

    def floating_point_ops(self, inputs: dict[str, torch.Tensor]) -> int:
        """Return what transformers does, without a walk over all modules for each batch."""
        return 6 * int(inputs["input_ids"].numel()) * self._size

    def _track_num_input_tokens(self, inputs: dict[str, torch.Tensor]) -> None:
        """Do nothing: `compute_loss` counts them on the device."""

    def _clip_grad_norm(self, model: PreTrainedModel) -> torch.Tensor:
        self.accelerator.unscale_gradients()
        return self.gradients.clip(self.args.max_grad_norm)

    def _get_grad_norm(self, model: PreTrainedModel, grad_norm: torch.Tensor | None = None) -> torch.Tensor:
        return self.gradients.clip(float("inf")) if grad_norm is None else grad_norm

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: torch.Tensor, model: PreTrainedModel, trial: object, epoch: float,
        ignore: list[str] | None, start_time: float, learning_rate: float | None = None,
    ) -> None:  # fmt: skip
        state, control = self.state, self.control
        due = control.should_log and state.global_step > self._globalstep_last_logged
        if self._last is None or state.global_step > self._last.number:  # ends of epochs come here once more
            self._figures[0], self._figures[5] = tr_loss, grad_norm
            numbers = self._figures.clone()
            if processes.count() > 1:
                torch.distributed.all_reduce(numbers)
            tr_loss.zero_()
            self._figures.zero_()
            rate = self._get_learning_rate() if learning_rate is None else learning_rate
            self.settle()
            self._last = _Step(state.global_step, state.epoch, rate, start_time, Later(numbers))
        if due:
            control.should_log, self._globalstep_last_logged = False, state.global_step
            self._last.to_be_logged = True
            if self._last.settled:
                self._log_step(self._last)
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if ends or control.should_evaluate or control.should_save:
            self.settle()
        super()._maybe_log_save_evaluate(
            tr_loss, grad_norm, model, trial, epoch, ignore, start_time, learning_rate=learning_rate
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, after the steps that came before."""
        self.settle()
        super().log(logs, start_time)

    def settle(self) -> None:
        """Take in the figures of the last step that was noted, and log them.

        Raises:
            OutOfMemoryError: the memory of some process did not suffice in that step.
        """
        step = self._last
        if step is None or step.settled:
            return
        step.settled = True
        numbers = dict(zip(FIGURES, step.figures.read(), strict=True))
        if numbers["out_of_memory"]:
            raise torch.OutOfMemoryError("the memory of one of the processes did not suffice")
        numbers["loss"] /= processes.count()  # each has that of its own rows, as if all were like them
        self._grad_norm = numbers["grad_norm"] / processes.count()
        self._total_loss_scalar += numbers["loss"]
        self.state.num_input_tokens_seen += int(numbers["tokens"])
        self._sums.update(numbers)
        if step.to_be_logged:
            self._log_step(step)

    def _log_step(self, step: _Step) -> None:
        """Log what came together since the entry before, as that of the step where it is due."""
        sums, state, metrics = self._sums, self.state, self._metrics["train"]
        logs = {
            "loss": sums["loss"] / (step.number - self._logged_step),
            "grad_norm": self._grad_norm,
            "learning_rate": step.learning_rate,
            **{name: sum(values) / len(values) for name, values in metrics.items()},
            "num_tokens": state.num_input_tokens_seen,
        }
        if sums["labels"]:
            logs |= {"entropy": sums["entropy"] / sums["labels"], "mean_token_accuracy": sums["top1"] / sums["labels"]}
        self._logged_step = step.number
        sums.clear()
        metrics.clear()
        now = state.global_step, state.epoch
        state.global_step, state.epoch = step.number, step.epoch
        try:
            super(SFTTrainer, self).log(logs, step.started)
        finally:
            state.global_step, state.epoch = now
