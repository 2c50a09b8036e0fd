"""A model's folder, a GGUF file or a hub id is a profile by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from harness.errors import HarnessError, UsageError
from harness.model.adhoc_profile import adhoc_profile
from harness.model.gpu_memory import CARDS, Card
from harness.model.profile import model_names, resolve_model
from harness.model.profile_files import profile_faults, write_profile
from harness.model.prompt import PromptRenderer
from harness.model.tokenizer import load_tokenizer
from harness.model.weights_facts import is_hub_id, weights_facts, weights_named
from harness.train.settings import check_names
from harness.types import Task
from tests.generate.transformers.architectures import ARCHITECTURES, make

TRIED = ("Llama", "Qwen2, window", "Qwen3", "Gemma 2", "Gemma 3", "Mistral", "Phi-3", "GPT-NeoX", "GPT-2", "Falcon",
         "OPT", "OLMo 2")  # fmt: skip
TASK = Task("1", "A page about bread.", "<p>Salt.</p>", "<p>Bread</p>")


@pytest.mark.parametrize("name", TRIED)
def test_any_architecture_is_a_profile(tmp_path: Path, name: str) -> None:
    folder = make(ARCHITECTURES[name], tmp_path / "my-model")
    profile = adhoc_profile(str(folder))
    assert profile.name == "my-model"
    assert model_names(profile) == ["base", "base-fewshot", "tuned"]
    kinds = [resolve_model(word, profile).kind for word in model_names(profile)]
    assert kinds == ["base", "few-shot", "tuned"]
    facts = weights_facts(weights_named(str(folder)))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.context == 512
    assert profile.file.chat is ARCHITECTURES[name].chat is facts.chat
    training = resolve_model("tuned", profile).file.train
    assert training is not None and training.sft["max_length"] == 512


@pytest.mark.parametrize(("name", "known"), [("Llama", True), ("Llama, tied", True), ("GPT-2", False), ("OPT", False)])
def test_memory_is_computed_part_by_part_for_llamas_alone(tmp_path: Path, name: str, known: bool) -> None:
    facts = weights_facts(weights_named(str(make(ARCHITECTURES[name], tmp_path))))
    assert (facts.shape is not None) is known


def test_prompts_are_the_models_own_templates(tmp_path: Path) -> None:
    folder = make(ARCHITECTURES["Qwen2, window"], tmp_path / "chat")
    profile, tokenizer = adhoc_profile(str(folder)), load_tokenizer(folder)
    renderer = PromptRenderer(profile.file.prompt, profile.file.chat, tokenizer)
    turn = {"role": "user", "content": renderer.user_turn(TASK)}
    expected = tokenizer.apply_chat_template([turn], add_generation_prompt=True)["input_ids"]
    assert renderer.tokens(TASK) == expected


def test_without_a_template_the_instruction_form_with_one_begin_token(tmp_path: Path) -> None:
    folder = make(ARCHITECTURES["Llama"], tmp_path / "plain")
    profile, tokenizer = adhoc_profile(str(folder)), load_tokenizer(folder)
    renderer = PromptRenderer(profile.file.prompt, profile.file.chat, tokenizer)
    text = renderer.text(TASK)
    assert text.startswith("Below is an instruction") and text.endswith("### Response:")
    assert renderer.tokens(TASK) == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(("card", "quantization"), [(None, "none"), (CARDS["h100"], "none"), (CARDS["t4"], "none")])
def test_a_small_model_is_held_in_16_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: Card | None, quantization: str
) -> None:
    folder = make(ARCHITECTURES["Llama"], tmp_path / "small")
    monkeypatch.setattr("harness.model.adhoc_profile.this_card", lambda: card)
    assert adhoc_profile(str(folder)).file.quantization == quantization
    assert adhoc_profile(str(folder), "nf4").file.quantization == "nf4"


def test_a_model_larger_than_its_share_of_the_card_is_held_in_4_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
              "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))  # sizes come from the config: no weights are needed
    found = {}
    for name in ("t4", "l4", "h100"):
        monkeypatch.setattr("harness.model.adhoc_profile.this_card", lambda name=name: CARDS[name])
        profile = adhoc_profile(str(tmp_path))
        found[name] = profile.file.quantization
    assert found == {"t4": "nf4", "l4": "nf4", "h100": "none"}
    assert "6.74B parameters" in profile.why and profile.file.shape is not None


@pytest.mark.parametrize(
    ("word", "means"),
    [("Qwen/Qwen2.5-0.5B-Instruct", True), ("gpt2", True), ("a/b@v1.0", True), ("./a", False), ("a/b/c", False)],
)
def test_ids_of_the_hub(word: str, means: bool) -> None:
    assert is_hub_id(word) is means


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        weights_named(str(tmp_path))
    with pytest.raises(UsageError, match=r"there is no model \./nowhere"):
        weights_named("./nowhere")
    with pytest.raises(UsageError, match=r"there is no model x\.gguf"):
        weights_named("x.gguf")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(HarnessError, match="describes no model"):
        adhoc_profile(str(tmp_path))


def test_the_same_profile_as_files(tmp_path: Path) -> None:
    from harness.model.profile import load_profile

    folder = make(ARCHITECTURES["Llama, tied"], tmp_path / "mine")
    written = write_profile("mine", str(folder), tmp_path / "baselines")
    assert sorted(path.name for path in written.glob("*.yaml")) == [
        "base-fewshot.yaml", "base.yaml", "profile.yaml", "tuned.yaml",
    ]  # fmt: skip
    adhoc, read = adhoc_profile(str(folder)), load_profile("mine", tmp_path / "baselines")
    assert read.file == adhoc.file
    assert {name: resolve_model(name, read).file for name in model_names(read)} == adhoc.models
    assert profile_faults(read, check_names) == []
    with pytest.raises(UsageError, match="exists already"):
        write_profile("mine", str(folder), tmp_path / "baselines")
    (written / "profile.yaml").write_text(
        (written / "profile.yaml").read_text().replace("{{ input }}", "").replace("{{ prompt }}", "a page")
    )
    (written / "tuned.yaml").write_text("train: {sfd: {}}")
    faults = profile_faults(load_profile("mine", tmp_path / "baselines"), check_names)
    assert len(faults) == 3 and "sfd" in faults[-1]
