from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.model import profile as profiles
from harness.model.profile import load_profile, model_names, profile_names, resolve_model
from tests.conftest import ROOT

PROFILES = ("llama-2-7b", "smollm2-135m")


@pytest.fixture
def baselines(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "baselines", tmp_path / "baselines")
    return tmp_path / "baselines"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_base_few_shot_and_tuned(name: str) -> None:
    profile = load_profile(name, ROOT / "baselines")
    assert profile.why == "chosen by --profile"
    kinds = {model: resolve_model(model, profile, ROOT / "baselines").kind for model in model_names(profile)}
    assert kinds["base"] == "base"
    assert kinds["base-fewshot"] == "few-shot"
    assert kinds["tuned"] == "tuned"


@pytest.mark.parametrize("name", PROFILES)
def test_the_settings_of_a_profile_are_accepted(name: str, tmp_path: Path) -> None:
    from harness.model.load import Precision
    from harness.pipeline.dev_evaluation import check_metrics
    from harness.train.settings import check_names, lora_config, sft_config

    profile = load_profile(name, ROOT / "baselines")
    models = [resolve_model(model, profile, ROOT / "baselines").file.train for model in model_names(profile)]
    trainings = [training for training in models if training is not None]
    for training in trainings:
        check_names(training.sft, training.lora)
        sft_config(training.sft, Precision("none", "float32", "cpu"), 0, str(tmp_path))
        lora_config(training.lora)
    evaluations = [training.evaluation for training in trainings if training.evaluation]
    assert evaluations
    for evaluation in evaluations:
        check_metrics(evaluation)


@pytest.mark.parametrize(("gpu", "name"), [(True, "llama-2-7b"), (False, "smollm2-135m")])
def test_the_machine_picks_the_profile_and_says_why(monkeypatch: pytest.MonkeyPatch, gpu: bool, name: str) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    profile = load_profile(None, ROOT / "baselines")
    assert profile.name == name
    assert "CUDA GPU was found" in profile.why


def test_names_that_mean_nothing_are_answered_with_the_nearest(baselines: Path) -> None:
    assert profile_names(baselines) == list(PROFILES)
    with pytest.raises(UsageError, match=r"no profile 'smollm2' \(did you mean 'smollm2-135m'\?\)"):
        load_profile("smollm2", baselines)
    profile = load_profile("smollm2-135m", baselines)
    with pytest.raises(UsageError, match=r"profile smollm2-135m has no model 'tunde' \(did you mean 'tuned'\?\)"):
        resolve_model("tunde", profile, baselines)
    with pytest.raises(UsageError, match="has no model 'profile'"):
        resolve_model("profile", profile, baselines)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("profile.yaml", "titel: x\n", r"profile\.yaml: (title: Field required|there is no key 'titel')"),
        ("tuned.yaml", "trian: {}\n", r"tuned\.yaml: there is no key 'trian' \(did you mean 'train'\?\)"),
        ("tuned.yaml", "train: {sed: 1}\n", r"tuned\.yaml: there is no key 'train\.sed' \(did you mean 'seed'\?\)"),
        ("tuned.yaml", "train: {}\nadapter: x\n", r"tuned\.yaml: give either `train` or `adapter`"),
        ("tuned.yaml", "few_shot: -1\n", r"tuned\.yaml: few_shot: Input should be greater"),
        ("tuned.yaml", "train: {\n", r"tuned\.yaml, line \d is not valid YAML"),
    ],
)
def test_a_wrong_file_is_one_line(baselines: Path, file: str, text: str, message: str) -> None:
    (baselines / "smollm2-135m" / file).write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        resolve_model("tuned", load_profile("smollm2-135m", baselines), baselines)
    assert "\n" not in str(refused.value)


def test_a_misspelt_key_of_a_profile_is_answered_with_the_nearest(baselines: Path) -> None:
    file = baselines / "smollm2-135m" / "profile.yaml"
    file.write_text(file.read_text().replace("batch_size:", "batchsize:"))
    with pytest.raises(UsageError, match=r"there is no key 'batchsize' \(did you mean 'batch_size'\?\)"):
        load_profile("smollm2-135m", baselines)


def test_weights_come_from_exactly_one_place(baselines: Path) -> None:
    file = baselines / "smollm2-135m" / "profile.yaml"
    file.write_text(file.read_text().replace("weights:\n", "weights:\n  folder: here\n"))
    with pytest.raises(UsageError, match="exactly one of `gguf`, `hub` and `folder`"):
        load_profile("smollm2-135m", baselines)


def test_models_of_other_profiles_and_folders_can_be_named(
    baselines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "BASELINES_FOLDER", baselines)
    profile = load_profile("smollm2-135m", baselines)
    other = resolve_model("llama-2-7b/base", profile, baselines)
    assert (other.name, other.profile.name) == ("llama-2-7b/base", "llama-2-7b")

    adapter = tmp_path / "mine"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    with pytest.raises(UsageError, match=r"has no adapter_model\.safetensors"):
        resolve_model(str(adapter), profile, baselines)
    (adapter / "adapter_model.safetensors").touch()
    spec = resolve_model(str(adapter), profile, baselines)
    assert (spec.name, spec.kind, spec.file.adapter) == ("mine", "tuned", str(adapter))
    assert "made for some/base" in spec.file.description


@pytest.mark.parametrize("chat", [True, False])
def test_a_local_model_is_asked_by_its_own_chat_template_if_it_has_one(tmp_path: Path, chat: bool) -> None:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if chat:
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    spec = resolve_model(str(folder), load_profile("smollm2-135m", ROOT / "baselines"), ROOT / "baselines")
    assert (spec.name, spec.kind, spec.profile.file.chat) == ("local", "base", chat)
    assert spec.profile.file.weights.folder == str(folder)
