"""A training leaves the base as it was, whatever its LoRA settings write into, and its adapter fits that base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.errors import UsageError
from harness.model.load import LoadedModel, Precision, load_model
from harness.model.profile_schema import Training, Weights
from harness.model.prompt import PromptRenderer
from harness.train.job import TrainingJob
from harness.train.settings import check_names
from harness.train.sft import TrainedAdapter, train_adapter
from harness.types import Task
from tests.model.kinds import write_base

TASKS = [Task(str(n), f"Page {n}", reference=f"<p>Number {n}</p>") for n in range(6)]
SFT: dict[str, Any] = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "learning_rate": 3e-2,
    "gradient_checkpointing": False,
    "save_steps": 3,
}
PROMPT = "Write: {{ prompt }}\n"
WRITES = {
    "modules-to-save": ({"modules_to_save": ["embed_tokens"]}, False),
    "bias-all": ({"bias": "all"}, True),
    "bias-lora-only": ({"bias": "lora_only"}, True),
    "olora": ({"init_lora_weights": "olora"}, True),
    "pissa": ({"init_lora_weights": "pissa"}, True),
    "pissa-by-chance": (
        {"init_lora_weights": "pissa_niter_2", "use_rslora": True, "rank_pattern": {"q_proj": 2}},
        True,
    ),
    "pissa-dora": ({"init_lora_weights": "pissa", "use_dora": True}, True),
    "tokens": ({"trainable_token_indices": {"embed_tokens": [40, 41]}}, False),
    "replication": ({"layer_replication": [[0, 2], [1, 2]]}, False),
    "orthogonal": ({"init_lora_weights": "orthogonal"}, False),
}  # fmt: skip
FAST = ("modules-to-save", "bias-lora-only", "olora", "pissa-by-chance")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def loaded(base_folder: Path) -> LoadedModel:
    return load_model(Weights(folder=str(base_folder)), Precision("none", "float32", "cpu"))


def train(loaded: LoadedModel, lora: dict[str, Any], seed: int = 0, **sft: Any) -> TrainedAdapter:
    training = Training(seed=seed, sft=SFT | sft, lora={"r": 4, "target_modules": ["q_proj", "v_proj"], **lora})
    return train_adapter(TrainingJob(loaded, PromptRenderer(PROMPT, False, loaded.tokenizer), training, TASKS))


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[50, 51, 52, 53, 54, 55]])
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in WRITES]
)
def test_base_and_second_seed_are_as_if_the_training_had_not_been(
    name: str, own_cache: Path, base_folder: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lora, writes = WRITES[name]
    said: list[str] = []
    loaded = replace(loaded, notice=said.append)
    alone = logits(loaded.model)
    config, generation = loaded.model.config.to_dict(), loaded.model.generation_config.to_dict()
    first = train(loaded, lora)
    assert torch.equal(logits(loaded.model), alone)
    assert (loaded.model.config.to_dict(), loaded.model.generation_config.to_dict()) == (config, generation)
    assert len(said) == (1 if writes else 0)
    assert all(line.startswith("the training wrote into the base weights (model.") for line in said)
    # tuned: right after the training, from the cache, and as PEFT gives it on a fresh base
    fresh = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_folder), str(first.folder))
    expected = logits(fresh)
    assert not torch.allclose(expected, alone, atol=1e-3)
    with loaded.adapter(first.folder, first.sha256) as model:
        assert torch.equal(logits(model), expected)
    assert train(loaded, lora).from_cache
    with loaded.adapter(first.folder, first.sha256) as model:
        assert torch.equal(logits(model), expected)
    # seed 2 learns on the base, not on what seed 1 left
    after = train(loaded, lora, seed=1)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another"))
    lone = train(load_model(Weights(folder=str(base_folder)), Precision("none", "float32", "cpu")), lora, seed=1)
    assert (after.sha256, after.curve) == (lone.sha256, lone.curve)
    assert torch.equal(logits(loaded.model), alone)


@pytest.mark.parametrize("lora", [{"init_lora_weights": "pissa"}, {"init_lora_weights": "olora", "use_rslora": True}])
def test_an_initialiser_that_takes_from_the_base_is_saved_as_plain_lora_that_answers_as_trained(
    lora: dict[str, Any], own_cache: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.train import trainer_run

    as_trained: list[torch.Tensor] = []
    save = trainer_run._save

    def saving(trainer: Any, folder: Path) -> None:
        as_trained.append(logits(trainer.model))
        save(trainer, folder)

    monkeypatch.setattr(trainer_run, "_save", saving)
    trained = train(loaded, lora)
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert (config["init_lora_weights"], config["r"]) == (True, 8)
    with loaded.adapter(trained.folder, trained.sha256) as model:
        torch.testing.assert_close(logits(model), as_trained[0], atol=2e-4, rtol=2e-3)
        assert not loaded.changed_weights()


def test_initialisers_that_cannot_be_undone_or_need_data_are_one_line(own_cache: Path, base_folder: Path) -> None:
    for name in ("eva", "corda", "lora_ga"):  # the last of these is unknown to some versions of PEFT
        with pytest.raises(UsageError, match=f"'{name}' needs a pass over data|got '{name}'"):
            check_names({}, {"init_lora_weights": name})
    quantised = load_model(Weights(folder=str(base_folder)), Precision("nf4", "float32", "cpu"))
    alone = logits(quantised.model)
    for name in ("olora", "pissa"):
        with pytest.raises(UsageError, match=r"trl and peft do not take|changes the base weights for good") as refused:
            train(quantised, {"init_lora_weights": name})
        assert "\n" not in str(refused.value)
        assert torch.equal(logits(quantised.model), alone)


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"target_modules": ["query"]}, "the model has no module 'query'"),
        ({"init_lora_weights": "pisa"}, "got 'pisa' (did you mean 'pissa'?)"),
        ({"modules_to_save": ["nowhere"]}, ""),
        ({"rank_pattern": {"q_proj": -1}}, "trl and peft do not take these settings of the training"),
    ],
)
def test_settings_that_peft_refuses_are_one_line(
    lora: dict[str, Any], words: str, own_cache: Path, loaded: LoadedModel
) -> None:
    alone = logits(loaded.model)
    try:
        train(loaded, lora)
    except UsageError as refused:
        assert words in str(refused)
        assert "\n" not in str(refused)
    else:
        assert not words
    assert torch.equal(logits(loaded.model), alone)


def test_a_4_bit_base_that_has_answered_can_still_be_trained(own_cache: Path, base_folder: Path) -> None:
    """bitsandbytes would pack the weights at their first use on a CPU, and a packed layer passes no gradient on."""
    quantised = load_model(Weights(folder=str(base_folder)), Precision("nf4", "float32", "cpu"))
    alone = logits(quantised.model)
    trained = train(quantised, {})
    assert trained.curve[-1].loss is not None
    with quantised.adapter(trained.folder, trained.sha256) as model:
        assert not torch.allclose(logits(model), alone, atol=1e-3)
    with quantised.adapter(None, None) as model:
        assert torch.equal(logits(model), alone)


def test_settings_that_change_the_tokenizer_change_that_of_the_training_alone(
    own_cache: Path, loaded: LoadedModel
) -> None:
    before = loaded.tokenizer.pad_token, loaded.model.generation_config.pad_token_id
    train(loaded, {}, pad_token="</s>")
    assert (loaded.tokenizer.pad_token, loaded.model.generation_config.pad_token_id) == before
