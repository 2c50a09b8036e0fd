"""What transformers leaves unread of a GGUF file, though it decides what the model writes.

llama.cpp keeps rotary scaling in the header or, Llama 3's, as a tensor of factors; transformers reads neither, of some
architectures no rotary base and no window, and passes over tensors that it has no place for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gguf import GGUFReader
    from numpy.typing import NDArray
    from transformers import PretrainedConfig, PreTrainedModel

HINT = "take the model's safetensors instead"
_FACTORS = "rope_freqs.weight"
_BY_LENGTH = ("rope_factors_long.weight", "rope_factors_short.weight")
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What all models of Llama 3.1 to 3.3 have in common; their files hold the factors that follow from it."""
_GLOBAL = "full_attention"
"""The layers that scaling is for where others see a window: Gemma 3's, whose window's positions have a base of their
own."""
_WINDOW_UNREAD = ("phi3", "starcoder2")
_NEXT_TOKENS = ".nextn."
"""In the names of layers that guess further tokens, beside an attention of their own; transformers leaves them out of
safetensors, too."""


class UnreadError(Exception):
    """A file of which something that decides would be left unread."""


def set_rotary(config: PretrainedConfig, reader: GGUFReader) -> None:
    """Put a file's rotary base and scaling into the config that transformers made of the rest.

    Raises:
        UnreadError: the scaling is of a kind that is not known here.
    """
    parameters = getattr(config, "rope_parameters", None)
    if not isinstance(parameters, dict):
        return
    rotary = parameters.get(_GLOBAL, parameters)
    if rotary.get("rope_type", "default") != "default":
        return
    base = _field(reader, "rope.freq_base")
    if base is not None:  # of some architectures transformers keeps its own
        rotary = {**rotary, "rope_theta": base}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    scaling = _in_header(reader)
    if any(name in tensors for name in _BY_LENGTH):
        raise UnreadError("its rotary scaling depends on the length, which is not read from GGUF")
    if _FACTORS in tensors:
        found = np.asarray(tensors[_FACTORS].data, dtype=np.float64).reshape(-1)
        if not np.allclose(found, 1):
            if scaling:
                raise UnreadError("its rotary positions are scaled twice, which is not read from GGUF")
            scaling = _of_llama_3(found, float(rotary["rope_theta"]))
    rotary = {**rotary, **scaling}
    config.rope_parameters = {**parameters, _GLOBAL: rotary} if _GLOBAL in parameters else rotary


def set_window(config: PretrainedConfig, reader: GGUFReader) -> None:
    """Put into the config how far back a layer sees, where transformers leaves that out of its config."""
    window = _field(reader, "attention.sliding_window")
    if config.model_type in _WINDOW_UNREAD and window:
        config.sliding_window = window


def _field(reader: GGUFReader, name: str) -> object:
    """Return a value of what the header says of its architecture; None without."""
    architecture = reader.fields["general.architecture"].contents()
    found = reader.fields.get(f"{architecture}.{name}")
    return None if found is None else found.contents()


def _in_header(reader: GGUFReader) -> dict[str, object]:
    def field(name: str) -> object:
        return _field(reader, f"rope.{name}")

    kind, factor, old = field("scaling.type"), field("scaling.factor"), field("scale_linear")
    if kind is None and old is not None:
        kind, factor = "linear", old
    if kind in (None, "none") or factor in (None, 1, 0):
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    original = field("scaling.original_context_length")
    special = [name for name in ("attn_factor", "yarn_log_multiplier", "yarn_attn_factor") if field(f"scaling.{name}")]
    if kind == "yarn" and original is not None and not special:
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise UnreadError(f"its rotary scaling ({kind}) is not read from GGUF")


def _of_llama_3(found: NDArray[np.float64], theta: float) -> dict[str, object]:
    """Return Llama 3.1's scaling (`rope_type: llama3` of transformers) where it gives these factors."""
    factor = float(np.round(found.max(), 3))
    low, high, original = _LLAMA_3.values()
    lengths = 2 * math.pi * theta ** (np.arange(len(found)) / len(found))
    smooth = np.clip((original / lengths - low) / (high - low), 0, 1)
    if not np.allclose(found, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
        raise UnreadError("its rotary factors are none of Llama 3's, which is not read from GGUF")
    return {"rope_type": "llama3", "factor": factor, **_LLAMA_3}


def check_taken(model: PreTrainedModel, reader: GGUFReader) -> None:
    """Refuse a file that holds more numbers than the model took from it.

    Raises:
        UnreadError: such as the biases of layers that have none in transformers.
    """
    further = tuple(
        {tensor.name.partition(_NEXT_TOKENS)[0] + "." for tensor in reader.tensors if _NEXT_TOKENS in tensor.name}
    )
    own = [tensor for tensor in reader.tensors if not tensor.name.startswith(("rope_", *further))]
    held, head = (
        sum(int(tensor.n_elements) for tensor in part)
        for part in (own, [tensor for tensor in own if tensor.name == "output.weight"])
    )
    taken = sum(parameter.numel() for parameter in model.parameters())
    if held not in (taken, taken + head):  # a head beside embeddings that it is tied to
        raise UnreadError(f"it holds {held:,} numbers, and transformers' model has a place for {taken:,}")
