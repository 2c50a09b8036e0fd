"""Real trainings of a tiny model: the cache, a kill in the middle, adapters on and off, packing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import HarnessError, UsageError
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.model.context import context_length
from harness.model.identity import ADAPTER_FILE
from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.model.prompt import PromptRenderer
from harness.model.tokenizer import load_tokenizer
from harness.train import sft
from harness.train.adapter_key import adapter_key
from harness.train.callbacks import COMPLETE, Progress
from harness.train.job import TrainingJob
from harness.train.settings import library_refusals
from harness.train.sft import TrainedAdapter, train_adapter
from harness.train.trainer_run import _checkpoints_without_cards
from harness.types import Task
from tests.conftest import SUBJECTS, load_fp32
from tests.generate.transformers.architectures import ARCHITECTURES, make
from tests.model.kinds import write_base

TASKS = [Task(name, f"Show {what}", reference=f"<html>{body}</html>") for name, what, body in SUBJECTS[:8]]
SFT = {
    "max_steps": 6,
    "save_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "gradient_checkpointing": False,
}
TRAINING = Training(
    seed=3, sft=SFT, lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear"}
)


def renderer(loaded: LoadedModel) -> PromptRenderer:
    return PromptRenderer("Write: {{ prompt }}\n", False, loaded.tokenizer)


def train(loaded: LoadedModel, training: Training = TRAINING, **more: Any) -> TrainedAdapter:
    return train_adapter(TrainingJob(loaded, renderer(loaded), training, TASKS), **more)


def answers(loaded: LoadedModel, adapter: TrainedAdapter | None = None) -> list[str]:
    settings = GenerationSettings(max_new_tokens=10, batch_size=4)
    own = (adapter.folder, adapter.sha256) if adapter else (None, None)
    generator = Generator("x", loaded, renderer(loaded), settings, *own)
    return [done.text for done in generator.complete(TASKS[:4], fresh=True)]


def test_a_training_learns_is_cached_and_leaves_the_base_alone(own_answers: Path, tiny: LoadedModel) -> None:
    before = answers(tiny)
    weights = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    seen: list[Progress] = []
    first = train(tiny, on_progress=seen.append)
    assert not first.from_cache
    assert (first.steps, first.rows) == (6, 8)
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in first.curve] == [1, 2, 3, 4, 5, 6]
    assert first.curve[-1].loss is not None
    assert first.curve[0].loss is not None
    assert first.curve[-1].loss < first.curve[0].loss
    assert not (first.folder / "checkpoints").exists()
    after = tiny.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert answers(tiny) == before

    tuned = answers(tiny, first)
    assert tuned != before
    assert answers(tiny) == before  # adapter attached, and off
    assert answers(tiny, first) == tuned

    again = train(tiny, on_progress=seen.append)
    assert again.from_cache
    assert len(seen) == 6
    assert replace(again, from_cache=False) == first

    # records written before they spoke of layouts
    record = json.loads((first.folder / "training.json").read_text())
    for name in ("layout", "out_of_memory", "peak_memory_bytes"):
        del record[name]
    (first.folder / "training.json").write_text(json.dumps(record))
    assert replace(train(tiny), from_cache=False) == first


def test_two_adapters_stand_beside_each_other(own_answers: Path, tiny: LoadedModel) -> None:
    base = answers(tiny)
    first = train(tiny)
    alone = answers(tiny, first)
    second = train(tiny, TRAINING.model_copy(update={"seed": 4}))
    assert first.sha256 != second.sha256
    assert answers(tiny, first) == alone
    other = answers(tiny, second)
    assert other != alone
    assert answers(tiny, first) == alone
    assert answers(tiny) == base


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedAdapter:
    """A training that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("whole")))
        return train(load_fp32(tiny_folder))


def kill_at(step: int) -> Callable[[Progress], None]:
    def killed(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return killed


@pytest.mark.parametrize("dies_at", [1, 3, 5])
def test_a_killed_training_goes_on_and_ends_the_same(
    own_cache: Path, tiny_folder: Path, whole: TrainedAdapter, dies_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(load_fp32(tiny_folder), on_progress=kill_at(dies_at))
    steps: list[int] = []
    resumed = train(load_fp32(tiny_folder), on_progress=lambda progress: steps.append(progress.step))
    assert not resumed.from_cache
    last_saved = (dies_at - 1) // 2 * 2
    assert steps == list(range(last_saved + 1, 7))
    assert resumed.sha256 == whole.sha256
    assert resumed.curve == whole.curve
    assert resumed.tokens == whole.tokens


def test_a_checkpoint_torn_by_a_kill_is_passed_over(own_cache: Path, tiny_folder: Path, whole: TrainedAdapter) -> None:
    """A checkpoint is written file by file: a kill in the middle leaves a folder without its state."""
    with pytest.raises(KeyboardInterrupt):
        train(load_fp32(tiny_folder), on_progress=kill_at(5))
    (newest,) = own_cache.glob("adapters/*/checkpoints/checkpoint-4")
    assert not (newest / "README.md").exists()  # a card is the adapter's
    (newest / "trainer_state.json").unlink()
    (newest / COMPLETE).unlink()
    assert train(load_fp32(tiny_folder)).sha256 == whole.sha256


@pytest.mark.parametrize(
    "change",
    [{"seed": 9}, {"sft": {**SFT, "learning_rate": 2e-2}}, {"lora": {"r": 2, "target_modules": "all-linear"}}],
)
def test_whatever_decides_an_adapter_changes_its_key(tiny: LoadedModel, change: dict[str, Any]) -> None:
    rows, _ = sft.training_rows(TASKS, renderer(tiny), 1024)
    other = TRAINING.model_copy(update=change)
    key = adapter_key(tiny, renderer(tiny), TRAINING, rows)
    assert adapter_key(tiny, renderer(tiny), other, rows) != key
    assert adapter_key(tiny, renderer(tiny), TRAINING, rows[1:]) != key
    assert adapter_key(tiny, renderer(tiny), TRAINING.model_copy(update={"batch_plan": "auto"}), rows) != key
    assert adapter_key(tiny, renderer(tiny), TRAINING.model_copy(update={"suite": "named"}), rows) == key


def test_an_adapter_of_other_weights_is_one_line(own_answers: Path, tiny: LoadedModel, tmp_path: Path) -> None:
    trained = train(tiny)
    foreign = tmp_path / "foreign"
    shutil.copytree(trained.folder, foreign)
    from safetensors.torch import load_file, save_file

    tensors = load_file(foreign / "adapter_model.safetensors")
    save_file({name: value.repeat(2, 2) for name, value in tensors.items()}, foreign / "adapter_model.safetensors")
    with pytest.raises(HarnessError, match=r"does not fit the base weights: .* \(use the profile") as refused:  # noqa: SIM117
        with tiny.adapter(foreign, "f" * 64):
            pass
    assert "\n" not in str(refused.value)
    assert answers(tiny)


def test_packed_rows_do_not_see_each_other(tiny: LoadedModel) -> None:
    """Under sdpa packing is exact with positions and without a cache: facts that a new transformers may change."""
    rows, _ = sft.training_rows(TASKS, renderer(tiny), 1024)
    apart = torch.cat([tiny.model(torch.tensor([row.input_ids]), use_cache=False).logits[0] for row in rows])
    packed = torch.tensor([[token for row in rows for token in row.input_ids]])
    positions = torch.tensor([[place for row in rows for place in range(len(row.input_ids))]])
    together = tiny.model(packed, position_ids=positions, use_cache=False).logits[0]
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=1e-3)
    contaminated = tiny.model(packed, use_cache=False).logits[0]
    assert (contaminated - apart).abs().max() > 0.1  # the tolerance above would notice


def test_a_packed_training_has_the_loss_of_an_unpacked_one(own_cache: Path, tiny: LoadedModel) -> None:
    quiet = {**SFT, "max_steps": 1, "learning_rate": 1e-9, "per_device_train_batch_size": 8}
    lora = {"r": 4, "lora_dropout": 0.0, "target_modules": "all-linear"}
    unpacked = train(tiny, Training(sft=quiet, lora=lora))
    packed = train(tiny, Training(sft={**quiet, "packing": True, "max_length": 512}, lora=lora))
    assert packed.curve[0].loss == pytest.approx(unpacked.curve[0].loss, rel=1e-3)


def test_a_loss_that_is_no_number_ends_the_training_with_its_step(own_cache: Path, tiny: LoadedModel) -> None:
    def poison(progress: Progress) -> None:
        if progress.step == 2:
            with torch.no_grad():
                next(p for p in tiny.model.parameters() if p.requires_grad).fill_(float("inf"))

    with pytest.raises(HarnessError, match=r"the loss is nan at step 3 of the training \(try a smaller learning_rate"):
        train(tiny, TRAINING.model_copy(update={"sft": SFT | {"save_steps": 100}}), on_progress=poison)
    assert not list(own_cache.rglob(ADAPTER_FILE))


@pytest.mark.parametrize("step", [4, 6])
def test_weights_that_are_no_numbers_are_no_checkpoint_and_no_adapter(
    own_cache: Path, tiny: LoadedModel, step: int
) -> None:
    def poison(progress: Progress) -> None:
        if progress.step == step:
            with torch.no_grad():
                next(p for p in tiny.model.parameters() if p.requires_grad).fill_(float("nan"))

    with pytest.raises(HarnessError, match=rf"after step {step} of the training \S+lora_A\S+ is not finite"):
        train(tiny, on_progress=poison)
    assert not [path for path in own_cache.rglob(COMPLETE) if path.parent.name == f"checkpoint-{step}"]
    assert not [path for path in own_cache.rglob(ADAPTER_FILE) if "checkpoint" not in path.parent.name]
    assert not list(own_cache.rglob("training.json"))


def test_a_training_without_a_step_is_refused(
    own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    monkeypatch.setattr(SFTTrainer, "train", lambda self, **_: None)
    with pytest.raises(HarnessError, match=r"the training made no step \(look at train\.sft\.max_steps"):
        train(tiny)
    assert not list(own_cache.rglob("training.json"))


@pytest.mark.parametrize("lora", [{"target_modules": ["q_prj"]}, {"target_modules": ["lm_head", "norm"]}])
def test_modules_that_cannot_be_trained_are_one_line(own_cache: Path, tiny: LoadedModel, lora: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"has no module 'q_prj'|do not take these settings of the training"):
        train(tiny, TRAINING.model_copy(update={"lora": lora}))


def test_a_trainer_whose_model_is_wrapped_meanwhile_gets_its_cards_back() -> None:
    """As one whose model is sharded over processes."""
    trainer: Any = SimpleNamespace(model=SimpleNamespace())
    model = trainer.model
    with _checkpoints_without_cards(trainer):
        model.create_or_update_model_card("folder")  # writes nothing
        trainer.model = SimpleNamespace(module=model)
    assert not hasattr(trainer, "create_model_card")
    assert not hasattr(model, "create_or_update_model_card")


def test_a_training_that_changes_nothing_is_refused(own_cache: Path, tiny: LoadedModel) -> None:
    """As one in float16 whose gradients overflow at each step."""
    with pytest.raises(HarnessError, match=r"6 steps of the training changed no weight \(look at train\.sft\.learning"):
        train(tiny, TRAINING.model_copy(update={"sft": SFT | {"learning_rate": 0.0}}))
    assert not list(own_cache.rglob("training.json"))


@pytest.mark.parametrize("sft", [{"packing": True, "max_length": 512}, {"padding_free": True, "max_length": None}])
def test_rows_that_would_see_each_other_are_refused(own_cache: Path, tmp_path: Path, sft: dict[str, Any]) -> None:
    loaded = load_fp32(make(ARCHITECTURES["Bloom"], tmp_path / "model"))
    with pytest.raises(UsageError, match=r"rows without padding see each other in this model \(bloom\)"):
        train(loaded, Training(sft=SFT | sft, lora={"r": 4, "target_modules": "all-linear"}))


def test_a_library_that_is_missing_is_one_line(
    own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.integrations.liger.is_liger_kernel_available", lambda: False)
    with pytest.raises(UsageError, match=r"do not take these settings of the training: .*liger"):
        train(tiny, TRAINING.model_copy(update={"sft": SFT | {"use_liger_kernel": True}}))


@pytest.mark.parametrize("broken", ["callbacks.write_atomically", "callbacks.check_finite", "trainer_run.check_loss"])
def test_a_fault_of_the_harness_is_no_setting_s(
    own_cache: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(f"harness.train.{broken}", None)
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        train(tiny, TRAINING.model_copy(update={"batch_plan": "as-written"}))


def test_a_fault_below_what_answers_in_a_training_is_no_setting_s() -> None:
    def fails() -> None:
        raise ValueError("of another library")

    with pytest.raises(ValueError, match="of another library"), library_refusals():
        context_length(SimpleNamespace(get_text_config=fails))
    refused = pytest.raises(UsageError, match="do not take these settings of the training: of another library")
    with refused, library_refusals():
        fails()


def test_tokens_that_the_model_does_not_know(own_cache: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    padded = load_fp32(folder)
    assert padded.tokenizer.pad_token_id < len(tokenizer) - 1
    assert train(padded).steps == 6  # padding alone is no reason
    tokenizer.add_tokens(["Show"])
    tokenizer.save_pretrained(folder)
    strange = load_fp32(folder)
    for work in (train, answers):
        with pytest.raises(HarnessError, match="writes token 260, and the model knows those from 0 to 258"):
            work(strange)


def test_rows_longer_than_the_context_are_refused(own_cache: Path, tmp_path: Path) -> None:
    loaded = load_fp32(write_base(tmp_path / "model", max_position_embeddings=32))
    with pytest.raises(UsageError, match=r"has \d+ tokens, the model's context 32 \(set train\.sft\.max_length to 32"):
        train(loaded)


def test_scores_that_trl_works_out_otherwise_than_the_model_are_refused(own_cache: Path, tmp_path: Path) -> None:
    capped = ARCHITECTURES["RecurrentGemma"]
    loaded = load_fp32(make(replace(capped, more=capped.more | {"logits_soft_cap": 3.0}), tmp_path / "model"))
    with pytest.raises(UsageError, match=r"trl learns from other scores than this model \(recurrent_gemma\) says"):
        train(loaded, Training(sft=SFT, lora={"r": 4, "target_modules": "all-linear"}))


def test_one_step_alone_has_no_warm_up(own_cache: Path, tiny: LoadedModel) -> None:
    """As of a few rows with the settings of a large training: its learning rate would be 0."""
    before = answers(tiny)
    trained = train(tiny, TRAINING.model_copy(update={"sft": SFT | {"max_steps": 1, "warmup_steps": 0.03}}))
    assert trained.steps == 1
    assert answers(tiny, trained) != before
