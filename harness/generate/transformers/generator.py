"""Completions from a model on this machine: what is stored is taken from the store, the rest is decoded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.generate.backend import Answer, Decoding, GenerationFailure, SampleKey, StoredBackend
from harness.generate.backend import GenerationRequests as _Wanted
from harness.generate.settings import GenerationSettings
from harness.generate.store import StoredCompletion
from harness.generate.transformers.decoder_verdict import Verdict, device_name, kinds_here, remembered, remembered_or
from harness.model.identity import adapter_record, deciding_packages
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.runs.manifest import BackendEntry
from harness.types import Task, sha256

if TYPE_CHECKING:
    from harness.generate.transformers.plan import DecodingPlan

__all__ = ["Answer", "Decoding", "Generator", "SampleKey", "GenerationFailure", "GenerationRequests", "end_tokens"]

Tokens = tuple[int, ...]
GenerationRequests = _Wanted[Tokens]
"""What is to be decoded: by place the store's key, the prompt's tokens and the seed."""


@dataclass(frozen=True)
class Generator(StoredBackend[Tokens]):
    """One model as it is asked: base weights, an adapter or none, and the examples that stand in its prompts."""

    name: str
    loaded: LoadedModel
    renderer: PromptRenderer
    settings: GenerationSettings
    adapter_folder: Path | None = None
    adapter_sha256: str | None = None
    examples: tuple[Task, ...] = ()
    proved: Verdict | None = None
    """Which decoder writes, where that was found elsewhere: on the machines that decode for this one."""

    @property
    def at_once(self) -> int:
        """How many rows are decoded side by side."""
        return self.settings.batch_size

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what this model writes, and nothing that does not."""
        return {
            "weights": self.loaded.weights.sha256,
            "adapter": self.adapter_sha256,
            "packages": deciding_packages(),
            "precision": asdict(self.loaded.precision),
            "template": self.renderer.sha,
            "examples": [[example.prompt_sha, example.reference] for example in self.examples],
            "settings": self.settings.cache_key_fields(),
            "decoder": self._decoder_identity(),
        }

    def _decoder_identity(self) -> dict[str, Any]:
        """In 16 bit the rows that are computed together decide the rounding, and so some tokens."""
        rows = {} if self.loaded.precision.dtype == "float32" else {"rows": self.settings.batch_size}
        return self.decoder().identity() | rows

    def decoder(self) -> Verdict:
        """Return which decoder writes: proved on these weights and this adapter, or remembered from before.

        Raises:
            HarnessError: transformers' own `generate` fails on this model.
        """
        return self.proved or self._proved(self._plan())

    def decoder_found_by(self, find: Callable[[], Verdict]) -> Verdict:
        """Return which decoder writes: remembered, or found by `find` where the model answers."""
        return self.proved or remembered_or(self._about(self._plan()), find)

    def remembered_decoder(self) -> Verdict | None:
        """Return which decoder writes where that was proved before; no weights are loaded for it."""
        return self.proved or remembered(self._about(self._plan()))

    def _proved(self, plan: DecodingPlan | None) -> Verdict:
        """The verdict for this plan; where memory runs out on unpacked weights, for the weights as they are loaded."""
        import torch

        try:
            return remembered_or(self._about(plan), lambda: self._prove(plan))
        except torch.OutOfMemoryError:
            if plan is None or not plan.unpacked:
                raise
        self.loaded.fused = None
        torch.cuda.empty_cache()
        return remembered_or(self._about(None), lambda: self._prove(None))

    def _about(self, plan: DecodingPlan | None) -> dict[str, Any]:
        """Return what a verdict depends on."""
        files = [self.loaded.weights.folder / name for name in ("config.json", "generation_config.json")]
        if self.adapter_folder is not None:
            files.append(self.adapter_folder / "adapter_config.json")
        return {
            "weights": self.loaded.weights.sha256,
            "adapter": self.adapter_sha256,
            "configs": [sha256(path.read_text(encoding="utf-8")) if path.is_file() else None for path in files],
            "precision": asdict(self.loaded.precision),
            "device": device_name(self.loaded.precision.device),
            "kinds": kinds_here(plan),
        }

    def _prove(self, plan: DecodingPlan | None) -> Verdict:
        from harness.generate.transformers.plan import makings
        from harness.generate.transformers.proof import check_causal, prove

        with self.loaded.adapter(self.adapter_folder, self.adapter_sha256) as model:
            tokenizer = self.renderer.tokenizer
            check_causal(model, tokenizer, read_config(self.loaded.weights.folder))
            return prove(model, tokenizer, makings(self.loaded, plan), self.loaded.precision.dtype)

    def prompt(self, task: Task) -> Tokens:
        """Return a task's prompt as token ids."""
        return tuple(self.renderer.tokens(task, self.examples))

    def manifest(self) -> BackendEntry:
        """Return what the manifest says of it."""
        precision, plan, decoder = self.loaded.precision, self._plan(), self.decoder()
        return BackendEntry(
            quantization=precision.quantization,
            dtype=precision.dtype,
            device=precision.device,
            template_sha=self.renderer.sha,
            examples=tuple(example.id for example in self.examples),
            backend="transformers",
            batch_size=self.settings.batch_size,
            decoder=self._decoder_identity(),
            decoding=(plan.record() if plan else {}) | {"why": decoder.why, "proof": decoder.evidence},
            generation=self.settings.cache_key_fields() | {"samples": self.settings.samples},
        ).with_(**self.loaded.weights.record(), **adapter_record(self.adapter_folder))

    def _plan(self) -> DecodingPlan | None:
        """How it is decoded on a GPU."""
        if self.loaded.precision.device != "cuda":
            return None
        from harness.generate.transformers.plan import plan_here

        return plan_here(self.loaded.weights.folder, self.loaded.precision.quantization, self.settings)

    def decode(self, wanted: GenerationRequests) -> Iterator[tuple[SampleKey, str, StoredCompletion]]:
        """Decode in this process and yield (place, key, completion) as rows finish.

        Running out of GPU memory halves the batch and goes on.
        """
        if not wanted:
            return
        import torch

        from harness.answer import thought_left_open
        from harness.generate.stopping import StopRule, answer_text
        from harness.generate.transformers.adapter_kinds import virtual_tokens
        from harness.generate.transformers.context import context_length
        from harness.generate.transformers.continuous_batching import Prompt
        from harness.generate.transformers.plan import make_decoder

        places = list(wanted)
        plan = self._plan()
        verdict = self.proved or self._proved(plan)
        with self.loaded.adapter(self.adapter_folder, self.adapter_sha256) as model:
            context = context_length(model.config)
            if context is not None:
                context -= virtual_tokens(model)
            pending = {}
            for number, place in enumerate(places):
                key, tokens, seed = wanted[place]
                if context is not None and len(tokens) + 1 > context:
                    note = f"the prompt of {len(tokens)} tokens is longer than the context of {context}"
                    yield place, key, StoredCompletion("", "error", len(tokens), 0, 0.0, note)
                else:
                    pending[number] = Prompt(number, tokens, seed, None if context is None else context - len(tokens))
            tokenizer = self.renderer.tokenizer
            # one template renders all prompts: it opens a thought in each of them or in none
            thought = thought_left_open(tokenizer.decode(wanted[places[0]][1][-16:]))
            stop = StopRule(
                tokenizer,
                end_tokens(model, tokenizer),
                self.settings.max_new_tokens,
                at_end_tag=True,
                cut_loops=self.settings.cut_loops,
                thinking=bool(thought),
            )
            batch_size, planned = self.settings.batch_size, verdict.kind
            while pending:
                decoder = make_decoder(verdict, self.loaded, model, stop, batch_size, self.settings.temperature, plan)
                short_of_memory = False
                try:
                    for decoded in decoder.decode(list(pending.values())):
                        prompt = pending.pop(decoded.key)
                        place, count = places[decoded.key], len(decoded.tokens)
                        text = thought + answer_text(tokenizer, decoded.tokens, stop.marks)
                        answer = StoredCompletion(
                            text, decoded.finish_reason, len(prompt.tokens), count, decoded.seconds
                        )
                        if verdict.kind != planned:
                            note = f"decoded by {verdict.kind}, not by {planned}: the memory ran out"
                            answer = replace(answer, decoder=verdict.kind, note=note)
                        yield place, wanted[place][0], answer
                except torch.OutOfMemoryError:
                    if batch_size == 1 and verdict.kind != "fused":
                        raise
                    short_of_memory = True  # what the error's traceback holds is freed behind this block
                if short_of_memory:
                    if batch_size == 1:  # the weights as they are loaded take least
                        plan, self.loaded.fused = None, None
                        torch.cuda.empty_cache()
                        verdict = self._proved(None)
                    batch_size = max(1, batch_size // 2)
                    torch.cuda.empty_cache()


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.json; empty where there is none."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids at which a model ends its answer, as its makers say."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(ids if isinstance(ids, list | tuple) else [ids])}
    return frozenset(number for number in found if number is not None)
