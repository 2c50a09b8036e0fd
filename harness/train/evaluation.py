"""Evaluations of a model between the steps of its training, the best weights so far, an early end.

What evaluates is handed in: training knows no scorer. Every decision follows from the log of the trainer, which
stands in each checkpoint, so that a training that was killed decides the same. Transformers' `EarlyStoppingCallback`
and `load_best_model_at_end` do not: they look at their count in `evaluate` alone, so that a training that was killed
after the checkpoint of the step at which it stopped goes on; they fail on an evaluation without a score, and the best
weights cost a whole checkpoint, with the optimiser's, at each evaluation.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from harness import processes
from harness.errors import UsageError
from harness.model.attention import own_attention
from harness.model.profile_schema import DevEvaluation
from harness.runs.schema import JsonObject
from harness.storage.atomic import finished_folder
from harness.train.callbacks import trainable_sums
from harness.types import Task, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState

TASK_SCORE = "task_score"
"""The score by which the best weights are chosen; higher is better."""
LOGGED_AS = "eval_"
"""Begins the names of scores in the trainer's log; trackers file them under `eval/`."""
LAST = "last"
"""The folder beside an adapter that holds the last step's weights where an earlier step's are the adapter."""

AnswerT = TypeVar("AnswerT")


class Share(Protocol):
    """Has tasks answered by one process or by several."""

    def __call__(self, answer: Callable[[Sequence[Task]], list[AnswerT]], tasks: Sequence[Task], /) -> list[AnswerT]:
        """Return what `answer` says of each task, in their order."""


def alone(answer: Callable[[Sequence[Task]], list[AnswerT]], tasks: Sequence[Task]) -> list[AnswerT]:
    """Let this process answer all tasks."""
    return answer(tasks)


def shared(answer: Callable[[Sequence[Task]], list[AnswerT]], tasks: Sequence[Task]) -> list[AnswerT]:
    """Let each process that trains answer its part of the tasks; all of them get all answers.

    Raises:
        torch.OutOfMemoryError: in all of them where the memory of one ran out.
    """
    import torch

    count = processes.count()
    if count == 1:
        return answer(tasks)
    mine: list[AnswerT] | None = None
    with contextlib.suppress(torch.OutOfMemoryError):
        mine = answer(tasks[torch.distributed.get_rank() :: count])
    gathered: list[list[AnswerT] | None] = [None] * count
    torch.distributed.all_gather_object(gathered, mine)
    parts = [iter(part) for part in gathered if part is not None]
    if len(parts) < count:
        raise torch.OutOfMemoryError("while the model answered the development slice")
    return [next(parts[number % count]) for number in range(len(tasks))]


@dataclass(frozen=True)
class TrainingEvaluation:
    """What a training is evaluated on, and by what."""

    settings: DevEvaluation
    development: tuple[Task, ...]
    """The rows that are answered: neither trained on nor held out."""
    evaluate: Callable[[Share], Mapping[str, float]]
    """Lets the model as it stands answer them and returns each metric, and `TASK_SCORE` where it could be measured."""
    identity: Mapping[str, object]
    """Of what `evaluate` does: metrics with their versions, generation settings."""
    tell: Callable[[str], None] | None = None
    """Called with a line for each evaluation."""

    def cache_key_fields(self) -> dict[str, object]:
        """Return what decides which weights are kept, for the adapter's key."""
        rows = [[task.prompt_sha, sha256(task.reference)] for task in self.development]
        return {"settings": self.settings.model_dump(exclude={"batch_size"}), "look": self.identity, "rows": rows}


def evaluations(log: Sequence[Mapping[str, float]]) -> dict[int, dict[str, float]]:
    """Return the scores in a trainer's log by step."""
    found: dict[int, dict[str, float]] = {}
    for entry in log:
        scores = {name.removeprefix(LOGGED_AS): value for name, value in entry.items() if name.startswith(LOGGED_AS)}
        if scores:
            found[int(entry["step"])] = scores
    return found


def best_step(log: Sequence[Mapping[str, float]]) -> int | None:
    """Return the step with the highest task score, the first among equals; None where none has a score."""
    scored = {step: scores[TASK_SCORE] for step, scores in evaluations(log).items() if TASK_SCORE in scores}
    return max(sorted(scored), key=lambda step: scored[step]) if scored else None


def is_over(log: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Return whether the last `patience` evaluations brought no higher task score than one before them."""
    steps, best = sorted(evaluations(log)), best_step(log)
    if patience is None or best is None:
        return False
    return len(steps) - 1 - steps.index(best) >= patience


def evaluation_callback(evaluation: TrainingEvaluation, checkpoints: Path) -> TrainerCallback:
    """Build the callback that evaluates the model.

    Its `log` must be set to the trainer's before the training, and `untrained` to `trainable_sums` of its model.
    """
    from transformers import TrainerCallback

    class EvaluationCallback(TrainerCallback):  # type: ignore[misc]  # transformers ships no types for it
        log: Callable[[dict[str, float]], None]
        untrained: list[list[int]]

        def on_step_end(
            self, args: object, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs: object
        ) -> None:
            step = state.global_step
            if step % evaluation.settings.every and step < state.max_steps:
                return
            if trainable_sums(model) == self.untrained:  # warm-up begins at 0: it is still the base that would answer
                return
            logs_loss = control.should_log
            with as_measured(model):
                scores = _as_main_process(evaluation.evaluate(shared))
                self.log({f"{LOGGED_AS}{name}": value for name, value in scores.items()})
            control.should_log = logs_loss  # logging takes it back, and the step's loss comes after this
            best = best_step(state.log_history)
            if best == step and state.is_world_process_zero:
                with finished_folder(_kept(checkpoints, step)) as folder:
                    model.save_pretrained(str(folder), safe_serialization=True)
            if evaluation.tell and state.is_world_process_zero:
                words = ", ".join(f"{name} {value:.3g}" for name, value in scores.items())
                evaluation.tell(f"step {step}: {words}{': the best so far' if best == step else ''}")
            over = step < state.max_steps and is_over(state.log_history, evaluation.settings.patience)
            if over:
                control.should_training_stop = True
            # without a checkpoint here, a training killed after this step comes back to it and stops again
            control.should_save = not over

        def on_save(self, args: object, state: TrainerState, control: object, **kwargs: object) -> None:
            # not before a checkpoint is whole: an older one may ask for older weights
            if state.is_world_process_zero:
                for folder in checkpoints.glob("best-*"):
                    if folder != _kept(checkpoints, best_step(state.log_history)):
                        shutil.rmtree(folder)

    return EvaluationCallback()


def refuse_shards(trainer: Trainer) -> None:
    """Stop before an evaluated training whose processes hold parts of the model: one alone could not let it answer.

    Raises:
        UsageError: the model is sharded.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UsageError(
            "a model that is sharded over processes cannot be evaluated in training",
            "take `evaluation` out of the file",
        )


def keep_best(trainer: Trainer, folder: Path, checkpoints: Path) -> JsonObject:
    """Put the best step's weights into the model, if they are not there; the last step's then go to `folder`/last.

    Returns `kept_step` and `stopped_early` for the record.
    """
    from accelerate import PartialState
    from peft import set_peft_model_state_dict
    from peft.utils import SAFETENSORS_WEIGHTS_NAME
    from safetensors.torch import load_file

    state, model = trainer.state, trainer.model
    last, best = state.global_step, best_step(state.log_history)
    if best is not None and best != last:
        if PartialState().is_main_process:
            model.save_pretrained(str(folder / LAST), safe_serialization=True)
        set_peft_model_state_dict(model, load_file(str(_kept(checkpoints, best) / SAFETENSORS_WEIGHTS_NAME)))
    return {"kept_step": best or last, "stopped_early": last < state.max_steps}


def curve(log: Sequence[Mapping[str, float]]) -> list[JsonObject]:
    """Return loss and scores in a trainer's log by step."""
    points: dict[int, JsonObject] = {}
    for entry in log:
        if "loss" in entry:
            points.setdefault(int(entry["step"]), {"step": entry["step"]})["loss"] = entry["loss"]
    for step, scores in evaluations(log).items():
        points.setdefault(step, {"step": step})["scores"] = {**scores}
    return [points[step] for step in sorted(points)]


@contextlib.contextmanager
def as_measured(model: PreTrainedModel) -> Iterator[None]:
    """Let a model in training compute as it does when it is measured: no dropout, attention over padded prompts."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    config, training = model.config, model.training
    attention, config._attn_implementation = config._attn_implementation, own_attention(config)
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        config._attn_implementation = attention
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _kept(checkpoints: Path, step: int | None) -> Path:
    return checkpoints / f"best-{step}"


def _as_main_process(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the main process's scores in all of them: they must come to the same decision."""
    from accelerate.utils import broadcast_object_list

    told = [dict(scores)]
    if processes.count() > 1:
        broadcast_object_list(told)
    return told[0]
