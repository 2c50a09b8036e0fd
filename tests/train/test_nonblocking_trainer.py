"""The trainer that is a step ahead of the GPU: what it learns, logs and resumes is SFTTrainer's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from harness.model.load import LoadedModel
from harness.train import cpu_plan
from harness.train.callbacks import Progress
from harness.train.nonblocking_trainer import FlatGradients, Later
from harness.train.sft import TrainedAdapter
from tests.train.test_batch_layout import PLAIN, train
from tests.train.test_evaluation import weights
from tests.train.test_sft import SFT

ACCURACY = "mean_token_accuracy"
AUTO = PLAIN.model_copy(update={"batch_plan": "auto"})


@pytest.fixture(autouse=True)
def _products_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_plan, "has_bfloat16_products", lambda: False)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, float]]]:
    """What a tracker called trackio was told."""
    seen: list[dict[str, float]] = []

    class Tracker(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            seen.append({"step": state.global_step, **logs})

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    monkeypatch.setattr(integration_utils, "is_trackio_available", lambda: True)
    yield seen


def test_it_learns_and_logs_what_the_stock_trainer_does(
    own_cache: Path, tiny: LoadedModel, logged: list[dict[str, float]]
) -> None:
    tiny.model.eval()
    for more in ({}, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 1}, {"logging_steps": 2}):
        sft = {**SFT, "max_grad_norm": 0.1, "report_to": "trackio", **more}
        found: list[tuple[TrainedAdapter, list[dict[str, float]], list[Progress]]] = []
        for training in (PLAIN, AUTO):
            logged.clear()
            progress: list[Progress] = []
            done = train(tiny, training.model_copy(update={"sft": sft}), on_progress=progress.append)
            found.append((done, list(logged), progress))
        (stock, stock_log, stock_told), (ours, our_log, told) = found
        assert ours.folder != stock.folder
        assert (ours.steps, ours.tokens) == (stock.steps, stock.tokens)
        assert [point.step for point in ours.curve] == [point.step for point in stock.curve]
        losses = [point.loss for point in stock.curve]
        assert [point.loss for point in ours.curve] == pytest.approx(losses, rel=1e-5)
        assert losses[-1] != pytest.approx(losses[0], rel=1e-2)
        for name, value in weights(stock.folder).items():
            torch.testing.assert_close(weights(ours.folder)[name], value, rtol=1e-3, atol=1e-5)
        assert [(one.step, one.steps, one.tokens) for one in told] == [(p.step, p.steps, p.tokens) for p in stock_told]
        assert len(our_log) == len(stock_log) > 1
        for one, other in zip(our_log, stock_log, strict=True):
            assert one.keys() == other.keys()
            others = ("runtime", "per_second", "total_flos")  # the last counts padding, which ours has none of
            timeless = {name for name in one if not any(word in name for word in others)}
            assert one.get("total_flos", 0) <= other.get("total_flos", 0)
            assert {"loss", "grad_norm", "entropy", "num_tokens"} <= timeless or "train_loss" in timeless
            # a token of the step's hundred may be as likely as another, to the last digits
            assert one.get(ACCURACY, 0.0) == pytest.approx(other.get(ACCURACY, 0.0), abs=0.02)
            timeless -= {ACCURACY}
            assert {name: one[name] for name in timeless} == pytest.approx(
                {name: other[name] for name in timeless}, rel=1e-3
            )


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_to_the_same_end(
    tmp_path: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(progress: Progress) -> None:
        if progress.step == 4:
            raise Killed

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "whole"))
    whole = train(tiny, AUTO)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "killed"))
    with pytest.raises(Killed):
        train(tiny, AUTO, on_progress=die)
    resumed = train(tiny, AUTO)
    assert resumed.sha256 == whole.sha256
    assert (resumed.curve, resumed.tokens) == (whole.curve, whole.tokens)


def test_the_model_is_left_without_what_was_put_onto_it(own_cache: Path, tiny: LoadedModel) -> None:
    train(tiny, AUTO)
    assert not {"zero_grad", "train"} & tiny.model.__dict__.keys()
    assert tiny.changed_weights() == []


@pytest.mark.parametrize("max_norm", [0.5, 100.0, float("inf")])
def test_one_buffer_clips_as_torch_does(max_norm: float) -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (7,), (2, 2))]
    unused = torch.nn.Parameter(torch.randn(5))
    flat = FlatGradients([*weights, unused], all_of_them=False)
    assert float(flat.clip(1.0)) == 0
    for _ in range(3):
        loss = sum((weight**3).sum() for weight in weights)
        assert isinstance(loss, torch.Tensor)
        expected = list(torch.autograd.grad(loss, weights, retain_graph=True))
        norm = torch.linalg.vector_norm(torch.cat([part.flatten() for part in expected]))
        loss.backward()
        assert flat.clip(max_norm) == pytest.approx(float(norm), rel=1e-5)
        copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
        for copy, gradient in zip(copies, expected, strict=True):
            copy.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_(copies, max_norm)
        for copy, weight in zip(copies, weights, strict=True):
            torch.testing.assert_close(weight.grad, copy.grad)
        assert unused.grad is None
        assert len({weight.grad.untyped_storage().data_ptr() for weight in weights if weight.grad is not None}) == 1
        flat.zero()
        assert not any(weight.grad.any() for weight in weights if weight.grad is not None)
    shared = FlatGradients([unused], all_of_them=True)
    assert shared.collect().tolist() == [0.0] * 5
    assert unused.grad is not None


def test_figures_are_those_of_the_moment_they_were_noted() -> None:
    numbers = torch.tensor([1.0, 2.0])
    later = Later(numbers)
    numbers.zero_()
    assert later.read() == [1.0, 2.0]


def test_every_module_is_in_training(own_cache: Path, tiny: LoadedModel) -> None:
    tiny.model.eval()
    asleep: list[str] = []

    def look(_: Progress) -> None:
        asleep.extend(name for name, module in tiny.model.named_modules() if not module.training)

    train(tiny, AUTO, on_progress=look)
    assert asleep == []


def test_settings_that_need_more_than_the_plain_loss_are_trls(own_cache: Path, tiny: LoadedModel) -> None:
    sft = {**SFT, "label_smoothing_factor": 0.1}
    ours = train(tiny, AUTO.model_copy(update={"sft": sft}))
    stock = train(tiny, PLAIN.model_copy(update={"sft": sft}))
    losses = [point.loss for point in stock.curve]
    assert [point.loss for point in ours.curve] == pytest.approx(losses, rel=1e-5)
    assert losses != pytest.approx([point.loss for point in train(tiny, AUTO).curve], rel=1e-3)
