"""What decides a model's or an adapter's text, hashed by content: tensors, configuration, tokenizer and templates.

Everything in a folder counts unless it is known not to: a key that says too much costs an answer that is made again,
one that says too little gives an old answer for a new model.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError
from harness.storage.cache import content_key, file_sha256, files_sha256, remembered_sha256
from harness.storage.json_file import read_object

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
TEMPLATES_FOLDER = "additional_chat_templates"
"""The one folder inside a model's that transformers reads: named chat templates."""
WEIGHT_SUFFIXES = (".safetensors", ".bin")
"""Of weight files, in the order in which transformers prefers them."""

IGNORED_KEYS: dict[str, dict[str, str]] = {
    "config.json": {"_name_or_path": "transformers puts the path that it loads from in its place"},
    "tokenizer_config.json": {"name_or_path": "transformers puts the path that it loads from in its place"},
    ADAPTER_CONFIG: {
        "base_model_name_or_path": "where the base lay for who trained it; the base is given by the profile"
    },
}
"""Keys that decide nothing, by file, each with the reason. `transformers_version` is none of them: transformers repairs
a Mistral tokenizer or leaves it, as that says."""

_UNORDERED = {ADAPTER_CONFIG: ("target_modules", "exclude_modules", "modules_to_save")}
"""Lists that PEFT asks only for what is in them, and writes in the random order of a set."""

_CONFIGS = ("config.json", "generation_config.json", "*.index.json")

_BESIDE = (
    # papers, pictures and code, which is never run without trust_remote_code
    *("readme*", "license*", "licence*", "notice*", "use_policy*", "requirements*.txt", "*.md", "*.pdf", "*.html"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.py", "*.ipynb", ".*", "*.lock", "*.log", "*.csv"),
    # tensors: those that are loaded are hashed by themselves
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.ckpt", "*.npz"),
    # records of trainings, transformers' and ours
    *("trainer_state.json", "*_results.json", "training.json", "merged.json", ADAPTER_CONFIG),
)
"""Files of a folder that decide no text."""


@dataclass(frozen=True, slots=True)
class ContentHashes:
    """SHA-256 of the parts of a model's or an adapter's folder."""

    tensors: str
    config: str
    tokenizer: str | None
    """Tokenizer, special tokens and chat templates; None for an adapter that brings none of its own."""

    @property
    def identity(self) -> str:
        """One SHA-256 over all of them: equal exactly when everything that decides is equal."""
        return content_key([self.tensors, self.config, self.tokenizer])


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers loads a model's tensors from: safetensors where there are any, else others."""
    for suffix in WEIGHT_SUFFIXES:
        found = sorted(path for path in folder.iterdir() if path.suffix == suffix and path.name != ADAPTER_FILE)
        if found:
            return found
    return []


def model_hashes(folder: Path) -> ContentHashes:
    """Return the hashes of a folder with a whole model.

    Raises:
        HarnessError: it holds no weights, or a file in it is not valid JSON.
    """
    weights = weight_files(folder)
    if not weights:
        raise HarnessError(f"{folder} holds no weights", "it needs *.safetensors files")
    names = _deciding_files(folder)
    config = [name for name in names if _matches(name, _CONFIGS)]
    tokenizer = _contents(folder, (name for name in names if name not in config))
    if (folder / ADAPTER_CONFIG).is_file():  # transformers then puts the adapter beside it on the model, too
        tokenizer = content_key([tokenizer, _contents(folder, (ADAPTER_CONFIG,)), _adapter_tensors(folder)])
    return ContentHashes(files_sha256(weights), _contents(folder, config), tokenizer)


def adapter_hashes(folder: Path) -> ContentHashes:
    """Return the hashes of a folder with a PEFT adapter.

    Raises:
        HarnessError: it holds no adapter, or a file in it is not valid JSON.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_FILE):
        if not (folder / name).is_file():
            raise HarnessError(f"{folder} holds no adapter: {name} is missing", "check the path")
    names = _deciding_files(folder)
    tokenizer = _contents(folder, names) if names else None
    return ContentHashes(_adapter_tensors(folder), _contents(folder, (ADAPTER_CONFIG,)), tokenizer)


def adapter_record(folder: Path | None) -> dict[str, str | None]:
    """Return what the manifest says of an adapter's content; null without one."""
    found = adapter_hashes(folder) if folder is not None else None
    return {
        "adapter_sha256": found.tensors if found else None,
        "adapter_config_sha256": found.config if found else None,
        "adapter_tokenizer_sha256": found.tokenizer if found else None,
    }


def deciding_files(folder: Path) -> list[Path]:
    """Return every file of a model's folder that its identity is made of."""
    return [*weight_files(folder), *(folder / name for name in _deciding_files(folder))]


def deciding_packages() -> dict[str, str | None]:
    """Return the versions of the libraries that a text passes through on this machine; None where one is missing.

    Model code, kernels and tokenizers change with them, and greedy decoding turns a last digit into another word.
    """
    return {name: installed(name) for name in ("torch", "transformers", "tokenizers", "peft", "bitsandbytes")}


def installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _deciding_files(folder: Path) -> list[str]:
    """Return the names of the files that are read beside tensors and adapter, relative to the folder."""
    own = [path.name for path in folder.iterdir() if path.is_file() and not _matches(path.name, _BESIDE)]
    templates = [f"{TEMPLATES_FOLDER}/{path.name}" for path in (folder / TEMPLATES_FOLDER).glob("*.jinja")]
    return sorted([*own, *templates])


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def _contents(folder: Path, names: Iterable[str]) -> str:
    return content_key([[name, _content(folder / name)] for name in names])


def _content(path: Path) -> str | list[list[str]]:
    """Return what stands for a file: small settings by their meaning, everything else by its bytes."""
    if path.name not in ("config.json", "generation_config.json", "tokenizer_config.json", ADAPTER_CONFIG):
        return remembered_sha256(path) if path.name == "tokenizer.json" else file_sha256(path)
    ignored, unordered = IGNORED_KEYS.get(path.name, {}), _UNORDERED.get(path.name, ())
    return [
        # the order inside a value is kept: PEFT takes the first of several patterns that match
        [key, json.dumps(sorted(value, key=str) if key in unordered and isinstance(value, list) else value)]
        for key, value in sorted(read_object(path).items())
        if key not in ignored
    ]


def _adapter_tensors(folder: Path) -> str:
    file = folder / ADAPTER_FILE
    return remembered_sha256(file) if file.is_file() else ""
