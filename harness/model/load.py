"""Loads base weights once, in the precision that the machine and the profile ask for, and puts adapters on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.model.weights import LocalWeights, fetch_weights
from harness.processes import main_first, sharded
from harness.profile.schema import DType, Quantization, Weights


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are held and computed with."""

    quantization: Quantization
    dtype: str
    """The compute dtype's name as torch spells it: float32, bfloat16 or float16."""
    device: str

    @property
    def torch_dtype(self) -> Any:
        """The compute dtype."""
        import torch

        return getattr(torch, self.dtype)


def choose_precision(quantization: Quantization, dtype: DType) -> Precision:
    """Return the precision for this machine.

    `auto` is bfloat16 on GPUs from Ampere on, float16 on older ones (torch emulates bfloat16 there and calls it
    supported, so the compute capability is asked instead), float32 on the CPU.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype != "auto":
        return Precision(quantization, dtype, device)
    if device == "cpu":
        return Precision(quantization, "float32", device)
    native_bf16 = torch.cuda.get_device_capability()[0] >= 8
    return Precision(quantization, "bfloat16" if native_bf16 else "float16", device)


@dataclass
class LoadedModel:
    """A model with its tokenizer. Adapters sit beside the same base weights and are switched, never merged."""

    tokenizer: Any
    weights: LocalWeights
    precision: Precision
    source: Weights | None = None
    """Where they came from, for other machines to fetch them."""
    _model: Any = None
    adapters: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each loaded adapter → its name inside the PEFT model."""
    fused: Any = None
    """The same weights as `harness.generate.fused` decodes with; gone when the model changes hands."""

    @property
    def model(self) -> Any:
        """The model; loaded when first asked for, so that a run whose answers are all cached never waits for it."""
        if self._model is None:
            self._model = _load_base(self.weights, self.precision)
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model = model
        self.fused = None

    @contextlib.contextmanager
    def adapter(self, folder: Path | None, sha256: str | None) -> Iterator[Any]:
        """Yield the model with that adapter on, or with every adapter off for None.

        Raises:
            HarnessError: the adapter does not fit these weights.
        """
        if folder is None or sha256 is None:
            if not self.adapters:
                yield self.model
            else:
                with self.model.disable_adapter():
                    yield self.model
            return
        if sha256 not in self.adapters:
            self._attach(folder, sha256)
        self.model.set_adapter(self.adapters[sha256])
        yield self.model

    def release(self) -> None:
        """Free the memory; weights and adapters are loaded anew when they are next asked for."""
        self.model = None
        self.adapters.clear()
        if self.precision.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def drop_adapters(self) -> None:
        """Take every adapter off the base weights, which stay as they are; `adapter` attaches them anew."""
        self.fused = None
        if self.adapters:
            self.model = self.model.unload()
            self.adapters.clear()

    def _attach(self, folder: Path, sha256: str) -> None:
        from peft import PeftModel

        name = f"adapter_{len(self.adapters)}"
        try:
            if self.adapters:
                self.model.load_adapter(str(folder), adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self.model, str(folder), adapter_name=name)
        except (ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise HarnessError(
                f"the adapter in {folder} does not fit the base weights: {reason:.120}",
                "use the profile whose weights it was made for",
            ) from error
        self.model.eval()
        self.adapters[sha256] = name


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model folder, with a padding token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def load_model(weights: Weights, precision: Precision) -> LoadedModel:
    """Fetch base weights and their tokenizer; the model itself is loaded on first use.

    Raises:
        HarnessError: the weights cannot be had.
    """
    with main_first():
        local = fetch_weights(weights)
    return LoadedModel(load_tokenizer(local.folder), local, precision, weights)


def _load_base(local: LocalWeights, precision: Precision) -> Any:
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {"dtype": precision.torch_dtype, "attn_implementation": "sdpa"}
    if precision.device == "cuda" and not sharded():  # sharded, it waits in the computer's memory for its parts' places
        import torch

        settings["device_map"] = {"": torch.cuda.current_device()}  # of several processes each has its own
    if precision.quantization == "nf4":
        settings["quantization_config"] = nf4_config(precision)
    try:
        model = AutoModelForCausalLM.from_pretrained(str(local.folder), **settings)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HarnessError(f"the model in {local.folder} does not load: {reason:.160}", "check the folder") from error
    return model.eval()


def nf4_config(precision: Precision) -> Any:
    """4-bit NormalFloat with double quantisation (Dettmers et al. 2023, QLoRA, section 3).

    To be sharded, the packed bytes are held as numbers of the compute dtype: FSDP splits numbers alone.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.torch_dtype,
        bnb_4bit_quant_storage=precision.torch_dtype if sharded() else "uint8",
    )
