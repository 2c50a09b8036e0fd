"""Reads a model folder with transformers and refuses, in one line, whatever did not load as it was meant."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.storage.json_file import read_object

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NAMED = 3
"""So many tensors are named where a fault has more."""
_CHECK_FOLDER = "check that the folder is whole and of one model"
_WIDER = "its weights are damaged, or need a wider dtype"
_TOKENS = ("eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id")


@contextlib.contextmanager
def one_line(what: str, hint: str) -> Iterator[None]:
    """Turn whatever libraries raise inside the block into one line: they raise every kind over a broken file.

    Raises:
        HarnessError: `what`, and the first line of the library's reason. Memory that runs out stays what it is.
    """
    import torch

    try:
        yield
    except (HarnessError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise HarnessError(f"{what}: {first_line(error)}", _instead(error) or hint) from error


def first_line(error: BaseException, width: int = 160) -> str:
    """Return what an error says in one line of at most `width` characters, its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else ""
    if isinstance(error, KeyError):
        said = f"{said} is not there"
    if len(said.split()) < 2:  # a bare word explains nothing
        said = f"{type(error).__name__} {said}".strip()
    return said if len(said) <= width else f"{said[: width - 1]}…"


def _instead(error: BaseException) -> str:
    """Return a hint for reasons that are none of the folder's."""
    said = str(error)
    if isinstance(error, ImportError):
        return "install the package that it names"
    if "trust_remote_code" in said:
        return "it needs program code of its own, which the harness does not run: take a model that transformers knows"
    if "Unrecognized model" in said or "Unrecognized configuration class" in said or "does not recognize" in said:
        return "the installed transformers has no such causal language model"
    return ""


def check_folder(folder: Path, quantization: str = "none") -> None:
    """Check the small files of a model folder, before its weights are read.

    Raises:
        UsageError: a file is broken, or asks for what the harness does not do.
    """
    config = read_object(folder / "config.json")
    if (folder / "generation_config.json").exists():
        generation = read_object(folder / "generation_config.json")  # transformers would go on without a broken one
        for name in _TOKENS:
            named = generation.get(name)
            ids = named if isinstance(named, list) else [named]
            if named is not None and any(type(number) is not int for number in ids):
                file = folder / "generation_config.json"
                raise UsageError(f"{file} names no token by {name} {named!r:.40}", _CHECK_FOLDER)
    if (folder / "adapter_config.json").exists():
        raise UsageError(
            f"{folder} holds an adapter beside a model", "name the two by folders of their own: they are two models"
        )
    whole, parts = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.exists() and parts.exists():  # some tools write an index of the one file, too
        places = read_object(parts).get("weight_map")
        names = set(places.values()) if isinstance(places, dict) else set()
        if any(isinstance(name, str) and name != whole.name and (folder / name).is_file() for name in names):
            raise UsageError(
                f"{folder} holds the weights twice: in {whole.name} and as {parts.name} names them", "keep one"
            )
    written = config.get("quantization_config")
    if written and quantization != "none":
        kind = written.get("quant_method") if isinstance(written, dict) else written
        raise UsageError(
            f"the weights in {folder} are quantised by {kind} already", "set `quantization: none` for them"
        )
    context = config.get("max_position_embeddings")
    if context is not None and (type(context) is not int or context <= 0):
        raise UsageError(f"{folder / 'config.json'} has max_position_embeddings {context!r:.40}", _CHECK_FOLDER)


def load_checkpoint(
    folder: Path, settings: Mapping[str, object], prepare: Callable[[PreTrainedModel], None] = lambda _: None
) -> PreTrainedModel:
    """Return the model of a folder, every weight of it from the folder, or refuse it.

    Attention is torch's `scaled_dot_product_attention` where the model has it, else its own.

    Args:
        folder: config.json and *.safetensors.
        settings: Of `from_pretrained`: dtype, device, quantisation.
        prepare: Called with the model before it computes.

    Raises:
        HarnessError: it does not load, weights are missing, left over, of another shape or not finite, or it does not
            compute.
    """
    from transformers import AutoModelForCausalLM

    what = f"the model in {folder} does not load"
    _check_headers(folder, what)
    with one_line(what, _CHECK_FOLDER), _without_report():
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            **settings,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    faults = (
        ("weights of its config are not in the files", info["missing_keys"]),
        ("weights of another shape than its config says", {name for name, *_ in info["mismatched_keys"]}),
        ("weights that its config has no place for", info["unexpected_keys"]),
    )
    for words, names in faults:
        if names:
            raise HarnessError(f"{what}: {words}: {some(names)}", _CHECK_FOLDER)
    damaged = [name for name, tensor in model.named_parameters() if not _finite(tensor)]
    if damaged:
        dtype = str(model.dtype).rpartition(".")[2]
        raise HarnessError(f"{what}: weights that are not finite in {dtype}: {some(damaged)}", _WIDER)
    model.eval()
    prepare(model)
    check_computes(model, f"the model in {folder}")
    return model


def _finite(tensor: torch.Tensor) -> bool:
    """Return whether all numbers of a tensor are finite; those of packed weights are not looked at."""
    import torch

    plain = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16) and not hasattr(tensor, "quant_state")
    if not plain or not tensor.numel() or tensor.is_meta:
        return True
    lowest, highest = tensor.detach().aminmax()  # either is NaN where any is
    return bool(lowest.isfinite() & highest.isfinite())


def _check_headers(folder: Path, what: str) -> None:
    """Look at what the files say they hold: a config may ask for a million layers, which are made before any weight."""
    from safetensors import safe_open

    tensors = 0
    for path in sorted(folder.glob("*.safetensors")):
        damaged = one_line(f"{what}: {path.name}", "fetch the file again: it is cut or damaged")
        with damaged, safe_open(path, framework="pt") as file:
            tensors += len(file.keys())
    layers = read_object(folder / "config.json").get("num_hidden_layers", 0)
    if not isinstance(layers, int) or layers > max(tensors, 1):
        raise HarnessError(
            f"{what}: its config says {layers!r:.40} layers, the files hold {tensors} tensors", _CHECK_FOLDER
        )


def check_computes(model: PreTrainedModel, name: str) -> None:
    """Let a model read three tokens: shapes that cannot be, and weights that are no numbers, show in it.

    Raises:
        HarnessError: it fails, or what comes out is not finite.
    """
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[1 % rows, rows // 2, rows - 1]], device=model.device)
    with one_line(f"{name} does not compute", _CHECK_FOLDER), torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        if logits.shape[1] < 1 or not torch.isfinite(logits).all():
            dtype = str(logits.dtype).rpartition(".")[2]
            raise HarnessError(f"{name} computes numbers that are not finite in {dtype}", _WIDER)


def some(names: Collection[str]) -> str:
    """Return the first names and how many more there are."""
    first = sorted(names)[:NAMED]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


@contextlib.contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers' table of what did not load to itself: the same is refused by name."""
    import logging

    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
