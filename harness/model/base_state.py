"""Proof that the base is the base: the module tree as it was loaded, and a checksum of each tensor.

Adapters replace modules, wrap them, hook into them, change the config, and some write into the base weights themselves
(trained biases, initialisers that take a part out of a matrix, saved embeddings). What was put around the base is taken
off by putting every module back as it was; what was written into tensors cannot be, and shows in their checksums.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

WIDTH = 4096
"""8-byte words in a row of a tensor's checksum."""
_MIXED = 0x5851F42D4C957F2D
"""Odd, so that multiplying by it loses nothing modulo 2^64 (Knuth's MMIX generator)."""

Checksum = tuple[str, tuple[int, ...], int, int]
"""dtype, shape, and two sums over the bytes."""


class BaseState:
    """A model as it was loaded: what its modules hold and the checksums of its tensors.

    Args:
        model: A model of transformers without an adapter, as it will be measured.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._modules = [(path, module, _Attributes(module)) for path, module in model.named_modules()]
        self._configs = [_Attributes(config) for config in _configs(model)]
        self._trainable = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self._checksums = self._now()

    def changed(self) -> list[str]:
        """Return the names of tensors that are no longer what they were, whatever is wrapped around them."""
        now = self._now()
        return sorted(
            name for name in self._checksums.keys() | now.keys() if self._checksums.get(name) != now.get(name)
        )

    def restore(self) -> None:
        """Put every module and config back as it was. What was written into tensors stays, and shows in `changed`."""
        for _, _, attributes in self._modules:
            attributes.restore()
        for config in self._configs:
            config.restore()
        for parameter, trainable in self._trainable.items():
            parameter.grad = None
            parameter.requires_grad_(trainable)

    def _now(self) -> dict[str, Checksum]:
        sums = {name: (tensor, checksums(tensor)) for name, tensor in self._tensors()}
        by_device: dict[torch.device, list[str]] = {}
        for name, (_, pair) in sums.items():
            by_device.setdefault(pair.device, []).append(name)
        found: dict[str, Checksum] = {}
        for names in by_device.values():  # one wait for each device, not for each tensor
            for name, (first, second) in zip(names, torch.stack([sums[n][1] for n in names]).tolist(), strict=True):
                tensor = sums[name][0]
                found[name] = (str(tensor.dtype), tuple(tensor.shape), first, second)
        return found

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield parameters and saved buffers of the modules that were there, wherever they hang now."""
        for path, module, _ in self._modules:
            kept = {
                name: tensor
                for name, tensor in module._buffers.items()
                if name not in module._non_persistent_buffers_set
            }
            for name, tensor in {**module._parameters, **kept}.items():
                if tensor is not None:
                    yield from _with_scales(f"{path}.{name}".lstrip("."), tensor)


@dataclass(slots=True)
class _Kept:
    value: object
    content: object
    """A shallow copy where the value is a container, which may be filled otherwise; None for anything else."""


class _Attributes:
    """The attributes of one object, to be put back."""

    def __init__(self, owner: object) -> None:
        self._owner, self._class = owner, type(owner)
        self._kept = {
            name: _Kept(value, copy.copy(value) if type(value) in (dict, OrderedDict, list, set) else None)
            for name, value in owner.__dict__.items()
        }

    def restore(self) -> None:
        self._owner.__class__ = self._class
        attributes = self._owner.__dict__
        for name in attributes.keys() - self._kept.keys():
            del attributes[name]
        for name, kept in self._kept.items():
            match kept.value, kept.content:
                case list() as value, list() as content:
                    value[:] = content
                case (dict() as value, dict() as content) | (set() as value, set() as content):
                    value.clear()
                    value.update(content)
            attributes[name] = kept.value


def checksums(tensor: torch.Tensor) -> torch.Tensor:
    """Return two sums over a tensor's bytes modulo 2^64, as int64 on its device.

    The 8-byte words stand in rows of `WIDTH`. Each column's sum is weighed by an odd number, its place, and so is each
    row's: odd numbers have inverses modulo 2^64, so a change of one word never goes unseen, and words that change
    places move sums. Integer sums are exact in any order: a GPU gives what it gave before.
    """
    local = tensor.detach()
    local = local.to_local() if hasattr(local, "to_local") else local
    data = local.contiguous().reshape(-1).view(torch.uint8)
    whole = data.numel() // 8 * 8
    words = data[:whole].view(torch.int64) if data.data_ptr() % 8 == 0 else data[:whole].clone().view(torch.int64)
    even = len(words) // WIDTH * WIDTH
    sums = [_weighed(data[whole:].to(torch.int64)), _weighed(words[even:])]
    if even:
        table = words[:even].view(-1, WIDTH)
        sums += [_weighed(table.sum(dim=0)), _weighed(table.sum(dim=1))]
    return torch.stack([sum(sums[1:3], sums[0] * _MIXED), sums[-1]])


def _weighed(words: torch.Tensor) -> torch.Tensor:
    odd = torch.arange(1, 2 * len(words) + 1, 2, dtype=torch.int64, device=words.device)
    return odd.mul_(words).sum()


def _with_scales(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a tensor and, of a 4-bit one of bitsandbytes, the scales beside it."""
    yield name, tensor
    state = getattr(tensor, "quant_state", None)
    if state is not None:
        second = getattr(state, "state2", None)
        scales = {
            "absmax": state.absmax,
            "offset": getattr(state, "offset", None),
            "nested": getattr(second, "absmax", None),
        }
        yield from ((f"{name}.{kind}", scale) for kind, scale in scales.items() if torch.is_tensor(scale))


def _configs(model: PreTrainedModel) -> list[PretrainedConfig]:
    """Return every config object below a model once: theirs, those within them, and how it generates."""
    found: dict[int, PretrainedConfig] = {}
    waiting = [getattr(module, name, None) for module in model.modules() for name in ("config", "generation_config")]
    while waiting:
        config = waiting.pop()
        if config is None or id(config) in found or not hasattr(config, "to_dict"):
            continue
        found[id(config)] = config
        waiting += [value for value in vars(config).values() if hasattr(value, "to_dict")]
    return list(found.values())
