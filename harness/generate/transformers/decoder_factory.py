"""Makes the decoders that a plan has room for, and the one that a verdict chose: for one model or for several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.generate.llama.cpu_model import CpuLlama
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.kernels import kernels_for
from harness.generate.llama.loaded_layers import why_not_fused
from harness.generate.llama.model import FusedLlama
from harness.generate.stopping import StopRule
from harness.generate.transformers.adapter_kinds import unwrapped
from harness.generate.transformers.continuous_batching import Decoder
from harness.generate.transformers.decoder_verdict import FUSED, Kind, Verdict, kinds_here
from harness.generate.transformers.reference import ReferenceDecoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.generate.transformers.decoder_check import Making, Observe
    from harness.generate.transformers.plan import DecodingPlan
    from harness.model.load import LoadedModel

Adapter = tuple[Path | None, str | None]
"""An adapter's folder and SHA-256; None twice for the base alone."""


class Unfit(Exception):
    """A model that a decoder does not know."""


def makings(loaded: LoadedModel, plan: DecodingPlan | None) -> dict[Kind, Making]:
    """Return the decoders that there are on this machine, the fastest first.

    Args:
        loaded: Keeps unpacked weights for the next call.
        plan: None decodes step by step with the weights as they are.
    """
    known: dict[Kind, Making] = {kind: _Fused(loaded, kind == "fused-nf4") for kind in FUSED}
    known["slots"] = Decoder
    return {kind: known[kind] for kind in kinds_here(plan)}


def make_decoder(
    verdict: Verdict, loaded: LoadedModel, model: PreTrainedModel, stop: StopRule, rows: int, temperature: float
) -> Decoder | StreamDecoder | ReferenceDecoder:
    """Return the decoder that was found to write what `generate` writes.

    Args:
        verdict: Which one, and of `generate` whether in padded batches.
        loaded: Keeps unpacked weights for the next call.
        model: Its model, its adapter on or off.
        stop: When a completion ends.
        rows: How many at once.
        temperature: 0 is greedy.
    """
    if verdict.kind in FUSED:
        return _Fused(loaded, verdict.kind == "fused-nf4")(model, stop, rows, temperature)
    loaded.fused = None  # unpacked for nothing
    if verdict.kind == "slots":
        return Decoder(model, stop, rows, temperature)
    return ReferenceDecoder(model, stop, rows if verdict.padded else 1, temperature)


def make_joint_decoder(
    verdict: Verdict, loaded: LoadedModel, adapters: Sequence[Adapter], stop: StopRule, rows: int, temperature: float
) -> StreamDecoder:
    """Return a decoder of several models on the same weights: prompts say which of them they are for.

    Args:
        verdict: Which of `FUSED` all of them proved.
        loaded: Keeps unpacked weights for the next call.
        adapters: Each model's, folder and SHA-256.
        stop: When a completion ends whose prompt has no rule of its own.
        rows: How many at once.
        temperature: 0 is greedy.

    Raises:
        Unfit: one of them changes the weights themselves, so that the others could not decode on them.
    """
    making, held, factors = _Fused(loaded, verdict.kind == "fused-nf4"), None, {}
    for folder, sha256 in reversed(adapters):  # whoever asks has gone through them, so that the last one is on
        if sha256 in factors:
            continue
        with loaded.adapter(folder, sha256) as model:
            if held is not None and loaded.fused is not held:
                raise Unfit("an adapter changes the base weights")
            held = making.weights(model)
            factors[sha256] = held.factors(model)
    assert held is not None
    held.hold([factors[sha256] for _, sha256 in adapters])
    return StreamDecoder(held, stop, rows, temperature)


@dataclass(frozen=True)
class _Fused:
    """Decodes with few large products: those of `loaded` are kept, those of a twin of it are not."""

    loaded: LoadedModel
    packed: bool

    def __call__(
        self,
        model: PreTrainedModel,
        stop: StopRule,
        rows: int,
        temperature: float = 0.0,
        observe: Observe | None = None,
    ) -> StreamDecoder:
        """Return a decoder of a model.

        Raises:
            Unfit: see `weights`.
        """
        fused = self.weights(model)
        fused.adapt(model)
        return StreamDecoder(fused, stop, rows, temperature, observe)

    def weights(self, model: PreTrainedModel) -> FusedLlama:
        """Return the weights of a model, without its adapter.

        Raises:
            Unfit: the model is no Llama, its adapter is more than LoRA, or its packed weights compute in float32.
        """
        loaded = self.loaded
        why = why_not_fused(model)
        if self.packed and loaded.precision.dtype == "float32":
            why = "products with packed weights are made in 16 bit"
        if why is not None:
            raise Unfit(why)
        if unwrapped(model) is not unwrapped(loaded.model):
            return self._made(model)
        if not isinstance(loaded.fused, FusedLlama) or loaded.fused.packed != self.packed:
            loaded.fused = None  # makes room
            loaded.fused = self._made(model)
        return loaded.fused

    def _made(self, model: PreTrainedModel) -> FusedLlama:
        if self.loaded.precision.device == "cpu":
            return CpuLlama(model)
        return FusedLlama(model, kernels_for(model.device), self.packed)
