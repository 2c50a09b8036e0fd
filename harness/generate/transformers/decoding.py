"""Decoding on loaded weights: by the fastest decoder that has proved to write what transformers' `generate` writes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from typing_extensions import override

from harness.generate.backend import Answers
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoder_verdict import (
    FUSED,
    Verdict,
    device_name,
    in_key,
    kinds_here,
    remembered,
    remembered_or,
)
from harness.generate.transformers.strategy import (
    DecodingStrategy,
    JointAnswers,
    TokenRequests,
    decoder_identity,
)
from harness.runs.schema import JsonObject
from harness.storage.json_file import read_object
from harness.types import sha256

if TYPE_CHECKING:
    from harness.generate.llama.decoder import StreamDecoder
    from harness.generate.transformers.continuous_batching import Decoder
    from harness.generate.transformers.generator import Generator
    from harness.generate.transformers.plan import DecodingPlan
    from harness.generate.transformers.queue import DecodingQueue
    from harness.generate.transformers.reference import ReferenceDecoder


@dataclass(frozen=True)
class TransformersDecoding(DecodingStrategy):
    """Our own decoders where they hold, else transformers' `generate`."""

    proved: Verdict | None = None
    """Which decoder writes, where that was found elsewhere: on the machines that decode for the model."""

    @override
    def at_once(self, settings: GenerationSettings) -> int:
        return settings.batch_size

    @override
    def verdict(self, model: Generator) -> Verdict:
        return self.proved or self._proved(model, self.plan(model))

    @override
    def remembered(self, model: Generator) -> Verdict | None:
        return self.proved or remembered(self._about(model, self.plan(model)))

    @override
    def found_by(self, model: Generator, find: Callable[[], Verdict]) -> Verdict:
        return self.proved or remembered_or(self._about(model, self.plan(model)), find)

    @override
    def knowing(self, verdict: Verdict | None) -> TransformersDecoding:
        return replace(self, proved=verdict)

    @override
    def identity(self, model: Generator) -> JsonObject:
        precision = model.loaded.precision
        return {"decoder": in_key(decoder_identity(model, self.verdict(model)), precision.dtype, precision.device)}

    def manifest(self, model: Generator) -> JsonObject:
        """Return the decoder, its plan of the GPU's memory, and how it was proved."""
        plan, verdict = self.plan(model), self.verdict(model)
        return {
            "backend": "transformers",
            "batch_size": model.settings.batch_size,
            "decoder": decoder_identity(model, verdict),
            "decoding": (plan.record() if plan else {}) | {"why": verdict.why, "proof": verdict.evidence},
        }

    def plan(self, model: Generator) -> DecodingPlan | None:
        """Return how a model is decoded on this machine; None where its config tells no sizes."""
        from harness.generate.transformers.plan import plan_here

        return plan_here(model.loaded.weights.folder, model.loaded.precision, model.settings)

    @override
    def prepare(self, model: Generator) -> None:
        self.verdict(model)
        with model.loaded.adapter(model.adapter_folder, model.adapter_sha256):
            pass

    def _proved(self, model: Generator, plan: DecodingPlan | None) -> Verdict:
        """The verdict for this plan; where memory runs out, for the weights as they are loaded."""
        import torch

        try:
            return remembered_or(self._about(model, plan), lambda: self._prove(model, plan))
        except torch.OutOfMemoryError:
            if plan is None or not plan.fused:
                raise
        model.loaded.fused = None
        torch.cuda.empty_cache()
        return remembered_or(self._about(model, None), lambda: self._prove(model, None))

    def _about(self, model: Generator, plan: DecodingPlan | None) -> JsonObject:
        """Return what a verdict depends on."""
        weights, precision = model.loaded.weights, model.loaded.precision
        files = [weights.folder / name for name in ("config.json", "generation_config.json")]
        if model.adapter_folder is not None:
            files.append(model.adapter_folder / "adapter_config.json")
        return {
            "weights": weights.sha256,
            "adapter": model.adapter_sha256,
            "configs": [sha256(path.read_text(encoding="utf-8")) if path.is_file() else None for path in files],
            "precision": asdict(precision),
            "device": device_name(precision.device),
            "kinds": [*kinds_here(plan)],
        }

    def _prove(self, model: Generator, plan: DecodingPlan | None) -> Verdict:
        from harness.generate.transformers.decoder_factory import makings
        from harness.generate.transformers.proof import check_causal, prove

        loaded, tokenizer = model.loaded, model.renderer.tokenizer
        with loaded.adapter(model.adapter_folder, model.adapter_sha256) as weights:
            check_causal(weights, tokenizer, read_object(loaded.weights.folder / "config.json"))
            return prove(weights, tokenizer, makings(loaded, plan), loaded.precision.dtype)

    def decode(self, model: Generator, wanted: TokenRequests) -> Answers:
        """Decode in this process. Running out of GPU memory halves the batch and goes on."""
        for _, place, answer in self.decode_together([(model, wanted)]):
            yield place, answer

    @override
    def joint_key(self, model: Generator) -> Hashable:
        """Models join that have the same weights, a proved decoder that takes several adapters, and one batch."""
        if self.proved is None or self.proved.kind not in FUSED:
            return None
        return id(model.loaded), self.proved.kind, model.settings.batch_size, model.settings.temperature

    @override
    def decode_together(self, asked: Sequence[tuple[Generator, TokenRequests]]) -> JointAnswers:
        """Decode in this process in one queue (`llama.decoder`). What runs out of memory goes on with fewer rows."""
        from harness.generate.transformers.queue import DecodingQueue

        plans = [self.plan(model) for model, _ in asked]
        verdict = self.proved or self._proved(asked[0][0], plans[0])
        queue = DecodingQueue()
        for number, (model, wanted) in enumerate(asked):
            with model.loaded.adapter(model.adapter_folder, model.adapter_sha256) as weights:
                yield from queue.add(number, model, weights, wanted)
        yield from self._decoded(queue, verdict, plans, asked[0][0].settings.batch_size)

    def _decoded(
        self, queue: DecodingQueue, verdict: Verdict, plans: Sequence[DecodingPlan | None], batch_size: int
    ) -> JointAnswers:
        """Yield answers, with fewer rows at once each time that memory runs out; at last each model for itself."""
        import torch

        from harness.generate.transformers.decoder_factory import Unfit
        from harness.generate.transformers.plan import rows_at_once

        planned, loaded = verdict.kind, queue.models[0].model.loaded
        while queue.pending:
            rows = min(rows_at_once(plan, batch_size) for plan in plans)
            short_of_memory = apart = False
            try:
                for row in self._decoder(queue, verdict, rows).decode(list(queue.pending.values())):
                    number, place, answer = queue.settled(row)
                    if verdict.kind != planned:
                        note = f"decoded by {verdict.kind}, not by {planned}: the memory ran out"
                        answer = replace(answer, decoder=verdict.kind, note=note)
                    yield number, place, answer
            except torch.OutOfMemoryError:
                if batch_size == 1 and verdict.kind not in FUSED:
                    raise
                short_of_memory = True  # what the error's traceback holds is freed behind this block
                apart = batch_size == 1 and len(queue.models) > 1
            except Unfit:
                if len(queue.models) == 1:
                    raise
                apart = True
            if apart:
                for own, plan in zip(queue.apart(), plans, strict=True):
                    yield from self._decoded(own, verdict, [plan], batch_size)
                return
            if short_of_memory:
                if batch_size == 1:  # the weights as they are loaded take least
                    plans, loaded.fused = [None], None
                    torch.cuda.empty_cache()
                    verdict = self._proved(queue.models[0].model, None)
                batch_size = max(1, batch_size // 2)
                torch.cuda.empty_cache()

    def _decoder(self, queue: DecodingQueue, verdict: Verdict, rows: int) -> Decoder | StreamDecoder | ReferenceDecoder:
        from harness.generate.transformers.decoder_factory import make_decoder, make_joint_decoder

        first = queue.models[0]
        loaded, temperature = first.model.loaded, first.model.settings.temperature
        adapters = [(queued.model.adapter_folder, queued.model.adapter_sha256) for queued in queue.models]
        if len(adapters) > 1:
            return make_joint_decoder(verdict, loaded, adapters, first.stop, rows, temperature)
        with loaded.adapter(*adapters[0]) as weights:
            return make_decoder(verdict, loaded, weights, first.stop, rows, temperature)
