"""Decoding on loaded weights: by the fastest decoder that has proved to write what transformers' `generate` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from typing_extensions import override

from harness.generate.backend import Answers
from harness.generate.settings import GenerationSettings
from harness.generate.stopping import StopRule, answer_text, end_tokens
from harness.generate.transformers.adapter_kinds import virtual_tokens
from harness.generate.transformers.decoder_verdict import (
    FUSED,
    Verdict,
    device_name,
    kinds_here,
    remembered,
    remembered_or,
)
from harness.generate.transformers.strategy import (
    DecodingStrategy,
    TokenRequests,
    beyond_context,
    decoder_identity,
    opened_thought,
)
from harness.model.context import context_length, read_config
from harness.runs.schema import JsonObject
from harness.types import Answer, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.generate.transformers.continuous_batching import Prompt
    from harness.generate.transformers.generator import Generator
    from harness.generate.transformers.plan import DecodingPlan


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
        return {"decoder": decoder_identity(model, self.verdict(model))}

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
        """Return how a model is decoded on a GPU; None on a CPU, or where its config tells no sizes."""
        if model.loaded.precision.device != "cuda":
            return None
        from harness.generate.transformers.plan import plan_here

        return plan_here(model.loaded.weights.folder, model.loaded.precision.quantization, model.settings)

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
        from harness.generate.transformers.plan import makings
        from harness.generate.transformers.proof import check_causal, prove

        loaded, tokenizer = model.loaded, model.renderer.tokenizer
        with loaded.adapter(model.adapter_folder, model.adapter_sha256) as weights:
            check_causal(weights, tokenizer, read_config(loaded.weights.folder))
            return prove(weights, tokenizer, makings(loaded, plan), loaded.precision.dtype)

    def decode(self, model: Generator, wanted: TokenRequests) -> Answers:
        """Decode in this process. Running out of GPU memory halves the batch and goes on."""
        from harness.generate.transformers.continuous_batching import Prompt

        places, plan = list(wanted), self.plan(model)
        verdict = self.proved or self._proved(model, plan)
        tokenizer, settings = model.renderer.tokenizer, model.settings
        with model.loaded.adapter(model.adapter_folder, model.adapter_sha256) as weights:
            context = context_length(weights.config)
            if context is not None:
                context -= virtual_tokens(weights)
            pending = {}
            for number, place in enumerate(places):
                tokens, seed = wanted[place]
                if context is not None and len(tokens) + 1 > context:
                    yield place, beyond_context(tokens, context)
                else:
                    pending[number] = Prompt(number, tokens, seed, None if context is None else context - len(tokens))
            thought = opened_thought(tokenizer, wanted)
            stop = StopRule(
                tokenizer,
                end_tokens(weights, tokenizer),
                settings.max_new_tokens,
                at_end_tag=True,
                cut_loops=settings.cut_loops,
                thinking=bool(thought),
            )
            for number, answer in self._rows(model, weights, stop, pending, verdict, plan):
                yield places[number], replace(answer, text=thought + answer.text)

    def _rows(
        self,
        model: Generator,
        weights: PreTrainedModel,
        stop: StopRule,
        pending: dict[int, Prompt],
        verdict: Verdict,
        plan: DecodingPlan | None,
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the numbers of prompts and their answers, with fewer rows at once each time that memory runs out."""
        import torch

        from harness.generate.transformers.plan import make_decoder, rows_at_once

        batch_size, planned = model.settings.batch_size, verdict.kind
        while pending:
            rows = rows_at_once(plan, batch_size)
            decoder = make_decoder(verdict, model.loaded, weights, stop, rows, model.settings.temperature)
            short_of_memory = False
            try:
                for row in decoder.decode(list(pending.values())):
                    prompt = pending.pop(row.key)
                    text = answer_text(stop.tokenizer, row.tokens, stop.marks)
                    answer = Answer(text, row.finish_reason, len(prompt.tokens), len(row.tokens), row.seconds)
                    if verdict.kind != planned:
                        note = f"decoded by {verdict.kind}, not by {planned}: the memory ran out"
                        answer = replace(answer, decoder=verdict.kind, note=note)
                    yield row.key, answer
            except torch.OutOfMemoryError:
                if batch_size == 1 and verdict.kind not in FUSED:
                    raise
                short_of_memory = True  # what the error's traceback holds is freed behind this block
            if short_of_memory:
                if batch_size == 1:  # the weights as they are loaded take least
                    plan, model.loaded.fused = None, None
                    torch.cuda.empty_cache()
                    verdict = self._proved(model, None)
                batch_size = max(1, batch_size // 2)
                torch.cuda.empty_cache()
