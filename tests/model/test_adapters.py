"""Adapters of every kind on one loaded model: base, tuned and sampled answers are those of PEFT on a fresh base."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.errors import HarnessError, UsageError
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.model.adapters import named_base
from harness.model.identity import adapter_hashes
from harness.model.load import LoadedModel, Precision, load_model
from harness.model.profile_schema import Weights
from harness.model.prompt import PromptRenderer
from harness.model.tokenizer import renderer_for
from harness.types import Task
from tests.model.kinds import FAST, KINDS, make_adapter, write_base

TASKS = (Task("a", "Show a list of bread."), Task("b", "A table, please, with two rows and three columns of it."))
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is proved of decoders here is remembered here alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("HARNESS_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def loaded(base_folder: Path) -> LoadedModel:
    """One model for all kinds, so that each comes after the others."""
    return load(base_folder)


def load(folder: Path) -> LoadedModel:
    return load_model(Weights(folder=str(folder)), Precision("none", "float32", "cpu"))


def asked(loaded: LoadedModel, adapter: Path | None, temperature: float = 0.0) -> Generator:
    renderer, _ = renderer_for(PromptRenderer("Write a page: {{ prompt }}", False, loaded.tokenizer), adapter)
    sha = adapter_hashes(adapter).identity if adapter else None
    settings = GenerationSettings(NEW_TOKENS, 2, temperature=temperature, cut_loops=False)
    return Generator("any", loaded, renderer, settings, adapter_folder=adapter, adapter_sha256=sha)


def answers(generator: Generator) -> list[str]:
    """What it writes, decoded anew and kept nowhere."""
    wanted = {(task.id, 0): (generator.prompt(task), 7) for task in TASKS}
    return [answer.text for _, answer in sorted(generator.decode(wanted))]


def by_peft(base_folder: Path, adapter: Path | None, generator: Generator) -> list[str]:
    """What PEFT's own `generate` writes on a fresh base, one prompt at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    found = []
    for task in TASKS:
        ids = torch.tensor([generator.prompt(task)])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS
            )
        tokens = out[0, ids.shape[1] :].tolist()
        found.append(generator.renderer.tokenizer.decode(tokens, skip_special_tokens=True))
    return found


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in FAST else pytest.mark.slow) for kind in KINDS])
def test_every_kind_answers_as_on_a_fresh_base_and_leaves_the_base(
    kind: str, own_cache: Path, base_folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    fresh = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    adapter = make_adapter(fresh, kind, tmp_path / kind)
    base, tuned = asked(loaded, None), asked(loaded, adapter)
    alone = by_peft(base_folder, None, base)
    assert answers(base) == alone
    expected = by_peft(base_folder, adapter, tuned)
    if expected == alone:  # PEFT's own `generate` leaves a prefix out with some versions of transformers
        assert kind == "prefix-tuning"
        with pytest.raises(HarnessError, match="is left out when the model generates"):
            answers(tuned)
        assert answers(base) == alone
        return
    assert answers(tuned) == expected
    sampled = answers(asked(loaded, adapter, temperature=1.0))
    assert answers(base) == alone
    assert not loaded.changed_weights()
    assert sampled == answers(asked(load(base_folder), adapter, temperature=1.0))
    assert answers(asked(loaded, None, temperature=1.0)) == answers(asked(load(base_folder), None, temperature=1.0))


def test_the_base_is_loaded_anew_with_a_word_where_an_adapter_wrote_into_it(
    own_cache: Path, base_folder: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    loaded = replace(load(base_folder), notice=said.append)
    first = loaded.model
    fresh = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    biases = make_adapter(fresh, "bias-all", tmp_path / "biases")
    plain = make_adapter(AutoModelForCausalLM.from_pretrained(base_folder), "lora", tmp_path / "plain")
    with loaded.adapter(plain, "1"):
        assert not loaded.changed_weights()
    with loaded.adapter(None, None) as model:
        assert model is first
    assert said == []
    with loaded.adapter(biases, "2"):
        assert any(name.endswith("bias") for name in loaded.changed_weights())
    with loaded.adapter(plain, "1"):
        assert not loaded.changed_weights()
    (line,) = said
    assert line.startswith("the adapter wrote into the base weights (model.layers.0.")
    assert line.endswith("they are loaded anew")


Spoil = Callable[[Path], None]


def rename(folder: Path) -> None:
    """As other trainers write it."""
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors = {name.replace("base_model.model.", "module."): value for name, value in tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def drop_one(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "adapter_model.safetensors")


def add_one(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in tensors if "layers.1" in name)
    tensors[name.replace("layers.1", "layers.7")] = tensors[name].clone()
    save_file(tensors, folder / "adapter_model.safetensors")


def widen(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: value.repeat(2, 2) for name, value in tensors.items()}, folder / "adapter_model.safetensors")


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors[sorted(tensors)[0]][0, 0] = float("nan")
    save_file(tensors, folder / "adapter_model.safetensors")


def cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def configured(**fields: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (rename, "it lacks base_model.model.model.layers.0"),
        (drop_one, "it lacks base_model.model.model.layers.0.mlp.down_proj.lora_A"),
        (add_one, "they have no place for .*layers.7"),
        (widen, "does not fit the base weights"),
        (not_a_number, "holds numbers that are not finite"),
        (cut, "adapter_model.safetensors is cut or damaged"),
        (configured(target_modules=["query"]), "does not fit the base weights: Target modules"),
        (configured(peft_type="NEWER"), "holds an adapter of the kind 'NEWER'"),
        (configured(r="many"), "does not fit the base weights"),
        (lambda folder: (folder / "adapter_config.json").write_text("[1]"), "holds no JSON object"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    ],
)  # fmt: skip
def test_an_adapter_that_does_not_fit_is_one_line_and_leaves_the_base(
    spoil: Spoil, words: str, base_folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    folder = make_adapter(AutoModelForCausalLM.from_pretrained(base_folder), "lora", tmp_path / "adapter")
    spoil(folder)
    with pytest.raises(HarnessError, match=words) as refused, loaded.adapter(folder, words):
        pass
    assert "\n" not in str(refused.value)
    assert not hasattr(loaded.model, "peft_config")
    assert not loaded.changed_weights()


def test_an_adapter_with_more_tokens_brings_its_embeddings_and_its_tokenizer(
    own_cache: Path, base_folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    base, folder = asked(loaded, None), tmp_path / "adapter"
    alone = answers(base)
    fresh = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    tokenizer = load(base_folder).tokenizer
    tokenizer.add_tokens(["<page>", "</page>"])
    tokenizer.chat_template = "{% for m in messages %}<page>{{ m.content }}</page>{% endfor %}"
    fresh.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(5)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(fresh, config).eval()
    adapted.save_pretrained(str(folder), save_embedding_layers=True)
    plain = PromptRenderer("Write a page: {{ prompt }}", False, loaded.tokenizer)
    renderer, words = renderer_for(plain, folder)
    assert (renderer, words) == (plain, "")
    tokenizer.save_pretrained(folder)
    renderer, words = renderer_for(plain, folder)
    assert words.startswith(f"tokenizer ({len(tokenizer)} tokens, the base's has {len(loaded.tokenizer)}) and chat")
    assert renderer.text(TASKS[0]) == "<page>Write a page: Show a list of bread.</page>"
    assert renderer.tokens(TASKS[0])[0] == len(loaded.tokenizer)
    tuned = asked(loaded, folder)
    found = answers(tuned)
    for task, text in zip(TASKS, found, strict=True):
        ids = torch.tensor([tuned.prompt(task)])
        out = adapted.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS
        )
        assert text == tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
    assert answers(base) == alone
    assert renderer_for(plain, None) == (plain, "")
    with pytest.raises(UsageError, match="holds no adapter"), loaded.adapter(tmp_path, "nothing"):
        pass


def test_a_tokenizer_beside_an_adapter_that_only_begins_otherwise_is_used(base_folder: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    base = load(base_folder).tokenizer
    plain = PromptRenderer("{{ prompt }}", False, base)
    base.save_pretrained(tmp_path)
    assert renderer_for(plain, tmp_path) == (plain, "")
    own = load(base_folder).tokenizer
    own._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own.save_pretrained(tmp_path)
    renderer, words = renderer_for(plain, tmp_path)
    assert words == "tokenizer, which reads text otherwise than the base's"
    assert renderer.tokens(TASKS[0]) == [1, *plain.tokens(TASKS[0])]
    chat = replace(plain, chat=True)
    assert renderer_for(chat, tmp_path) == (chat, "")  # a chat template brings its own


def test_an_adapter_that_changes_nothing_is_not_the_base_under_another_name(
    loaded: LoadedModel, base_folder: Path, tmp_path: Path
) -> None:
    fresh = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    peft.get_peft_model(fresh, KINDS["lora"]()).save_pretrained(str(tmp_path))
    with pytest.raises(HarnessError, match="changes nothing: all its lora_B are zero"), loaded.adapter(tmp_path, "0"):
        pass
    assert answers(asked(loaded, None))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("/elsewhere/{name}", ""),
        ("OWNER/{name}", ""),
        ("OWNER/Llama-2-7b-chat-hf", "OWNER/Llama-2-7b-chat-hf"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_adapter_for_another_base_is_told(base_folder: Path, tmp_path: Path, written: str | None, said: str) -> None:
    named = None if written is None else written.format(name=base_folder.name)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
    assert named_base(tmp_path, Weights(folder=str(base_folder)), base_folder) == said
