"""Under which key an adapter lies, what is still found under the older one, and how many tokens it learnt from."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.model.load import LoadedModel
from harness.model.profile_schema import DevEvaluation, PackagedGguf, Training, Weights
from harness.model.prompt import PromptRenderer
from harness.model.weights import fetch_weights
from harness.pipeline.dev_evaluation import set_up_evaluation
from harness.storage.cache import content_key
from harness.suite.load import find_suite, load_suite
from harness.train.adapter_key import _content, adapter_key, is_same_training, trained_tokens
from harness.train.data import training_rows
from harness.train.job import TrainingJob
from harness.train.sft import TrainedAdapter, train_adapter
from harness.train.trackers import TRACKER_FIELDS
from tests.conftest import load_fp32
from tests.train.test_sft import SFT, TASKS, renderer

TRAINING = Training(sft={**SFT, "max_steps": 1}, lora={"r": 2, "target_modules": ["q_proj"]})

SILENT = {
    "suite": "its rows count",
    "rows": "the rows themselves count",
    "evaluation": "counts by what is evaluated: see the next test",
}
SILENT_OF_EVALUATION = {"batch_size": "changes the order of sums and nothing else"}


def test_every_setting_of_a_training_counts(own_cache: Path, tiny: LoadedModel) -> None:
    rows, _ = training_rows(TASKS, renderer(tiny), 1024)
    changes: dict[str, Any] = {
        "suite": "named",
        "seed": 7,
        "rows": 5,
        "batch_plan": "auto",
        "evaluation": None,
        "sft": {**TRAINING.sft, "weight_decay": 0.5},
        "lora": {**TRAINING.lora, "use_rslora": True},
    }
    assert changes.keys() == Training.model_fields.keys()
    before = adapter_key(tiny, renderer(tiny), TRAINING, rows)
    for name, value in changes.items():
        key = adapter_key(tiny, renderer(tiny), TRAINING.model_copy(update={name: value}), rows)
        assert (key == before) == (name in SILENT), name
    for name in TRACKER_FIELDS:
        told = TRAINING.model_copy(update={"sft": {**TRAINING.sft, name: "x"}})
        assert adapter_key(tiny, renderer(tiny), told, rows) == before
    assert adapter_key(tiny, renderer(tiny), TRAINING, rows[::-1]) != before
    other = PromptRenderer("Do: {{ prompt }}\n", False, tiny.tokenizer)
    assert adapter_key(tiny, other, TRAINING, rows) != before


def test_every_setting_of_an_evaluated_training_counts(
    own_cache: Path, tiny_workplace: Path, tiny: LoadedModel
) -> None:
    suite = load_suite(find_suite("small"))
    asked = Generator("x", tiny, renderer(tiny), GenerationSettings(24, 2))
    rows, _ = training_rows(TASKS, renderer(tiny), 1024)

    def key(settings: DevEvaluation) -> str:
        _, evaluation = set_up_evaluation(settings, suite, asked)
        return adapter_key(tiny, renderer(tiny), TRAINING, rows, evaluation)

    settings = DevEvaluation(every=2, rows=2, metrics=["well_formed"], max_new_tokens=8)
    changes: dict[str, Any] = {
        "every": 3,
        "rows": 3,
        "metrics": ["bleu"],
        "patience": 1,
        "max_new_tokens": 9,
        "batch_size": 3,
    }
    assert changes.keys() == DevEvaluation.model_fields.keys()
    before = key(settings)
    silent = {name for name, value in changes.items() if key(settings.model_copy(update={name: value})) == before}
    assert silent == set(SILENT_OF_EVALUATION)


def test_keys_keep_the_words_of_before_so_that_adapters_are_found(
    own_cache: Path, tiny_workplace: Path, tiny: LoadedModel
) -> None:
    asked = Generator("x", tiny, renderer(tiny), GenerationSettings(24, 2))
    rows, _ = training_rows(TASKS, renderer(tiny), 1024)
    settings = DevEvaluation(every=2, rows=2)
    _, evaluation = set_up_evaluation(settings, load_suite(find_suite("small")), asked)
    training = TRAINING.model_copy(update={"batch_plan": "auto"})
    content = _content("weights", tiny, renderer(tiny), training, rows, evaluation)
    assert content["fit"] == "card"
    watched = content["watch"]
    assert isinstance(watched, dict)
    assert watched.keys() == {"settings", "look", "rows"}
    assert not {"batch_plan", "evaluation"} & content.keys()
    keys = {
        adapter_key(tiny, renderer(tiny), TRAINING.model_copy(update={"sft": {name: False}}), rows)
        for name in ("gradient_checkpointing", "activation_checkpointing")
    }
    assert len(keys) == 1


def test_the_bases_config_counts(own_cache: Path, tiny: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny.weights.folder, folder)
    rows, _ = training_rows(TASKS, renderer(tiny), 1024)

    def key() -> str:
        loaded = replace(tiny, weights=fetch_weights(Weights(folder=str(folder))))
        return adapter_key(loaded, renderer(tiny), TRAINING, rows)

    keys = [key()]
    assert keys == [adapter_key(tiny, renderer(tiny), TRAINING, rows)]
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, "rope_theta": 7.0, "model_max_length": 99}))
        keys.append(key())
    assert len(set(keys)) == 4


def key_of_form_1(loaded: LoadedModel, training: Training) -> str:
    """The formula as it was: the base by its tensors alone."""
    rows, _ = training_rows(TASKS, renderer(loaded), 1024)
    assert loaded.weights.hashes is not None
    return content_key(
        {
            "weights": loaded.weights.hashes.tensors,
            "precision": asdict(loaded.precision),
            "template": renderer(loaded).sha,
            "seed": training.seed,
            "sft": training.sft,
            "lora": training.lora,
            "rows": [[row.input_ids, row.labels] for row in rows],
            "packages": {name: version(name) for name in ("torch", "transformers", "trl", "peft", "bitsandbytes")},
        }
    )


def test_an_adapter_under_the_old_key_is_taken_where_its_base_is_certain(
    own_cache: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    said: list[str] = []

    def train(training: Training = TRAINING) -> TrainedAdapter:
        loaded = load_fp32(folder)
        return train_adapter(TrainingJob(loaded, renderer(loaded), training, TASKS), on_notice=said.append)

    first = train()
    old = own_cache / "adapters" / key_of_form_1(load_fp32(folder), TRAINING)[:32]
    first.folder.rename(old)
    again = train()
    assert (again.from_cache, again.folder, again.sha256, said) == (True, old, first.sha256, [])

    os.utime(folder / "config.json", (1, 1))  # as old as it likes to look: touched after the training
    time.sleep(0.01)
    anew = train()
    assert not anew.from_cache
    assert anew.folder != old
    assert said == ["an adapter of these settings is there, but it may be of another config or tokenizer: trained anew"]
    assert train().from_cache
    assert len(said) == 1


def test_converted_weights_are_certain_wherever_the_cache_lies(tiny_folder: Path, tmp_path: Path) -> None:
    base, adapter = tmp_path / "cache" / "0123-1", tmp_path / "adapter"
    shutil.copytree(tiny_folder, base)
    adapter.mkdir()
    (adapter / "training.json").write_text("{}")
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/another/cache/weights/0123-1"}')
    elsewhere = load_fp32(base)
    assert not is_same_training(adapter, elsewhere, TRAINING)  # any folder may be called like this one
    packaged = replace(elsewhere, source=Weights(gguf=PackagedGguf(package="p", file="f.gguf", sha256="0123")))
    assert is_same_training(adapter, packaged, TRAINING)
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/another/cache/weights/0123-2"}')
    assert not is_same_training(adapter, packaged, TRAINING)
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "0123-1"}')
    later = time.time() + 60
    os.utime(base / "config.json", (later, later))
    assert not is_same_training(adapter, packaged, TRAINING)


def test_settings_that_write_into_the_base_are_trained_anew(own_cache: Path, tiny: LoadedModel) -> None:
    biased = TRAINING.model_copy(update={"lora": {**TRAINING.lora, "bias": "lora_only"}})
    said: list[str] = []
    first = train_adapter(TrainingJob(tiny, renderer(tiny), biased, TASKS))
    first.folder.rename(own_cache / "adapters" / key_of_form_1(tiny, biased)[:32])
    assert not train_adapter(TrainingJob(tiny, renderer(tiny), biased, TASKS), on_notice=said.append).from_cache
    assert len(said) == 1


@pytest.mark.parametrize(
    ("fields", "epochs"),
    [
        ({"num_train_epochs": 2, "per_device_train_batch_size": 8, "include_num_input_tokens_seen": "no"}, 2),
        ({"num_train_epochs": 3, "packing": True, "max_length": 512}, 3),
        ({"max_steps": 3, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 1}, 1.5),
    ],
)
def test_a_training_counts_the_tokens_of_all_its_epochs(
    own_cache: Path, tiny: LoadedModel, fields: dict[str, Any], epochs: float
) -> None:
    fields = {"learning_rate": 1e-4, "gradient_checkpointing": False, **fields}
    speeds: list[float | None] = []
    training = Training(sft=fields, lora=TRAINING.lora)
    trained = train_adapter(
        TrainingJob(tiny, renderer(tiny), training, TASKS),
        on_progress=lambda done: speeds.append(done.tokens_per_second),
    )
    rows, _ = training_rows(TASKS, renderer(tiny), 512)
    once = sum(len(row.input_ids) for row in rows)
    if epochs == int(epochs):
        assert trained.tokens == epochs * once
    else:  # half an epoch is any four of the eight rows
        assert once < trained.tokens < 2 * once
    assert speeds
    assert all(speeds)


def test_records_of_one_epoch_are_read_as_what_they_were() -> None:
    layout = {"micro_batch": 2, "accumulation": 2, "checkpointing": False, "plain_base": False}
    record = {"tokens": 1000, "steps": 6, "layout": layout}
    unpacked = Training(sft={"num_train_epochs": 2})
    assert trained_tokens(record, unpacked, rows=12) == 2000
    assert trained_tokens(record | {"layout": layout | {"processes": 2}}, unpacked, rows=24) == 2000
    assert trained_tokens(record, Training(sft={"num_train_epochs": 5, "packing": True}), rows=12) == 5000
    assert trained_tokens(record, Training(sft={"max_steps": 6, "packing": True}), rows=12) is None
    assert trained_tokens(record | {"form": 2}, unpacked, rows=12) == 1000
