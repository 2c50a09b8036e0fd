"""Brings base weights onto this machine as a folder of safetensors with their tokenizer, and hashes them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.model.identity import ContentHashes, model_hashes
from harness.model.profile_schema import HubWeights, PackagedGguf, Weights
from harness.storage.atomic import disk_faults_named, finished_folder
from harness.storage.cache import cache_folder, file_sha256, remembered_sha256
from harness.storage.hub import reason, refusal, without_retry_warnings
from harness.storage.lock import one_at_a_time
from harness.storage.variables import folder_variable

CONVERTED_FORM = 1
"""Raised when the conversion of packaged weights changes, so that the cache is made anew."""
GGUF_FORM = 2
"""The same for any other GGUF file."""


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """Base weights on disk."""

    folder: Path
    sha256: str
    """Over everything in the folder that decides what the model writes (`harness.model.identity`)."""
    hashes: ContentHashes | None = None
    """The same part by part; None where a machine was only told the whole."""

    def record(self) -> dict[str, str | None]:
        """Return what the manifest says of their content."""
        return {
            "weights_sha256": self.hashes.tensors if self.hashes else self.sha256,
            "config_sha256": self.hashes.config if self.hashes else None,
            "tokenizer_sha256": self.hashes.tokenizer if self.hashes else None,
        }


def fetch_weights(weights: Weights) -> LocalWeights:
    """Return the weights as a local folder; converted or downloaded once, then from the cache.

    Raises:
        HarnessError: the package, the hub or the folder does not have them.
    """
    if weights.gguf is not None:
        folder = _convert_packaged(weights.gguf)
    elif weights.hub is not None:
        folder = _download(weights.hub)
    else:
        folder = Path(str(weights.folder))
        packed = gguf_file(folder)
        if packed is not None:
            folder = _converted(packed, file_sha256(packed), GGUF_FORM)
        elif not (folder / "config.json").is_file():
            raise HarnessError(f"{folder} holds no model: config.json is missing", "check the path")
    if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        raise HarnessError(
            f"{folder} holds its weights as pickles, which can run code", "save them with safe_serialization=True"
        )
    hashes = model_hashes(folder)
    return LocalWeights(folder, hashes.identity, hashes)


def packaged_file(gguf: PackagedGguf) -> Path:
    """Return the path of a package's GGUF file: the one that HARNESS_EMBEDDED_MODEL names, the package's, the cache's.

    The package is not imported.

    Raises:
        HarnessError: it is nowhere, or only another file than the profile names.
    """
    found = [path for path in _packaged_places(gguf) if path.is_file()]
    for path in found:
        if remembered_sha256(path) == gguf.sha256:
            return path
    if found:
        raise HarnessError(f"{found[0]} is not the file that the profile names", "run `html-harness setup`")
    raise HarnessError(f"{gguf.file} of {gguf.distribution} is not on this machine", "run `html-harness setup`")


def cached_gguf(gguf: PackagedGguf) -> Path:
    """Return where `html-harness setup` puts a package's GGUF file."""
    return cache_folder("packaged") / gguf.sha256[:16] / gguf.file


def _packaged_places(gguf: PackagedGguf) -> Iterator[Path]:
    named = folder_variable("HARNESS_EMBEDDED_MODEL")
    if named is not None:
        yield named
    spec = importlib.util.find_spec(gguf.package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield Path(folder) / gguf.file
    yield cached_gguf(gguf)


def _convert_packaged(gguf: PackagedGguf) -> Path:
    """A model loaded from GGUF can be neither trained nor quantised nor saved: it is rebuilt as float32 once."""
    return _converted(packaged_file(gguf), gguf.sha256, CONVERTED_FORM)


def gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a path names, itself or as a folder with no other model; None where there is none.

    Raises:
        UsageError: the folder holds several.
    """
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise UsageError(f"{path} holds {len(files)} GGUF files", f"name one of them, such as {files[0]}")
    return files[0] if files else None


def _converted(source: Path, sha256: str, form: int) -> Path:
    folder = cache_folder("weights") / f"{sha256[:16]}-{form}"
    if folder.is_dir():
        return folder
    with one_at_a_time(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():  # else another process has converted it meanwhile
            _convert(source, folder)
    return folder


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Meanwhile a GGUF file is taken apart once.

    transformers does so anew for config, tokenizer and tensors, and makes the same table of names for every module.
    """
    import gguf

    remembered = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in remembered.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in remembered.items():
            setattr(gguf, name, function)


def _convert(source: Path, folder: Path) -> None:
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from harness.model.checkpoint import one_line, some
    from harness.model.gguf_unread import HINT, UnreadError, check_taken, set_rotary, set_window

    broken = one_line(f"{source} cannot be converted", "it is damaged, or transformers does not know its architecture")
    with disk_faults_named(folder.parent), broken, _read_once(), finished_folder(folder) as target:
        place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
        loaded, info = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, output_loading_info=True)
        if info["missing_keys"]:
            raise HarnessError(f"{source} lacks weights: {some(info['missing_keys'])}", "fetch a file that is whole")
        reader = gguf.GGUFReader(source)
        config = loaded.config
        try:
            set_rotary(config, reader)
            set_window(config, reader)
            check_taken(loaded, reader)
        except UnreadError as error:
            raise HarnessError(f"{source} cannot be converted: {error}", HINT) from None
        del config.quantization_config
        with torch.device("meta"):  # where no weights are drawn that are overwritten at once
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(loaded.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = loaded.generation_config
        plain.save_pretrained(target)
        AutoTokenizer.from_pretrained(**place).save_pretrained(target)


_WEIGHTS = ("*.safetensors",)
_SETTINGS = ("*.json", "*.model", "*.jinja", "*.txt")
"""Everything else that a model needs. No pickles: they can run code."""


def fetch_settings(hub: HubWeights) -> Path:
    """Return a folder with the small files of a model on the hub: its configs, tokenizer and chat template.

    Raises:
        HarnessError: the hub does not hand them out.
    """
    return _snapshot(hub, _SETTINGS)


def hub_card(hub: HubWeights) -> dict[str, object]:
    """Return what the hub says of a model: `license` and `gated`; empty where it is out of reach."""
    from huggingface_hub import HfApi

    try:
        with without_retry_warnings():
            found = HfApi().model_info(hub.path, revision=hub.revision)
    except Exception:  # the client raises many kinds; fetching says what is wrong
        return {}
    card = found.card_data
    names = [getattr(card, name, None) for name in ("license_name", "license")]
    return {"license": next((name for name in names if name), None), "gated": found.gated}


def _download(hub: HubWeights) -> Path:
    return _snapshot(hub, (*_SETTINGS, *_WEIGHTS))


def _snapshot(hub: HubWeights, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with without_retry_warnings():
            if not any(name.endswith(".safetensors") for name in _hub_files(hub)):
                raise HarnessError(f"{hub.path} has no *.safetensors files on the hub", "take weights that have them")
            return Path(snapshot_download(hub.path, revision=hub.revision, allow_patterns=list(patterns)))
    except HarnessError:
        raise
    except Exception as error:  # the hub client raises many kinds; all of them mean "no weights"
        cached = _cached_snapshot(hub, list(patterns))
        if cached is not None:
            return cached
        raise refusal(error, hub.path) or HarnessError(
            f"the weights {hub.path} could not be loaded from the hub: {reason(error)}",
            "check the network, or use `--profile smollm2-135m`, or `--weights FOLDER` with weights on disk",
        ) from error


def _hub_files(hub: HubWeights) -> list[str]:
    from huggingface_hub import HfApi

    return list(HfApi().list_repo_files(hub.path, revision=hub.revision))


def _cached_snapshot(hub: HubWeights, patterns: list[str]) -> Path | None:
    """Weights fetched before are used when the hub is out of reach."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub.path, revision=hub.revision, allow_patterns=patterns, local_files_only=True))
    except Exception:  # not in the cache, whatever the client calls that
        return None


def describe(weights: Weights) -> dict[str, object]:
    """Return the weights' source as it stands in the manifest."""
    return weights.model_dump(exclude_none=True)
