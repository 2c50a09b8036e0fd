"""Initialisers that take a part out of the base weights (PiSSA, OLoRA), and their adapters as plain LoRA.

PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024) start from B₀A₀ ≠ 0 and leave W − s·B₀A₀ in the base, s the
scaling. What they have learnt on the base as it was is s·(BA − B₀A₀) = s·[B B₀][A; −A₀]: LoRA of twice the rank, which
sits on the untouched weights like any other adapter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from pydantic import JsonValue

from harness import processes
from harness.errors import UsageError
from harness.model.identity import ADAPTER_CONFIG, ADAPTER_FILE
from harness.model.load import LoadedModel
from harness.storage.atomic import write_atomically
from harness.train.looking import LOOKED_AT, looking_at

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
"""How far the logits may move, relative to their spread: W − s·B₀A₀ is rounded."""


class InitialAdapter:
    """What an initialiser put into the adapter, where it took the same out of the base.

    Args:
        loaded: The base, still bare.
        lora: The model file's fields of LoraConfig.
        tokens: A training row, on which base and start are compared.
    """

    def __init__(self, loaded: LoadedModel, lora: Mapping[str, JsonValue], tokens: list[int]) -> None:
        self._loaded = loaded
        self._initialiser = lora.get("init_lora_weights", True)
        self._tokens = tokens[:LOOKED_AT]
        self._tensors: dict[str, torch.Tensor] = {}
        self._logits = self._look(loaded.model) if isinstance(self._initialiser, str) else None

    def keep(self, model: PreTrainedModel) -> None:
        """Examine what PEFT made of the base, before anything is learnt.

        Raises:
            UsageError: the initialiser changed the base into another model, whose adapter would fit nothing else.
        """
        from peft import get_peft_model_state_dict

        if self._logits is None:
            return
        name = f"train.lora.init_lora_weights: '{self._initialiser}'"
        if processes.sharded():
            raise UsageError(f"{name} may change a base that is sharded over processes", "take another initialiser")
        if not self._loaded.changed_weights() and not self._replaced(model):
            return
        moved = float((self._look(model) - self._logits).std() / self._logits.std())
        if moved > TOLERANCE[self._loaded.precision.dtype] or self._loaded.precision.quantization != "none":
            raise UsageError(
                f"{name} changes the base weights for good, and its adapter would not fit the base that is measured",
                "take another initialiser" + (", or `quantization: none`" if self._quantised else ""),
            )
        self._tensors = {
            key: value.detach().cpu().clone()
            for key, value in get_peft_model_state_dict(model).items()
            if _concatenated(key) is not None
        }

    def subtract(self, folder: Path) -> None:
        """Turn the adapter saved in `folder` into a plain one, if the base was changed for it and it is there."""
        import torch
        from safetensors.torch import load_file, save_file

        path = folder / ADAPTER_FILE
        if not self._tensors or not path.is_file():
            return
        tensors = load_file(path)
        for key, initial in self._tensors.items():
            learnt, axis = tensors[key], _concatenated(key)
            assert axis is not None
            sign = -1 if axis == 0 else 1  # of A alone
            tensors[key] = torch.cat([learnt, sign * initial.to(learnt.dtype)], dim=axis).contiguous()
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        save_file(tensors, path, metadata={"format": "pt"})
        write_atomically(folder / ADAPTER_CONFIG, json.dumps(_of_twice_the_rank(config), indent=2, sort_keys=True))

    @property
    def _quantised(self) -> bool:
        return self._loaded.precision.quantization != "none"

    def _replaced(self, model: PreTrainedModel) -> bool:
        """Return whether layers compute with other tensors than the base's own, which lie unchanged beside them."""
        own = {id(parameter) for parameter in self._base_parameters}
        return any(
            id(module.get_base_layer().weight) not in own for module in model.modules() if hasattr(module, "lora_A")
        )

    def _look(self, model: PreTrainedModel) -> torch.Tensor:
        import torch

        self._base_parameters = getattr(self, "_base_parameters", None) or list(model.parameters())
        with looking_at(model):
            ids = torch.tensor([self._tokens], device=model.device)
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
        return logits


def _concatenated(key: str) -> int | None:
    """Return the axis along which a factor's rank runs; None for other tensors."""
    if "lora_A" in key or "lora_embedding_A" in key:
        return 0
    return 1 if ("lora_B" in key or "lora_embedding_B" in key) and not key.endswith("bias") else None


class _Config(TypedDict):
    """What is read of an adapter's config."""

    r: int
    lora_alpha: float
    use_rslora: NotRequired[bool]
    rank_pattern: NotRequired[dict[str, int] | None]
    alpha_pattern: NotRequired[dict[str, float] | None]


def _of_twice_the_rank(config: _Config) -> dict[str, object]:
    """Return the adapter's config with the same scaling, alpha/r or, with rsLoRA, alpha/√r (Kalajdzievski 2023)."""
    factor = 2**0.5 if config.get("use_rslora") else 2
    return {
        **config,
        "init_lora_weights": True,
        "r": 2 * config["r"],
        "lora_alpha": factor * config["lora_alpha"],
        "rank_pattern": {name: 2 * rank for name, rank in (config.get("rank_pattern") or {}).items()},
        "alpha_pattern": {name: factor * alpha for name, alpha in (config.get("alpha_pattern") or {}).items()},
    }
