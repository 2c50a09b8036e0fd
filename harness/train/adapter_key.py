"""Under which key a trained adapter lies in the cache, and what may still be taken from under an older one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.model.identity import ADAPTER_CONFIG, ADAPTER_FILE, deciding_files, installed
from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.model.prompt import PromptRenderer
from harness.storage.cache import cache_folder, content_key
from harness.train.cpu_plan import planned_on_cpu, product_dtype
from harness.train.data import TrainingRow
from harness.train.evaluation import TrainingEvaluation
from harness.train.job import TrainingJob
from harness.train.trackers import TRACKER_FIELDS

FORM = 2
"""Raised when the same settings, rows and weights can make another adapter, because the training itself has changed."""
KERNELS = 2
"""Raised when what `batch_plan: auto` computes with on a GPU rounds otherwise than before."""
KERNELS_CPU = 1
"""The same for a CPU."""
RECORD = "training.json"
"""Stands in an adapter's folder when its training is over."""

_OLD_WORDS = {"activation_checkpointing": "gradient_checkpointing"}
"""Settings that have another name since adapters were first stored: one adapter, whichever word its file uses."""
_PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
_PACKAGES_OF_FORM_1 = ("torch", "transformers", "trl", "peft", "bitsandbytes")
_PLAIN_LORA = {
    *("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "task_type"),
    *("use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern"),
}
"""Fields of LoraConfig that leave the base alone; with others it may have been what an earlier training left of it."""


def adapter_key(
    loaded: LoadedModel,
    renderer: PromptRenderer,
    training: Training,
    rows: Sequence[TrainingRow],
    evaluation: TrainingEvaluation | None = None,
) -> str:
    """Return the content key of the adapter that this training makes: never a name."""
    content = _content(loaded.weights.sha256, loaded, renderer, training, rows, evaluation)
    packages: dict[str, str | None] = {name: version(name) for name in _PACKAGES}
    if training.batch_plan == "auto":
        packages["liger-kernel"] = installed("liger-kernel")
        content["kernels"] = KERNELS
    if planned_on_cpu(training, loaded):
        content["cpu"] = {"kernels": KERNELS_CPU, "products": product_dtype(training)}
    return content_key(content | {"form": FORM, "packages": packages})


def adapter_place(job: TrainingJob, rows: Sequence[TrainingRow], tell: Callable[[str], None]) -> Path:
    """Return where the adapter of this training lies, or will: under the key of old, if it certainly lies there.

    Args:
        job: The training.
        rows: What it learns from.
        tell: Called with a line where something lies there that may be another adapter.
    """
    asked = (job.loaded, job.renderer, job.training, rows, job.evaluation)
    folder = cache_folder("adapters") / adapter_key(*asked)[:32]
    earlier = None if (folder / RECORD).is_file() else adapter_of_form_1(*asked)
    if earlier is None:
        return folder
    if is_same_training(earlier, job.loaded, job.training):
        return earlier
    tell("an adapter of these settings is there, but it may be of another config or tokenizer: trained anew")
    return folder


def finished_adapter(job: TrainingJob, rows: Sequence[TrainingRow]) -> Path | None:
    """Return the folder of the adapter that this training has made before; None where it is to be trained."""
    folder = adapter_place(job, rows, lambda _: None)
    return folder if (folder / RECORD).is_file() else None


def adapter_of_form_1(
    loaded: LoadedModel,
    renderer: PromptRenderer,
    training: Training,
    rows: Sequence[TrainingRow],
    evaluation: TrainingEvaluation | None = None,
) -> Path | None:
    """Return the folder of this training's finished adapter under the key of old, or None without one.

    That key covered the base's tensors and neither its configuration nor its tokenizer: see `is_same_training`.
    """
    hashes = loaded.weights.hashes
    if hashes is None or training.batch_plan == "auto":  # its kernels are others today
        return None
    content = _content(hashes.tensors, loaded, renderer, training, rows, evaluation)
    content["packages"] = {name: version(name) for name in _PACKAGES_OF_FORM_1}
    if evaluation:
        identity = {name: value for name, value in evaluation.identity.items() if name != "answers"}
        content["watch"] = evaluation.cache_key_fields() | {"look": identity}
    folder = cache_folder("adapters") / content_key(content)[:32]
    return folder if (folder / RECORD).is_file() and (folder / ADAPTER_FILE).is_file() else None


def is_same_training(folder: Path, loaded: LoadedModel, training: Training) -> bool:
    """Return whether an adapter under the key of old was certainly trained on the base as it is now.

    It was, where PEFT noted the same folder as its base, no file there has changed since the training ended, and the
    training is of a kind that leaves the base alone. Of weights converted from a package the folder's name says what
    is in it, so that a cache may have been moved.
    """
    if not training.lora.keys() <= _PLAIN_LORA:
        return False
    try:
        ended = (folder / RECORD).stat().st_mtime
        noted = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
        base = loaded.weights.folder
        converted = loaded.source is not None and loaded.source.gguf is not None
        if converted:
            changed = max(path.stat().st_mtime for path in deciding_files(base))
            return Path(noted).name == base.name and changed <= ended
        files = [base, *deciding_files(base)]
        changed = max(max(path.stat().st_ctime, path.lstat().st_ctime) for path in files)
        return Path(noted).resolve() == base.resolve() and changed <= ended
    except (OSError, ValueError, KeyError, TypeError):
        return False


def trained_tokens(record: Mapping[str, Any], training: Training, rows: int) -> int | None:
    """Return how many tokens a training learnt from, padding left out, over all of its epochs; None if nobody knows.

    Records of form 1 hold those of one epoch, unless the trainer itself was told to count. How many epochs it had
    follows from the steps, but for packed rows only where the training went to the end that its epochs set.
    """
    tokens = int(record["tokens"])
    if record.get("form", 1) > 1 or training.sft.get("include_num_input_tokens_seen", "no") not in ("no", False):
        return tokens
    layout, sft = record.get("layout") or {}, training.sft
    packed = bool(sft.get("packing"))
    if packed and (int(str(sft.get("max_steps", -1))) > 0 or (record.get("watch") or {}).get("stopped_early")):
        return None
    each = layout.get("micro_batch", 1) * layout.get("accumulation", 1) * layout.get("processes", 1)
    epochs = float(str(sft.get("num_train_epochs", 3))) if packed else record["steps"] * each / rows
    return round(tokens * epochs)


def _content(
    weights: str,
    loaded: LoadedModel,
    renderer: PromptRenderer,
    training: Training,
    rows: Sequence[TrainingRow],
    evaluation: TrainingEvaluation | None,
) -> dict[str, object]:
    sometimes: dict[str, object] = {}  # absent where it says nothing, so that adapters from before it are still found
    if training.batch_plan == "auto":
        sometimes["fit"] = "card"  # its kernels round otherwise; keys keep the words of before
    if evaluation:
        sometimes["watch"] = evaluation.cache_key_fields()
    return sometimes | {
        "weights": weights,
        "precision": asdict(loaded.precision),
        "template": renderer.sha,
        "seed": training.seed,
        "sft": {_OLD_WORDS.get(name, name): told for name, told in training.sft.items() if name not in TRACKER_FIELDS},
        "lora": training.lora,
        "rows": [[row.input_ids, row.labels] for row in rows],
    }
