"""When a completion ends: at the end token, at `</html>`, at the limit, or in a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.types import FinishReason

END_TAG = "</html>"
LOOP_PERIODS = 64
"""Longest block, in tokens, whose repetition counts as a loop."""
LOOP_REPEATS = 8
LOOP_TOKENS = 160
"""A loop is a block repeated verbatim LOOP_REPEATS times or more over at least LOOP_TOKENS: docs/generation.md."""
LOOP_CHECK_EVERY = 16


@dataclass(frozen=True)
class StopRule:
    """Decides after each token whether a completion has ended."""

    tokenizer: Any
    end_tokens: frozenset[int]
    max_new_tokens: int
    at_end_tag: bool
    cut_loops: bool
    closing: frozenset[int] = field(init=False)
    """Tokens with a '>' inside: only after one of them can an end tag be complete."""

    def __post_init__(self) -> None:
        vocabulary = self.tokenizer.get_vocab()
        object.__setattr__(self, "closing", frozenset(number for token, number in vocabulary.items() if ">" in token))

    def reason(self, tokens: Sequence[int]) -> FinishReason | None:
        """Return why the completion ends after the last of `tokens`, or None while it goes on."""
        if tokens[-1] in self.end_tokens:
            return "eos"
        if self.at_end_tag and tokens[-1] in self.closing:
            tail = self.tokenizer.decode(tokens[-len(END_TAG) - 1 :], skip_special_tokens=True)
            if END_TAG in tail.lower():
                return "stop"
        if len(tokens) >= self.max_new_tokens:
            return "length"
        if self.cut_loops and len(tokens) % LOOP_CHECK_EVERY == 0 and loop_period(tokens):
            return "loop"
        return None


def loop_period(tokens: Sequence[int]) -> int | None:
    """Return the length of the block that the end of `tokens` repeats verbatim, or None.

    The end must hold the block at least `LOOP_REPEATS` times and span at least `LOOP_TOKENS` tokens.
    """
    length = len(tokens)
    for period in range(1, LOOP_PERIODS + 1):
        span = max(LOOP_REPEATS * period, LOOP_TOKENS)
        if span > length:
            return None
        if all(tokens[i] == tokens[i - period] for i in range(length - 1, length - span + period - 1, -1)):
            return period
    return None
