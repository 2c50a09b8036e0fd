"""4-bit base weights as 16-bit matrices while training: the same values, without unpacking them twice a step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bitsandbytes.nn import Linear4bit
    from transformers import PreTrainedModel


@contextlib.contextmanager
def plain_base(model: PreTrainedModel) -> Iterator[int]:
    """Put `nn.Linear` layers with the dequantised weights in place of bitsandbytes' 4-bit ones inside the block.

    bitsandbytes multiplies by the dequantised matrix anyway and throws it away; here it is kept: two bytes a weight
    more memory. For GPUs: on a CPU bitsandbytes packs weights anew at the first use. The 4-bit layers
    come back afterwards, so that what is measured is what is deployed.
    Yields how many layers were replaced.
    """
    import bitsandbytes

    replaced: list[tuple[torch.nn.Module, str, Linear4bit]] = []
    flags = {name: getattr(model, name) for name in ("is_loaded_in_4bit", "is_quantized") if hasattr(model, name)}
    try:
        for path, module in list(model.named_modules()):
            if not isinstance(module, bitsandbytes.nn.Linear4bit):
                continue
            parent_path, _, leaf = path.rpartition(".")
            parent = model.get_submodule(parent_path)
            setattr(parent, leaf, _dequantised(module))
            replaced.append((parent, leaf, module))
        for name in flags:
            setattr(model, name, False)
        yield len(replaced)
    finally:
        for parent, leaf, module in replaced:
            setattr(parent, leaf, module)
        for name, value in flags.items():
            setattr(model, name, value)


def _dequantised(layer: Linear4bit) -> torch.nn.Linear:
    import bitsandbytes

    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    with torch.device("meta"):
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    plain.weight = torch.nn.Parameter(weight.to(layer.compute_dtype or weight.dtype), requires_grad=False)
    if layer.bias is not None:
        plain.bias = torch.nn.Parameter(layer.bias.data, requires_grad=False)
    return plain
