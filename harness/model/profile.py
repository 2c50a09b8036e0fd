"""Finds and loads profiles and their model files, and resolves the words after `--models`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.model.identity import ADAPTER_CONFIG, ADAPTER_FILE
from harness.model.profile_schema import ModelFile, ProfileFile, Weights
from harness.model.weights import gguf_file
from harness.model.weights_facts import brings_chat_template, is_hub_id, weights_named
from harness.storage.builtin import Found, find_all
from harness.storage.json_file import read_object
from harness.storage.yaml import read_yaml, validate
from harness.types import CONTROL_NAMES, Quantization

BASELINES_FOLDER = Path("baselines")
EMBEDDED_PROFILE = "smollm2-135m"
GPU_PROFILE = "llama-2-7b"
MERGED_RECORD = "merged.json"
"""Stands in a folder with a merged model: it holds 16-bit weights, and quantising them anew would be another model."""


_LONGEST_NAME = 100
_BETWEEN_NAMES = re.compile(r"[:#\x00-\x1f\x7f]")
"""`first:second` is a pair of models, `model#seed1` one of several trainings."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile, and why it was chosen."""

    name: str
    folder: Path
    file: ProfileFile
    why: str
    models: Mapping[str, ModelFile] = field(default_factory=dict)
    """Model files that no folder holds."""


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


def _profiles(folder: Path | None) -> dict[str, Found]:
    return find_all(folder or BASELINES_FOLDER, "profile.yaml", alone=folder is not None)


def profile_names(folder: Path | None = None) -> list[str]:
    """Return all profiles' names: below `folder`; for None those of the working folder and the built-in ones."""
    return list(_profiles(folder))


def load_profile(name: str | None, folder: Path | None = None) -> Profile:
    """Load the profile of that name, looked for as by `profile_names`; for None, the one that suits this machine.

    Raises:
        UsageError: there is no such profile, or its file is wrong.
    """
    why = "chosen by --profile"
    if name is None:
        name, why = _suitable_profile()
    profiles = _profiles(folder)
    found = profiles.get(name)
    if found is None:
        raise UsageError(f"there is no profile '{name}'", did_you_mean(name, profiles))
    path = found.folder / "profile.yaml"
    why = f"{why}; {found.taken()}" if found.shadows else why
    return Profile(name, found.folder, validate(ProfileFile, read_yaml(path) or {}, str(path)), why)


def _suitable_profile() -> tuple[str, str]:
    import torch

    if torch.cuda.is_available():
        return GPU_PROFILE, f"a CUDA GPU was found: {torch.cuda.get_device_name()}"
    return EMBEDDED_PROFILE, "no CUDA GPU was found, so the embedded model is used"


def resolve_model(word: str, profile: Profile, folder: Path | None = None) -> ModelSpec:
    """Resolve one word of `--models`: a model file of the profile, `profile/model`, or a model or adapter by itself.

    Raises:
        UsageError: the word names nothing; the hint names the nearest.
    """
    if _has_model(profile, word):
        return ModelSpec(word, profile, read_model_file(profile, word))
    if _of_other_profile(word, folder):
        other, _, model = word.rpartition("/")
        return replace(resolve_model(model, load_profile(other, folder), folder), name=word)
    local = Path(word)
    if (local / ADAPTER_CONFIG).is_file():
        return _local_adapter(local, profile)
    weights = _whole_model(word, folder)
    if weights is not None:
        file = profile.file.model_copy(update={"weights": weights, "chat": brings_chat_template(weights)})
        described = ModelFile(description=f"the model in {word}")
        merged: Quantization | None = "none" if (local / MERGED_RECORD).is_file() else None
        name = weights.name if weights.hub else local.absolute().name or weights.name  # a link keeps its own name
        return ModelSpec(name, replace(profile, file=file), described, merged)
    known = [*model_names(profile), *CONTROL_NAMES]
    raise UsageError(f"profile {profile.name} has no model '{word}'", did_you_mean(word, known))


def _of_other_profile(word: str, folder: Path | None) -> bool:
    """Return whether a word is `profile/model` of a profile that there is."""
    other, _, model = word.rpartition("/")
    named = _profiles(folder).get(other) if other else None
    return named is not None and model != "profile" and (named.folder / f"{model}.yaml").is_file()


def names_whole_model(word: str, baselines: Path | None = None) -> bool:
    """Return whether a word names a whole model by itself: its folder, a GGUF file, or OWNER/NAME on the hub."""
    return not _of_other_profile(word, baselines) and _whole_model(word, baselines) is not None


def _whole_model(word: str, baselines: Path | None) -> Weights | None:
    """Return the weights of a word that names a model's folder, a GGUF file, or OWNER/NAME on the hub."""
    path = Path(word)
    if (path / "config.json").is_file() or gguf_file(path) is not None:
        return weights_named(word)
    owner, slash, _ = word.partition("/")
    on_hub = slash and not path.exists() and owner not in profile_names(baselines) and is_hub_id(word)
    return weights_named(word) if on_hub else None


def model_names(profile: Profile) -> list[str]:
    """Return the names of the profile's model files."""
    if profile.models:
        return list(profile.models)
    return [file.stem for file in sorted(profile.folder.glob("*.yaml")) if file.stem != "profile"]


def read_model_file(profile: Profile, name: str) -> ModelFile:
    """Return one of the profile's model files.

    Raises:
        UsageError: it is missing or wrong.
    """
    if name in profile.models:
        return profile.models[name]
    path = profile.folder / f"{name}.yaml"
    return validate(ModelFile, read_yaml(path) or {}, str(path))


def _has_model(profile: Profile, name: str) -> bool:
    return name in profile.models or (
        not profile.models and name != "profile" and (profile.folder / f"{name}.yaml").is_file()
    )


def check_adapter(spec: ModelSpec) -> None:
    """Refuse a model file whose adapter is not there, before any work begins.

    Raises:
        UsageError: its folder holds none.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_FILE) if spec.file.adapter else ():
        if not (Path(str(spec.file.adapter)) / name).is_file():
            raise UsageError(f"{spec.file.adapter} holds no adapter: {name} is missing", "check the path")


def check_names(specs: Sequence[ModelSpec], words: Sequence[str], profile: Profile) -> None:
    """Refuse models whose rows could not be told apart: every model of a run is known by its name.

    Args:
        specs: The models of a run.
        words: What was asked for, controls included.
        profile: The run's profile.

    Raises:
        UsageError: a name is taken, or holds what the files of a run put between names.
    """
    for word in CONTROL_NAMES:
        if word in words and _has_model(profile, word):
            raise UsageError(
                f"'{word}' is a control, and profile {profile.name} has a model of that name", f"rename {word}.yaml"
            )
    taken = {_folded(name): f"the control '{name}'" for name in CONTROL_NAMES}
    for spec in specs:
        if not spec.name or len(spec.name) > _LONGEST_NAME or _BETWEEN_NAMES.search(spec.name):
            raise UsageError(
                f"a model cannot be called {spec.name!r:.120}",
                f"names have no ':' or '#' and at most {_LONGEST_NAME} letters: rename the folder or file",
            )
        other = taken.get(_folded(spec.name))
        if other == f"the model '{spec.name}'":
            raise UsageError(f"two models are called '{spec.name}'", "rename one of the folders")
        if other is not None:
            raise UsageError(f"a model is called '{spec.name}', like {other}", "rename its folder or file")
        taken[_folded(spec.name)] = f"the model '{spec.name}'"
        if spec.name not in words and _has_model(profile, spec.name):
            kind = resolve_model(spec.name, profile).kind
            if kind != spec.kind:
                raise UsageError(
                    f"a {spec.kind} model is called '{spec.name}', which is the {kind} model of profile {profile.name}",
                    "rename its folder",
                )


def _folded(name: str) -> str:
    """Return what two names share that some file systems and every reader take for one."""
    return unicodedata.normalize("NFKC", name).casefold()


def _local_adapter(folder: Path, profile: Profile) -> ModelSpec:
    if not (folder / ADAPTER_FILE).is_file():
        raise UsageError(f"{folder} has no {ADAPTER_FILE}", "save the adapter with safe_serialization=True")
    base = read_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    described = f"the adapter in {folder}, made for {base}"
    name = folder.absolute().name or folder.resolve().name
    return ModelSpec(name, profile, ModelFile(description=described, adapter=str(folder.resolve())))
