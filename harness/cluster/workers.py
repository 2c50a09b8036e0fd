"""What runs on the nodes: the generator and the scorer of a local run, each held by a worker that may die."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cluster.facts import NodeFacts, node_facts
from harness.cluster.files import FolderSource, obtain
from harness.errors import HarnessError, UsageError
from harness.generate.backend import SampleKey
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.strategy import DecodingStrategy, TokenRequests
from harness.generate.vllm_engine import EngineDecoding, EngineDied, check_engine
from harness.model.load import LoadedModel, Precision, choose_precision
from harness.model.prompt import PromptRenderer
from harness.model.tokenizer import load_tokenizer, renderer_for
from harness.model.weights import LocalWeights
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject
from harness.types import Answer, Completion, Task

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from harness.render import Renderer
    from harness.scoring.scorer import Scorer

_TOGETHER_S = 0.25
"""Completions that finish within this time travel together."""

Prompt = tuple[SampleKey, tuple[tuple[int, ...], int]]
"""A place and what is to be decoded there."""


@dataclass(frozen=True)
class GeneratorOrder:
    """A generator as it travels: what it is made of, and where that lies on a disk."""

    name: str
    weights: FolderSource
    adapter: FolderSource | None
    precision: Precision
    template: str
    chat: bool
    examples: tuple[Task, ...]
    settings: GenerationSettings
    decoding: DecodingStrategy
    """Which decoder writes is for the worker to prove."""
    identity: JsonObject | None
    """What the worker must find to be the same; None before its decoder is known."""

    @classmethod
    def of(cls, generator: Generator, *, proved: bool = True) -> GeneratorOrder:
        """Return the order for a generator of this process.

        Args:
            generator: What is to answer.
            proved: Whether it is known which decoder writes; workers then prove that it is the same with them.
        """
        loaded, adapter = generator.loaded, None
        if generator.adapter_folder is not None and generator.adapter_sha256 is not None:
            adapter = FolderSource(str(generator.adapter_folder.resolve()), generator.adapter_sha256)
        return cls(
            name=generator.name,
            weights=FolderSource(str(loaded.weights.folder.resolve()), loaded.weights.sha256, loaded.source),
            adapter=adapter,
            precision=loaded.precision,
            template=generator.renderer.template,
            chat=generator.renderer.chat,
            examples=generator.examples,
            settings=generator.settings,
            decoding=generator.decoding.knowing(None),
            identity=generator.identity() if proved else None,
        )


@dataclass(frozen=True, slots=True)
class ScorerOrder:
    """A suite's scorer as it travels."""

    suite: str
    refused: Mapping[str, str]


class ModelWorker:
    """Holds models and decodes with them. Base weights are loaded once, adapters switched on and off."""

    def __init__(self, server: ActorHandle) -> None:
        self._server = server
        self._loaded: dict[str, LoadedModel] = {}

    def setup(self) -> NodeFacts:
        """Return the facts of this worker's node."""
        return node_facts()

    def decoder(self, order: GeneratorOrder) -> Verdict:
        """Return which decoder writes for a model here."""
        return self._generator(order).decoder()

    def prepare(self, order: GeneratorOrder) -> None:
        """Load a model and its adapter, so that rows come only to a worker that can answer them at once.

        Raises:
            HarnessError: this node would answer otherwise than the machine that the run began on.
        """
        generator = self._generator(order)
        generator.decoding.prepare(generator)

    def decode(self, order: GeneratorOrder, prompts: list[tuple[int, Prompt]]) -> Iterator[list[tuple[int, Answer]]]:
        """Yield (number, answer) lists as completions finish.

        Raises:
            HarnessError: this node would answer otherwise than the machine that the run began on.
        """
        generator = self._generator(order)
        numbers: dict[SampleKey, int] = {place: number for number, (place, _) in prompts}
        wanted: TokenRequests = dict(prompt for _, prompt in prompts)
        together: list[tuple[int, Answer]] = []
        since = time.monotonic()
        try:
            for place, answer in generator.decode(wanted):
                together.append((numbers[place], answer))
                if time.monotonic() - since > _TOGETHER_S:
                    yield together
                    together, since = [], time.monotonic()
        except EngineDied:
            os._exit(1)  # no worker without its engine: the pool starts another and finds the row that does it
        if together:
            yield together

    def _generator(self, order: GeneratorOrder) -> Generator:
        if isinstance(order.decoding, EngineDecoding):
            _has_engine()
        key = f"{order.weights.sha256} {order.precision}"
        if key not in self._loaded:
            _fit(order.precision)
            folder = obtain(order.weights, self._server)
            self._loaded[key] = LoadedModel(
                load_tokenizer(folder), LocalWeights(folder, order.weights.sha256), order.precision
            )
        loaded = self._loaded[key]
        adapter = None if order.adapter is None else obtain(order.adapter, self._server, adapter=True)
        renderer, _ = renderer_for(PromptRenderer(order.template, order.chat, loaded.tokenizer), adapter)
        generator = Generator(
            name=order.name,
            loaded=loaded,
            renderer=renderer,
            settings=order.settings,
            adapter_folder=adapter,
            adapter_sha256=order.adapter.sha256 if order.adapter else None,
            examples=order.examples,
            decoding=order.decoding,
        )
        if order.identity is not None:
            _same(generator, order.identity)
        return generator


def decoder_of(server: ActorHandle, order: GeneratorOrder) -> Verdict:
    """Return which decoder writes for a model on a node, before any worker is started there."""
    return ModelWorker(server).decoder(order)


def _same(generator: Generator, expected: JsonObject) -> None:
    own = generator.identity()
    if own == expected:
        return
    if own | {"decoder": None} == dict(expected) | {"decoder": None}:
        raise HarnessError(
            f"node {platform.node()} decodes for {generator.name} by {own['decoder']}, not by {expected['decoder']}",
            "let the models work on machines of one kind, with the same packages",
        )
    raise HarnessError(
        f"a worker would answer for {generator.name} with another template or other settings",
        "install the same version of the harness on all nodes",
    )


def _fit(wanted: Precision) -> None:
    """Refuse a device on which the same precision would mean other numbers, or none."""
    native = choose_precision(wanted.quantization, "auto")
    emulated = (wanted.dtype, native.dtype) == ("bfloat16", "float16")
    if wanted.device == "cuda" and (native.device != "cuda" or emulated):
        raise HarnessError(
            f"a model's worker has {native.dtype} on {native.device}, the run expects {wanted.dtype} on cuda",
            "let the models work on GPUs of one kind only",
        )


def _has_engine() -> None:
    try:
        check_engine()
    except UsageError as error:
        raise HarnessError(f"{error.message} on node {platform.node()}", error.hint) from error


class ScoreWorker:
    """Checks and renders pages in browsers of its own."""

    def __init__(self, browsers: int) -> None:
        self._browsers = browsers
        self._renderer: Renderer | None = None
        self._scorers: dict[str, Scorer] = {}
        self._shots: dict[str, bytes] = {}

    def setup(self) -> NodeFacts:
        """Return the facts of this worker's node."""
        return node_facts()

    def score(
        self, order: ScorerOrder, work: list[tuple[int, tuple[Task, Completion]]]
    ) -> Iterator[list[tuple[int, tuple[SampleRecord, dict[str, bytes]]]]]:
        """Yield (number, (row, its screenshots by name)) lists."""
        numbers = iter([number for number, _ in work])
        for rows in self._scorer(order).rows(pair for _, pair in work):
            shots, self._shots = self._shots, {}
            names = [{Path(path).name for path in row.shots.values()} for row in rows]
            yield [
                (next(numbers), (row, {name: shots[name] for name in own}))
                for row, own in zip(rows, names, strict=True)
            ]

    def _scorer(self, order: ScorerOrder) -> Scorer:
        from harness.render import Renderer, RenderSettings
        from harness.scoring.scorer import Scorer
        from harness.storage.cache import cache_folder

        if self._renderer is None:
            self._renderer = Renderer(RenderSettings(workers=self._browsers), cache_dir=cache_folder("renders"))
        if order.suite not in self._scorers:
            self._scorers[order.suite] = Scorer(order.suite, self._renderer, self._keep_shot, order.refused)
        return self._scorers[order.suite]

    def _keep_shot(self, picture: bytes, name: str) -> str:
        self._shots[name] = picture
        return f"shots/{name}"
