"""Decoding that keeps the batch full: finished rows leave at once and waiting prompts take their slots."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from harness.generate.sampling import check_finite, drawn_by
from harness.generate.stopping import StopRule
from harness.generate.transformers.adapter_kinds import unwrapped
from harness.generate.transformers.kv_cache import SlotCache, slot_attention_on
from harness.generate.transformers.prefill import Prefill
from harness.types import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PADDED_SHARE = 0.75
"""Prompts shorter than this share of the longest are prefilled apart from it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt as token ids. `seed` is the row's own random numbers, as `sampling` says."""

    key: int
    tokens: tuple[int, ...]
    seed: int = 0
    limit: int | None = None
    """At most this many new tokens, for the model's context ends there."""
    model: int = 0
    """Of the models that decode together, the one that it is for."""
    stop: StopRule | None = None
    """When its completion ends, where that model has a rule of its own."""

    def ended(self, stop: StopRule, tokens: Sequence[int]) -> FinishReason | None:
        """Return why the completion ends after the last of `tokens`, or None while it goes on."""
        reason = (self.stop or stop).reason(tokens)
        if reason is None and self.limit is not None and len(tokens) >= self.limit:
            return "length"
        return reason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished completion as token ids, the end token left out."""

    key: int
    tokens: list[int]
    finish_reason: FinishReason
    seconds: float
    """The row's share of the time of each step it took part in."""


@dataclass
class _Row:
    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Decoder:
    """Greedy or sampled decoding of many prompts on one model.

    Args:
        model: A causal language model of transformers, with or without PEFT adapters.
        stop: When a completion ends.
        batch_size: How many rows are decoded at once.
        temperature: 0 is greedy.
        observe: Called with the keys of the rows and the logits behind them, (rows, vocabulary), before each choice.
    """

    model: PreTrainedModel
    stop: StopRule
    batch_size: int
    temperature: float = 0.0
    observe: Callable[[Sequence[int], torch.Tensor], None] | None = None

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        """Yield completions as they finish. Longest prompts go first, so that the batch stays full to the end."""
        if not prompts:
            return
        plain = unwrapped(self.model)
        run = _Run(self, plain, sorted(prompts, key=lambda prompt: (-len(prompt.tokens), prompt.key)))
        while run.waiting or run.rows:
            with slot_attention_on(plain, run.cache):
                finished = run.step()
            yield from finished


class _Run:
    def __init__(self, settings: Decoder, model: PreTrainedModel, prompts: Sequence[Prompt]) -> None:
        self.settings = settings
        self.body = model.get_decoder()
        self.head = model.get_output_embeddings()
        self.device = model.device
        self.waiting = deque(prompts)
        self.rows: list[_Row] = []
        slots = min(settings.batch_size, len(prompts))
        capacity = max(len(prompt.tokens) for prompt in prompts) + settings.stop.max_new_tokens
        self.cache = SlotCache(model.config.num_hidden_layers, slots, capacity, self.device)
        self.next_tokens = torch.zeros(slots, dtype=torch.long, device=self.device)
        self.prefill = Prefill(model, [prompt.tokens for prompt in prompts])

    def step(self) -> list[Decoded]:
        """Admit waiting prompts, decode one token of each row, and return those that finished."""
        started = time.monotonic()
        logits = self._admit()
        if logits is None:
            active = len(self.rows)
            hidden = self.body(
                input_ids=self.next_tokens[:active, None],
                attention_mask=self.cache.mask(active),
                position_ids=self.cache.positions[:active, None],
                cache=self.cache,
                use_cache=True,
            ).last_hidden_state
            self.cache.groups = []  # a prefill attends otherwise
            self.cache.positions[:active] += 1
            logits, first = self.head(hidden[:, 0]), 0
        else:
            first = len(self.rows) - len(logits)
        chosen = self._choose(logits, self.rows[first:])
        self.next_tokens[first : len(self.rows)] = chosen
        share = (time.monotonic() - started) / len(chosen)
        for row, token in zip(self.rows[first:], chosen.tolist(), strict=True):
            row.tokens.append(token)
            row.seconds += share
        return self._dismiss(first)

    def _admit(self) -> torch.Tensor | None:
        """Prefill as many waiting prompts as there are free slots; return their logits, or None when none entered."""
        free = self.cache.slots - len(self.rows)
        if not self.waiting or free == 0:
            return None
        entering = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        found = []
        for prompts in of_similar_length(entering):
            logits, cache = self.prefill.run([prompt.tokens for prompt in prompts])
            found.append(logits)
            for number, prompt in enumerate(prompts):
                self.cache.fill(len(self.rows), cache, number, len(prompt.tokens))
                self.rows.append(_Row(prompt))
        return torch.cat(found)

    def _dismiss(self, first: int) -> list[Decoded]:
        """Take finished rows out, each slot filled by the last active row. Only rows from `first` on got a token."""
        finished = []
        for number in range(len(self.rows) - 1, first - 1, -1):
            row = self.rows[number]
            reason = row.prompt.ended(self.settings.stop, row.tokens)
            if reason is None:
                continue
            tokens = row.tokens[:-1] if reason == "eos" else row.tokens
            finished.append(Decoded(row.prompt.key, tokens, reason, row.seconds))
            last = len(self.rows) - 1
            if number != last:
                self.cache.move(last, number)
                self.next_tokens[number] = self.next_tokens[last]
                self.rows[number] = self.rows[last]
            self.rows.pop()
        return finished

    def _choose(self, logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
        if self.settings.observe is not None:
            self.settings.observe([row.prompt.key for row in rows], logits)
        if self.settings.temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            places = [(row.prompt.seed, len(row.prompt.tokens) + len(row.tokens) - 1) for row in rows]
            chosen = drawn_by(logits, self.settings.temperature, places)
        check_finite(logits, chosen)
        return chosen


def of_similar_length(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Split prompts, the longest first, so that little is computed for padding."""
    together: list[Prompt] = []
    for prompt in prompts:
        if together and len(prompt.tokens) < PADDED_SHARE * len(together[0].tokens):
            yield together
            together = []
        together.append(prompt)
    yield together
