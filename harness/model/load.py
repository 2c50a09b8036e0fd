"""Loads base weights once, in the precision that the machine and the profile ask for, and puts adapters on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.adapters import attach
from harness.model.checkpoint import check_folder, load_checkpoint, some
from harness.model.processor import has_bfloat16_products
from harness.model.profile_schema import DType, Weights
from harness.model.tokenizer import load_tokenizer
from harness.model.weights import LocalWeights, fetch_weights
from harness.processes import main_first, sharded
from harness.types import Quantization

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

    from harness.model.base_state import BaseState


@dataclass(frozen=True, slots=True)
class Precision:
    """How weights are held and computed with."""

    quantization: Quantization
    dtype: str
    """The compute dtype's name as torch spells it: float32, bfloat16 or float16."""
    device: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The compute dtype."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


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


def why_slow(precision: Precision) -> str | None:
    """Return why a precision is slower than float32 on this machine's processor; None where it is not."""
    if precision.device != "cpu" or precision.dtype == "float32":
        return None
    native = has_bfloat16_products()
    if precision.dtype == "bfloat16" and native:
        return None
    has = "" if native else ", which has neither AMX nor AVX512-BF16"
    return f"{precision.dtype} is slower than float32 on this processor{has}"


@dataclass
class LoadedModel:
    """A model with its tokenizer. At most one adapter sits on the base weights at a time; nothing is ever merged.

    The base answers without anything around it. What adapters and trainings did to it is taken back when they go, a
    checksum of every tensor says whether it is what was loaded, and where it is not, it is loaded anew.
    """

    tokenizer: PreTrainedTokenizerBase
    weights: LocalWeights
    precision: Precision
    source: Weights | None = None
    """Where they came from, for other machines to fetch them."""
    fused: object = None
    """The same weights as `harness.generate.llama.model` decodes with; gone when the model changes hands."""
    notice: Callable[[str], None] | None = None
    """Called with a line where the base had to be loaded anew."""
    _model: PreTrainedModel | None = None
    _base: BaseState | None = None
    _attached: str | None = None
    """SHA-256 of the adapter that is on the base."""
    _lent: bool = False
    _suspect: str | None = None
    """What was on the base since its tensors were last compared."""

    @property
    def model(self) -> PreTrainedModel:
        """The model; loaded when first asked for, so that a run whose answers are all cached never waits for it."""
        self._check_base()
        if self._model is None:
            from harness.model.base_state import BaseState

            self._model = _load_base(self.weights, self.precision)
            self._base = None if sharded() else BaseState(self._model)  # of shards nobody holds a tensor
        return self._model

    @model.setter
    def model(self, model: PreTrainedModel | None) -> None:
        self._model = model
        self.fused = None

    @contextlib.contextmanager
    def adapter(self, folder: Path | None, sha256: str | None) -> Iterator[PreTrainedModel]:
        """Yield the model with that adapter on, or the bare base for None; in a training, the model as it stands.

        Raises:
            UsageError: the folder holds no adapter.
            HarnessError: the adapter does not fit these weights.
        """
        if not self._lent and sha256 != self._attached:
            self.drop_adapters()
            if folder is not None and sha256 is not None:
                self._attach(folder, sha256)
        yield self.model

    @contextlib.contextmanager
    def lent(self) -> Iterator[PreTrainedModel]:
        """Yield the base to a training, which may set `model` to what it makes of it; afterwards the base is as before.

        Within the block `adapter` yields the model as it stands.
        """
        self.drop_adapters()
        base = self.model
        self.fused, self._lent = None, True
        try:
            yield base
        finally:
            self._lent = False
            self._take_back("the training")

    def changed_weights(self) -> list[str]:
        """Return the names of base tensors that are not what was loaded, as it stands."""
        return [] if self._base is None else self._base.changed()

    def release(self) -> None:
        """Free the memory; weights and adapters are loaded anew when they are next asked for."""
        self.model, self._base, self._attached, self._suspect = None, None, None, None
        if self.precision.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def drop_adapters(self) -> None:
        """Take the adapter off the base weights, which are then what was loaded; `adapter` attaches it anew."""
        if self._attached is not None:
            self._take_back("the adapter")

    def _attach(self, folder: Path, sha256: str) -> None:
        base = self.model
        self._attached = sha256
        try:
            self._model = attach(base, folder)
        except BaseException:
            self._take_back("the adapter")
            raise
        if self.changed_weights():
            self.fused = None  # made of the base's own weights

    def _take_back(self, by: str) -> None:
        """Put the base back in place; whether its tensors are what was loaded is asked before the next use."""
        self._attached = None
        if self._base is None:
            self.release()
            return
        self._base.restore()
        self._model, self._suspect = self._base.model, by

    def _check_base(self) -> None:
        """Let go of a base whose tensors are not what was loaded; not earlier, for a failed training holds memory."""
        by, self._suspect = self._suspect, None
        changed = self.changed_weights() if by is not None else []
        if not changed:
            return
        self.release()
        if self.notice:
            self.notice(f"{by} wrote into the base weights ({some(changed)}): they are loaded anew")


def load_model(weights: Weights, precision: Precision) -> LoadedModel:
    """Fetch base weights and their tokenizer; the model itself is loaded on first use.

    Raises:
        HarnessError: the weights cannot be had, or their folder is broken.
    """
    with main_first():
        local = fetch_weights(weights)
    check_folder(local.folder, precision.quantization)
    return LoadedModel(load_tokenizer(local.folder), local, precision, weights)


def _load_base(local: LocalWeights, precision: Precision) -> PreTrainedModel:
    settings: dict[str, object] = {"dtype": precision.torch_dtype}
    if precision.device == "cuda" and not sharded():  # sharded, it waits in the computer's memory for its parts' places
        import torch

        settings["device_map"] = {"": torch.cuda.current_device()}  # of several processes each has its own
    if precision.quantization == "nf4":
        settings["quantization_config"] = nf4_config(precision)
    return load_checkpoint(local.folder, settings, _keep_4_bit_weights_as_they_are)


def _keep_4_bit_weights_as_they_are(model: PreTrainedModel) -> None:
    """Keep bitsandbytes on a CPU from packing weights at their first use.

    It rounds their scales to bfloat16 then, and a packed layer passes no gradient on, so that an adapter would learn
    nothing once the base has answered.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False


def nf4_config(precision: Precision) -> BitsAndBytesConfig:
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
