"""Trainings evaluated by the task: the best weights are kept, evaluating changes nothing, kills change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from harness.errors import UsageError
from harness.model.load import LoadedModel
from harness.model.profile_schema import DevEvaluation, Training
from harness.train import sft
from harness.train.adapter_key import adapter_key
from harness.train.evaluation import LAST, TASK_SCORE, Share, TrainingEvaluation, best_step, evaluations, is_over
from harness.train.job import TrainingJob
from harness.train.settings import check_names
from harness.train.sft import TrainedAdapter, train_adapter
from harness.types import Task
from tests.conftest import SUBJECTS, load_fp32
from tests.train.test_sft import SFT, TASKS, TRAINING, renderer

DEVELOPMENT = tuple(Task(name, f"Show {what}", reference=body) for name, what, body in SUBJECTS[8:12])


def evaluated(evaluate: Callable[[Share], Mapping[str, float]], **settings: Any) -> TrainingEvaluation:
    return TrainingEvaluation(
        DevEvaluation(**{"every": 2, "rows": 4, **settings}), DEVELOPMENT, evaluate, {"metrics": {"given": 1}}
    )


def told(*scores: float) -> Callable[[Share], Mapping[str, float]]:
    """An evaluation that finds these task scores, one after the other."""
    left = list(scores)
    return lambda _: {TASK_SCORE: left.pop(0), "given": 1.0}


def train(
    loaded: LoadedModel, by: TrainingEvaluation | None, training: Training = TRAINING, **more: Any
) -> TrainedAdapter:
    return train_adapter(TrainingJob(loaded, renderer(loaded), training, TASKS, by), **more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def entries(scores: Sequence[float]) -> list[dict[str, float]]:
    return [{"step": 2 * n + 2, "eval_task_score": score, "eval_x": 0} for n, score in enumerate(scores)]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.integers(1, 5))
def test_the_best_is_the_first_highest_and_patience_counts_from_it(scores: list[float], patience: int) -> None:
    log: list[dict[str, float]] = [{"step": 1, "loss": 2.0}, *entries(scores)]
    best = best_step(log)
    assert best is not None
    index = best // 2 - 1
    assert scores[index] == max(scores)
    assert max(scores[:index], default=-1.0) < scores[index]
    assert is_over(log, patience) == (len(scores) - 1 - index >= patience)
    assert not is_over(log, None)


def test_an_evaluation_without_a_task_score_is_never_the_best() -> None:
    log = [{"step": 2, "eval_given": 1.0}, *entries([]), {"step": 4, "eval_task_score": 3.0}, {"step": 6, "loss": 1.0}]
    assert best_step(log) == 4
    assert evaluations(log) == {2: {"given": 1.0}, 4: {"task_score": 3.0}}
    assert best_step(log[:1]) is None
    assert not is_over(log[:1], 1)


def test_the_best_weights_are_the_adapter_and_evaluating_changes_no_step(own_cache: Path, tiny: LoadedModel) -> None:
    plain = train(tiny, None)
    at_four: dict[str, torch.Tensor] = {}

    def note(progress: sft.Progress) -> None:
        if progress.step == 4:
            at_four.update(
                {name: value.detach().clone() for name, value in tiny.model.named_parameters() if "lora_" in name}
            )

    lines: list[str] = []
    by = replace(evaluated(told(10, 30, 20)), tell=lines.append)
    best = train(tiny, by, on_progress=note)
    assert best.folder != plain.folder
    kept = weights(best.folder)
    assert sorted(kept) == sorted(name.replace(".default", "") for name in at_four)
    assert all(torch.equal(kept[name.replace(".default", "")], value) for name, value in at_four.items())
    last = weights(best.folder / LAST)
    assert all(torch.equal(last[name], value) for name, value in weights(plain.folder).items())
    assert [point.loss for point in best.curve] == [point.loss for point in plain.curve]
    assert {point.step: point.scores.get(TASK_SCORE) for point in best.curve if point.scores} == {2: 10, 4: 30, 6: 20}
    assert best.evaluation is not None
    assert (best.evaluation["kept_step"], best.evaluation["stopped_early"], best.steps) == (4, False, 6)
    assert best.evaluation["development"] == [task.id for task in DEVELOPMENT]
    assert lines[1] == "step 4: task_score 30, given 1: the best so far"
    again = train(tiny, by)  # no score is left to give: it must come from the cache
    assert replace(again, from_cache=False) == best
    assert plain.evaluation is None


def test_patience_ends_the_training_and_the_last_step_is_always_evaluated(own_cache: Path, tiny: LoadedModel) -> None:
    early = train(tiny, evaluated(told(30, 20), patience=1))
    assert early.evaluation is not None
    assert (early.evaluation["kept_step"], early.evaluation["stopped_early"], early.steps) == (2, True, 4)
    odd = train(tiny, evaluated(told(10, 20), every=4))
    assert odd.evaluation is not None
    assert (odd.evaluation["kept_step"], odd.evaluation["stopped_early"]) == (6, False)
    assert not (odd.folder / LAST).exists()
    assert not (odd.folder / "checkpoints").exists()


def test_what_is_still_the_base_is_not_evaluated_and_never_the_best(own_cache: Path, tiny: LoadedModel) -> None:
    """A warm-up begins with a rate of 0: the first of equal scores would be kept, which is the base's."""
    warming = TRAINING.model_copy(update={"sft": {**SFT, "warmup_steps": 2, "max_steps": 3}})
    best = train(tiny, evaluated(told(20, 20), every=1), warming)
    assert {point.step for point in best.curve if point.scores} == {2, 3}
    assert best.evaluation is not None and best.evaluation["kept_step"] == 2
    assert any(value.any() for name, value in weights(best.folder).items() if "lora_B" in name)


class Killed(Exception):
    pass


def scripted(step_of: Callable[[], int], dies: Callable[[int], bool], scores: Mapping[int, float]) -> Any:
    """An evaluation that depends on the step alone, as a real one does, and may die."""

    def evaluate(_: Share) -> dict[str, float]:
        step = step_of()
        if dies(step):
            raise Killed
        return {TASK_SCORE: scores[step]}

    return evaluate


@pytest.mark.parametrize("plan", ["as-written", "auto"])
@pytest.mark.parametrize(
    ("kill", "scores", "patience"),
    [
        ("evaluation at 4", {2: 30, 4: 20, 6: 40}, None),
        ("save of 4", {2: 10, 4: 30, 6: 20}, None),  # a checkpoint without its mark, the best replaced
        ("step 5", {2: 10, 4: 30, 6: 20}, None),
        ("save of 6", {2: 10, 4: 30, 6: 20}, None),
        ("step 4", {2: 30, 4: 20, 6: 40}, 1),  # it has stopped early, and does so again
    ],
)
def test_an_evaluated_training_that_was_killed_ends_the_same(
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    plan: str,
    kill: str,
    scores: dict[int, float],
    patience: int | None,
) -> None:
    training = TRAINING.model_copy(update={"batch_plan": plan, "sft": {**SFT, "save_steps": 3}})

    def once(kill: str) -> TrainedAdapter:
        loaded, step = load_fp32(tiny_folder), 0

        def count(progress: sft.Progress) -> None:
            if kill == f"step {progress.step}":
                raise Killed

        class Counter(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                nonlocal step
                step = state.global_step + 1

            def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if kill == f"save of {state.global_step}":
                    raise Killed

        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Counter)
        monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
        evaluate = scripted(lambda: step, lambda step: kill == f"evaluation at {step}", scores)
        reported = training.model_copy(update={"sft": {**training.sft, "report_to": "tensorboard"}})
        return train(loaded, evaluated(evaluate, patience=patience), reported, on_progress=count)

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "whole"))
    whole = once("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "killed"))
    with pytest.raises(Killed):
        once(kill)
    resumed = once("")
    assert not resumed.from_cache
    assert resumed.sha256 == whole.sha256
    assert resumed.curve == whole.curve
    assert resumed.evaluation == whole.evaluation
    assert resumed.steps == whole.steps
    assert (resumed.folder / LAST).exists() == (whole.folder / LAST).exists()


def test_what_evaluates_decides_the_adapter_and_who_is_told_does_not(tiny: LoadedModel) -> None:
    rows, _ = sft.training_rows(TASKS, renderer(tiny), 1024)
    by = evaluated(told())

    def key(by: TrainingEvaluation | None, training: Training = TRAINING) -> str:
        return adapter_key(tiny, renderer(tiny), training, rows, by)

    others = [
        None,
        evaluated(told(), every=3),
        evaluated(told(), patience=2),
        replace(by, development=DEVELOPMENT[1:]),
        replace(by, identity={"metrics": {"given": 2}}),
    ]
    keys = {key(other) for other in others}
    assert len(keys) == len(others)
    assert key(by) not in keys
    assert key(evaluated(told(), batch_size=3)) == key(by)
    assert key(by, TRAINING.model_copy(update={"sft": {**SFT, "report_to": "all", "run_name": "x"}})) == key(by)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A tracker called trackio that is installed, and what it was told."""
    seen: list[dict[str, Any]] = []

    class Tracker(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            seen.append({"step": state.global_step, **integration_utils.rewrite_logs(logs)})

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: True)
    yield seen


def test_trackers_are_told_the_task_scores_beside_the_loss(
    own_cache: Path, tiny: LoadedModel, tracker: list[dict[str, Any]]
) -> None:
    training = TRAINING.model_copy(update={"sft": {**SFT, "report_to": ["trackio"]}})
    train(tiny, evaluated(told(10, 30, 20)), training)
    found = {entry["step"]: entry["eval/task_score"] for entry in tracker if "eval/task_score" in entry}
    assert found == {2: 10, 4: 30, 6: 20}
    assert all(entry["eval/given"] == 1.0 for entry in tracker if "eval/task_score" in entry)
    losses = {entry["step"]: entry for entry in tracker if "train/loss" in entry}
    assert sorted(losses) == [1, 2, 3, 4, 5, 6]
    assert all("train/mean_token_accuracy" in entry for entry in losses.values())  # trl's own are left whole


def test_tensorboard_files_outlive_the_checkpoints(own_cache: Path, tiny: LoadedModel) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = TRAINING.model_copy(update={"sft": {**SFT, "report_to": "tensorboard"}})
    done = train(tiny, evaluated(told(10, 30, 20)), training)
    events = EventAccumulator(str(done.folder / "runs"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/task_score")] == [(2, 10), (4, 30), (6, 20)]
    assert len(events.Scalars("train/loss")) == 6


def test_a_tracker_that_is_unknown_or_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_names({"report_to": "none"}, {})
    with pytest.raises(UsageError, match=r"there is no tracker 'tensorbord' \(did you mean 'tensorboard'\?\)"):
        check_names({"report_to": ["tensorbord"]}, {})
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    with pytest.raises(UsageError, match=r"report_to: wandb is not installed \(pip install wandb"):
        check_names({"report_to": "wandb"}, {})


def test_memory_that_runs_out_in_an_evaluation_makes_the_training_smaller(own_cache: Path, tiny: LoadedModel) -> None:
    scores = [10, None, 30, 20]  # the second evaluation fails once and is made again in the next layout

    def evaluate(_: Share) -> dict[str, float]:
        score = scores.pop(0)
        if score is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {TASK_SCORE: score}

    notices: list[str] = []
    done = train(tiny, evaluated(evaluate), on_notice=notices.append)
    assert len(notices) == 1
    assert done.layout["micro_batch"] == 1
    assert done.evaluation is not None
    assert done.evaluation["kept_step"] == 4
