"""How a model on these machines is decoded: what each way of doing it has to say, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.answer import thought_left_open
from harness.generate.backend import Answers, GenerationRequests, SampleKey
from harness.generate.settings import DRAWS, GenerationSettings
from harness.generate.transformers.decoder_verdict import Verdict
from harness.runs.schema import JsonObject
from harness.types import Answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from harness.generate.transformers.generator import Generator

Tokens = tuple[int, ...]
TokenRequests = GenerationRequests[Tokens]
"""What is to be decoded: by place the prompt's tokens and the seed."""

JointAnswers = Iterator[tuple[int, SampleKey, Answer]]
"""What came of each request to models that decode together: a model's number among them, the place, the answer."""


class DecodingStrategy(ABC):
    """Decodes for whichever model has it, and knows which decoder that is: needing no proof, unless it says so."""

    @abstractmethod
    def at_once(self, settings: GenerationSettings) -> int:
        """Return how many rows are decoded side by side."""

    @abstractmethod
    def verdict(self, model: Generator) -> Verdict:
        """Return which decoder writes for a model in this process.

        Raises:
            HarnessError: transformers' own `generate` fails on this model.
        """

    def remembered(self, model: Generator) -> Verdict | None:
        """Return which decoder writes where that is known already; no weights are loaded for it."""
        return self.verdict(model)

    def found_by(self, model: Generator, find: Callable[[], Verdict]) -> Verdict:
        """Return which decoder writes: remembered, or found by `find` where the model answers."""
        return self.verdict(model)

    def knowing(self, verdict: Verdict | None) -> DecodingStrategy:
        """Return the same strategy with what was found elsewhere; None lets it find out by itself."""
        return self

    @abstractmethod
    def identity(self, model: Generator) -> JsonObject:
        """Return what of decoding decides what a model writes."""

    @abstractmethod
    def manifest(self, model: Generator) -> JsonObject:
        """Return what the manifest says of decoding."""

    @abstractmethod
    def prepare(self, model: Generator) -> None:
        """Load what decoding needs."""

    @abstractmethod
    def decode(self, model: Generator, wanted: TokenRequests) -> Answers:
        """Decode in this process; never called without anything to decode."""

    def joint_key(self, model: Generator) -> Hashable:
        """Return what models must have in common to decode together in this process; None for one that does not."""
        return None

    def decode_together(self, asked: Sequence[tuple[Generator, TokenRequests]]) -> JointAnswers:
        """Decode what several models of one joint key are asked; each is asked something."""
        for number, (model, wanted) in enumerate(asked):
            for place, answer in model.decode(wanted):
                yield number, place, answer


def decoder_identity(model: Generator, verdict: Verdict) -> JsonObject:
    """In 16 bit the rows that are computed together decide the rounding, and so some tokens. vLLM draws by itself."""
    rows = {} if model.loaded.precision.dtype == "float32" else {"rows": model.settings.batch_size}
    draws = {"draws": DRAWS} if model.settings.temperature and verdict.kind != "vllm" else {}
    return verdict.identity() | rows | draws


def opened_thought(tokenizer: PreTrainedTokenizerBase, wanted: TokenRequests) -> str:
    """Return the thought that prompts leave open: one template renders them all, and opens it in each or in none."""
    tokens, _ = next(iter(wanted.values()))
    return thought_left_open(tokenizer.decode(tokens[-16:]))


def beyond_context(tokens: Tokens, context: int) -> Answer:
    """Return the answer to a prompt that leaves no room for one."""
    note = f"the prompt of {len(tokens)} tokens is longer than the context of {context}"
    return Answer("", "error", prompt_tokens=len(tokens), note=note)
