"""Each field of each input file is changed in turn: what decides a text changes the key, a short list does not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from harness.cluster.files import FileServer
from harness.errors import HarnessError
from harness.generate.settings import GenerationSettings
from harness.generate.store import CompletionStore
from harness.generate.transformers.generator import Generator
from harness.model.identity import IGNORED_KEYS, adapter_hashes, model_hashes
from harness.model.prompt import PromptRenderer
from harness.model.tokenizer import load_tokenizer
from harness.types import Task
from tests.conftest import load_fp32

TASKS = [Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess"))]
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that may be changed."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    return folder


@pytest.fixture(scope="module")
def made_adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "adapter"
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(folder)
    (folder / "README.md").unlink()
    return folder


@pytest.fixture
def adapter(made_adapter: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    shutil.copytree(made_adapter, folder)
    return folder


def other(value: Any) -> Any:
    """A value of another content than this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, "x"]
    return {**value, "x": 1} if isinstance(value, dict) else "x"


def each_key(path: Path, also: set[str]) -> Iterator[str]:
    """Change each key of a JSON file, and add each of `also`, one at a time."""
    text = path.read_text() if path.exists() else "{}"
    content = json.loads(text)
    for key in sorted(content.keys() | also):
        path.write_text(json.dumps({**content, key: other(content.get(key))}))
        yield key
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("config.json", {*LlamaConfig().to_dict(), "rope_theta", "rope_scaling", "sliding_window", "_name_or_path"}),
        ("generation_config.json", set(GenerationConfig().to_dict())),
        ("tokenizer_config.json", {"chat_template", "add_bos_token", "add_eos_token", "name_or_path", "eos_token"}),
    ],
)
def test_every_key_of_a_models_configs_counts(own_cache: Path, model: Path, name: str, also: set[str]) -> None:
    before = model_hashes(model).identity
    silent = {key for key in each_key(model / name, also) if model_hashes(model).identity == before}
    assert silent == set(IGNORED_KEYS.get(name, {}))
    assert model_hashes(model).identity == before


def test_every_key_of_an_adapters_config_counts(own_cache: Path, adapter: Path) -> None:
    also = {field.name for field in dataclasses.fields(LoraConfig)}
    before = adapter_hashes(adapter).identity
    silent = {
        key for key in each_key(adapter / "adapter_config.json", also) if adapter_hashes(adapter).identity == before
    }
    assert silent == set(IGNORED_KEYS["adapter_config.json"]) == {"base_model_name_or_path"}


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "chat_template.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "qwen.tiktoken",
        "model.safetensors.index.json",
        "adapter_config.json",
    ],
)
def test_every_byte_that_is_read_counts(own_cache: Path, model: Path, name: str) -> None:
    """Also where a file of the same size and time is put in its place, as copying tools do."""
    file = model / name
    file.parent.mkdir(exist_ok=True)
    before = model_hashes(model).identity
    if not file.exists():
        file.write_text('{"a": 1}')
        assert model_hashes(model).identity != before
        before = model_hashes(model).identity
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    if name == "adapter_config.json":  # read as JSON
        file.write_text('{"a": 2}')
    assert model_hashes(model).identity != before


@pytest.mark.parametrize(
    "name",
    ["README.md", "LICENSE.txt", ".gitattributes", "logo.png", "training.json", "merged.json", "all_results.json"],
)
def test_what_nobody_reads_does_not_count(own_cache: Path, model: Path, adapter: Path, name: str) -> None:
    before = model_hashes(model).identity, adapter_hashes(adapter).identity
    for folder in (model, adapter):
        (folder / name).write_text("words")
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "config.json").write_text("{}")
    assert (model_hashes(model).identity, adapter_hashes(adapter).identity) == before


def test_the_path_a_model_once_lay_at_decides_nothing(tiny_folder: Path, model: Path, adapter: Path) -> None:
    """The keys that are left out, proven: the same logits, the same tokens."""
    ids = torch.tensor([[5, 80, 300, 7]])
    logits, tokens = [], []
    for path in ("", "/elsewhere/mistral"):
        for folder, name, key in (
            (model, "config.json", "_name_or_path"),
            (model, "tokenizer_config.json", "name_or_path"),
            (adapter, "adapter_config.json", "base_model_name_or_path"),
        ):
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps({**content, key: path}))
        loaded = load_fp32(model)
        with loaded.adapter(adapter, "a" * 64) as tuned, torch.no_grad():
            logits.append(tuned(ids).logits)
        tokens.append(load_tokenizer(model)("<html> don't 2026")["input_ids"])
    assert torch.equal(*logits)
    assert tokens[0] == tokens[1]


def test_an_adapter_counts_by_what_its_config_means(own_cache: Path, adapter: Path) -> None:
    path = adapter / "adapter_config.json"
    content = json.loads(path.read_text())
    before = adapter_hashes(adapter)
    path.write_text(json.dumps({**content, "target_modules": content["target_modules"][::-1]}, indent=7))
    assert adapter_hashes(adapter) == before  # PEFT writes a set, in random order
    patterns = {"layers.0": 2, "q_proj": 3}
    keys = set()
    for ordered in (patterns, dict(reversed(patterns.items()))):
        path.write_text(json.dumps({**content, "rank_pattern": ordered}))
        keys.add(adapter_hashes(adapter).identity)
    assert len(keys) == 2  # the first pattern that matches is taken
    assert before.tokenizer is None
    (adapter / "tokenizer_config.json").write_text("{}")
    assert adapter_hashes(adapter).tokenizer is not None


def test_an_adapters_own_template_and_tensors_count(own_cache: Path, adapter: Path) -> None:
    keys = {adapter_hashes(adapter).identity}
    (adapter / "chat_template.jinja").write_text("{{ messages }}")
    keys.add(adapter_hashes(adapter).identity)
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(tensors))
    tensors[name][0, 0] += 1
    save_file(tensors, adapter / "adapter_model.safetensors")
    keys.add(adapter_hashes(adapter).identity)
    assert len(keys) == 3


def test_a_broken_or_missing_file_is_one_line(own_cache: Path, model: Path, adapter: Path) -> None:
    for folder, name, hashes in (
        (model, "config.json", model_hashes),
        (adapter, "adapter_config.json", adapter_hashes),
    ):
        (folder / name).write_text('{"a": ')
        with pytest.raises(HarnessError, match=rf"{name} is not valid JSON") as refused:
            hashes(folder)
        assert "\n" not in str(refused.value)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(HarnessError, match=r"holds no adapter: adapter_model\.safetensors is missing"):
        adapter_hashes(adapter)
    (model / "model.safetensors").unlink()
    with pytest.raises(HarnessError, match="holds no weights"):
        model_hashes(model)


def generator(folder: Path, adapter: Path | None = None, **settings: Any) -> Generator:
    loaded = load_fp32(folder)
    values = {"max_new_tokens": 6, "batch_size": 4, **settings}
    own = adapter_hashes(adapter).identity if adapter else None
    renderer = PromptRenderer("Write: {{ prompt }}", False, loaded.tokenizer)
    return Generator("x", loaded, renderer, GenerationSettings(**values), adapter, own)


def texts(asked: Generator, fresh: bool = False) -> list[str]:
    return [done.text for done in asked.complete(TASKS, fresh=fresh)]


def test_a_changed_config_beside_the_same_weights_answers_anew(own_cache: Path, model: Path) -> None:
    first = texts(generator(model))
    config = json.loads((model / "config.json").read_text())
    rope = config["rope_parameters"]
    (model / "config.json").write_text(json.dumps({**config, "rope_parameters": {**rope, "rope_theta": 2.0}}))
    turned = texts(generator(model))
    assert turned != first
    assert turned == texts(generator(model), fresh=True)
    every_token = list(range(len(load_tokenizer(model))))  # so that any first one ends the answer
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": every_token}))
    ended = texts(generator(model))
    assert ended[0] != turned[0]
    assert len(list((own_cache / "completions").glob("*.jsonl"))) == 3


def test_adapters_of_equal_tensors_and_another_config_are_two_models(
    own_cache: Path, model: Path, adapter: Path, tmp_path: Path
) -> None:
    strong = tmp_path / "strong"
    shutil.copytree(adapter, strong)
    config = json.loads((strong / "adapter_config.json").read_text())
    (strong / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 640}))
    asked = generator(model, adapter)
    weak = texts(asked)
    both = dataclasses.replace(asked, adapter_folder=strong, adapter_sha256=adapter_hashes(strong).identity)
    assert texts(both) != weak  # in one process, on one loaded model
    assert texts(both) == texts(generator(model, strong), fresh=True)
    assert texts(generator(model, adapter)) == weak
    first, second = asked.manifest(), both.manifest()
    assert first.adapter_sha256 == second.adapter_sha256
    assert first.adapter_config_sha256 != second.adapter_config_sha256
    assert first.config_sha256 == second.config_sha256 is not None


SILENT_SETTINGS = {
    "batch_size": "changes the order of sums and nothing else",
    "samples": "each sample has its own key",
}


def test_every_generation_setting_counts(own_cache: Path, tiny_folder: Path) -> None:
    asked = generator(tiny_folder, temperature=0.5)
    before = asked.identity()
    silent = set()
    for field in dataclasses.fields(GenerationSettings):
        changed = dataclasses.replace(asked.settings, **{field.name: other(getattr(asked.settings, field.name))})
        if dataclasses.replace(asked, settings=changed).identity() == before:
            silent.add(field.name)
    assert silent == set(SILENT_SETTINGS)


def test_the_versions_of_libraries_and_of_the_store_count(
    own_cache: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.generate import store
    from harness.model import identity

    asked = generator(tiny_folder)
    paths = {CompletionStore(asked.identity()).path}
    monkeypatch.setattr(store, "FORM", 99)
    paths.add(CompletionStore(asked.identity()).path)
    monkeypatch.setattr(identity, "version", lambda name: "99" if name == "transformers" else "1")
    paths.add(CompletionStore(asked.identity()).path)
    assert len(paths) == 3


def test_what_counts_is_sent_to_other_machines(own_cache: Path, model: Path, tmp_path: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    sent = tmp_path / "sent"
    for name, size in FileServer().sizes(str(model)).items():
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        (sent / name).write_bytes(FileServer().piece(str(model), name, 0, size))
    assert model_hashes(sent) == model_hashes(model)
