"""A model on these machines as it is asked; what of its answers is not in the store is decoded by its strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from typing_extensions import override

from harness.generate.backend import Answers, StoredBackend
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.strategy import DecodingStrategy, TokenRequests, Tokens
from harness.model.identity import adapter_record, deciding_packages
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.runs.manifest import BackendEntry
from harness.runs.schema import JsonObject
from harness.types import Task


@dataclass(frozen=True)
class Generator(StoredBackend[Tokens]):
    """One model as it is asked: base weights, an adapter or none, the examples in its prompts, and what decodes."""

    name: str
    loaded: LoadedModel
    renderer: PromptRenderer
    settings: GenerationSettings
    adapter_folder: Path | None = None
    adapter_sha256: str | None = None
    examples: tuple[Task, ...] = ()
    decoding: DecodingStrategy = field(default_factory=TransformersDecoding)

    @property
    def at_once(self) -> int:
        """How many rows are decoded side by side."""
        return self.decoding.at_once(self.settings)

    @override
    def identity(self) -> JsonObject:
        return {
            "weights": self.loaded.weights.sha256,
            "adapter": self.adapter_sha256,
            "packages": {**deciding_packages()},
            "precision": asdict(self.loaded.precision),
            "template": self.renderer.sha,
            "examples": [[example.prompt_sha, example.reference] for example in self.examples],
            "settings": self.settings.cache_key_fields(),
            **self.decoding.identity(self),
        }

    def decoder(self) -> Verdict:
        """Return which decoder writes: proved on these weights and this adapter, or remembered from before.

        Raises:
            HarnessError: transformers' own `generate` fails on this model.
        """
        return self.decoding.verdict(self)

    def remembered_decoder(self) -> Verdict | None:
        """Return which decoder writes where that was proved before; no weights are loaded for it."""
        return self.decoding.remembered(self)

    def decoder_found_by(self, find: Callable[[], Verdict]) -> Verdict:
        """Return which decoder writes: remembered, or found by `find` where the model answers."""
        return self.decoding.found_by(self, find)

    def knowing(self, verdict: Verdict) -> Generator:
        """Return the same model, for which that decoder writes."""
        return replace(self, decoding=self.decoding.knowing(verdict))

    @override
    def prompt(self, task: Task) -> Tokens:
        return tuple(self.renderer.tokens(task, self.examples))

    @override
    def in_turn(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Tasks with the longest references go first: rows that write long would else decode alone at the end."""
        return sorted(tasks, key=lambda task: -len(task.reference))

    @override
    def manifest(self) -> BackendEntry:
        precision = self.loaded.precision
        return BackendEntry(
            quantization=precision.quantization,
            dtype=precision.dtype,
            device=precision.device,
            template_sha=self.renderer.sha,
            examples=tuple(example.id for example in self.examples),
            generation=self.settings.cache_key_fields() | {"samples": self.settings.samples},
        ).with_(**self.loaded.weights.record(), **adapter_record(self.adapter_folder), **self.decoding.manifest(self))

    @override
    def decode(self, wanted: TokenRequests) -> Answers:
        if wanted:
            yield from self.decoding.decode(self, wanted)
