"""Finds and loads profiles and their model files, and resolves the words after `--models`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.profile.schema import ModelFile, ProfileFile, Quantization, Weights
from harness.suite.load import validate
from harness.suite.rows import read_yaml
from harness.types import CONTROL_NAMES

BASELINES_FOLDER = Path("baselines")
EMBEDDED_PROFILE = "smollm2-135m"
GPU_PROFILE = "llama-2-7b"
MERGED_RECORD = "merged.json"
"""Stands in a folder with a merged model: it holds 16-bit weights, and quantising them anew would be another model."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile, and why it was chosen."""

    name: str
    folder: Path
    file: ProfileFile
    why: str


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model to be measured: its name in the report, its profile and its file."""

    name: str
    profile: Profile
    file: ModelFile
    quantization: Quantization | None = None
    """How its weights are held whatever profile and command line say; None where those decide."""

    @property
    def kind(self) -> str:
        """`served`, `file`, `base`, `few-shot` or `tuned`, as in the manifest."""
        if self.file.backend in ("openai", "file"):
            return "served" if self.file.openai else "file"
        if self.file.train or self.file.adapter:
            return "tuned"
        return "few-shot" if self.file.few_shot else "base"


def base_weights(profile: Profile) -> Weights:
    """Return where the profile's weights come from.

    Raises:
        UsageError: it names none, so that all its models must be elsewhere.
    """
    if profile.file.weights is None:
        raise UsageError(f"profile {profile.name} has no `weights`", "its model files need `openai:` or `file:`")
    return profile.file.weights


def weights_source(spec: ModelSpec) -> str | None:
    """Return where a model's weights come from in words; None where that is not known here."""
    return str(spec.profile.file.weights) if spec.file.backend in ("transformers", "vllm") else None


def profile_names(folder: Path = BASELINES_FOLDER) -> list[str]:
    """Return the names of all profiles below `folder`."""
    return [file.parent.name for file in sorted(folder.glob("*/profile.yaml"))]


def load_profile(name: str | None, folder: Path = BASELINES_FOLDER) -> Profile:
    """Load the profile of that name; for None, the one that suits this machine.

    Raises:
        UsageError: there is no such profile, or its file is wrong.
    """
    why = "chosen by --profile"
    if name is None:
        name, why = _suitable_profile()
    path = folder / name / "profile.yaml"
    if not path.is_file():
        raise UsageError(f"there is no profile '{name}'", did_you_mean(name, profile_names(folder)))
    return Profile(name, path.parent, validate(ProfileFile, read_yaml(path) or {}, str(path)), why)


def _suitable_profile() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        return GPU_PROFILE, f"a CUDA GPU was found: {torch.cuda.get_device_name()}"
    return EMBEDDED_PROFILE, "no CUDA GPU was found, so the embedded model is used"


def resolve_model(word: str, profile: Profile, folder: Path = BASELINES_FOLDER) -> ModelSpec:
    """Resolve one word of `--models`: a model file of the profile, `profile/model`, or a local model or adapter folder.

    Raises:
        UsageError: the word names nothing; the hint names the nearest.
    """
    path = profile.folder / f"{word}.yaml"
    if path.is_file() and word != "profile":
        return ModelSpec(word, profile, validate(ModelFile, read_yaml(path) or {}, str(path)))
    if "/" in word and (folder / f"{word}.yaml").is_file():
        other, _, model = word.rpartition("/")
        spec = resolve_model(model, load_profile(other, folder), folder)
        return replace(spec, name=word)
    local = Path(word)
    if (local / "adapter_config.json").is_file():
        return _local_adapter(local, profile)
    if (local / "config.json").is_file():
        weights = Weights(folder=str(local.resolve()))
        file = profile.file.model_copy(update={"weights": weights, "chat": _has_chat_template(local)})
        described = ModelFile(description=f"the model in {local}")
        merged: Quantization | None = "none" if (local / MERGED_RECORD).is_file() else None
        return ModelSpec(local.resolve().name, replace(profile, file=file), described, merged)
    known = [*model_names(profile), *CONTROL_NAMES]
    raise UsageError(f"profile {profile.name} has no model '{word}'", did_you_mean(word, known))


def model_names(profile: Profile) -> list[str]:
    """Return the names of the profile's model files."""
    return [file.stem for file in sorted(profile.folder.glob("*.yaml")) if file.stem != "profile"]


def _local_adapter(folder: Path, profile: Profile) -> ModelSpec:
    if not (folder / "adapter_model.safetensors").is_file():
        raise UsageError(f"{folder} has no adapter_model.safetensors", "save the adapter with safe_serialization=True")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    described = f"the adapter in {folder}, made for {config.get('base_model_name_or_path')}"
    return ModelSpec(folder.name, profile, ModelFile(description=described, adapter=str(folder.resolve())))


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
