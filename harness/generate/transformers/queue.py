"""The prompts of one decoding, of one model or of several that decode together, and what becomes of each answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.generate.backend import SampleKey
from harness.generate.stopping import StopRule, answer_text, end_tokens
from harness.generate.transformers.adapter_kinds import virtual_tokens
from harness.generate.transformers.continuous_batching import Decoded, Prompt
from harness.generate.transformers.strategy import JointAnswers, TokenRequests, beyond_context, opened_thought
from harness.model.context import context_length
from harness.model.tokenizer import check_known
from harness.types import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.generate.transformers.generator import Generator


@dataclass(frozen=True)
class QueuedModel:
    """A model whose prompts are in a queue."""

    number: int
    """Its number among those that were asked together."""
    model: Generator
    stop: StopRule
    thought: str
    """What its prompts leave open; its answers begin with it."""


@dataclass
class DecodingQueue:
    """Models on the same weights and their prompts, which leave as they are answered. A prompt names its model here."""

    models: list[QueuedModel] = field(default_factory=list)
    pending: dict[int, Prompt] = field(default_factory=dict)
    places: dict[int, SampleKey] = field(default_factory=dict)
    """By the keys of prompts."""

    def add(self, number: int, model: Generator, weights: PreTrainedModel, wanted: TokenRequests) -> JointAnswers:
        """Put a model's prompts into the queue; yield the answers to those that its context has no room for.

        Args:
            number: Among those that are asked together.
            model: Whose prompts they are.
            weights: Its weights with its adapter on or off.
            wanted: Its prompts.
        """
        tokenizer, settings = model.renderer.tokenizer, model.settings
        context = context_length(weights.config)
        if context is not None:
            context -= virtual_tokens(weights)
        check_known((token for tokens, _ in wanted.values() for token in tokens), weights)
        thought = opened_thought(tokenizer, wanted)
        stop = StopRule(
            tokenizer,
            end_tokens(weights, tokenizer),
            settings.max_new_tokens,
            at_end_tag=True,
            cut_loops=settings.cut_loops,
            thought=thought,
        )
        for place, (tokens, seed) in wanted.items():
            if context is not None and len(tokens) + 1 > context:
                yield number, place, beyond_context(tokens, context)
                continue
            key, limit = len(self.places), None if context is None else context - len(tokens)
            self.pending[key] = Prompt(key, tokens, seed, limit, len(self.models), stop)
            self.places[key] = place
        self.models.append(QueuedModel(number, model, stop, thought))

    def apart(self) -> Iterator[DecodingQueue]:
        """Yield what is still pending of each model, as a queue of its own."""
        for index, queued in enumerate(self.models):
            own = {key: replace(prompt, model=0) for key, prompt in self.pending.items() if prompt.model == index}
            yield DecodingQueue([queued], own, self.places)

    def settled(self, row: Decoded) -> tuple[int, SampleKey, Answer]:
        """Take a prompt out of the queue; return its model's number, its place and its answer."""
        prompt = self.pending.pop(row.key)
        queued = self.models[prompt.model]
        text = queued.thought + answer_text(queued.stop.tokenizer, row.tokens, queued.stop.marks)
        answer = Answer(text, row.finish_reason, len(prompt.tokens), len(row.tokens), row.seconds)
        return queued.number, self.places[row.key], answer
