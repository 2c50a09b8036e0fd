"""When a completion ends: at the end token, at the page's `</html>`, at the limit, or in a loop."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.answer import page_end
from harness.answer.marks import SPECIAL_TOKEN, token_role
from harness.types import FinishReason

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_END_TAG = "</html"
_TAIL = 10
"""Tokens in which `</html >` stands whole, of at least one character each."""
_AS_WRITTEN = {"clean_up_tokenization_spaces": False}
"""Some tokenizers are set to take spaces out before full stops: `ul .item` and `ul.item` are two selectors."""
LOOP_PERIODS = 64
"""Longest block, in tokens, whose repetition counts as a loop."""
LOOP_REPEATS = 8
LOOP_TOKENS = 160
"""A loop is a block repeated verbatim LOOP_REPEATS times or more over at least LOOP_TOKENS: docs/generation.md."""
LOOP_CHECK_EVERY = 16
_THOUGHT_MARK = re.compile(
    r"\[/?THINK\]|\u25c1/?think\u25b7|<unused9[45]>|</?[\w:]*(?:think|thought|reason)\w*>", re.IGNORECASE
)


@dataclass(frozen=True)
class StopRule:
    """Decides after each token whether a completion has ended."""

    tokenizer: PreTrainedTokenizerBase
    end_tokens: frozenset[int]
    max_new_tokens: int
    at_end_tag: bool
    cut_loops: bool
    thought: str = ""
    """What the prompt leaves open, so that the answer begins within it: see `harness.answer.thought_left_open`."""
    closing: frozenset[int] = field(init=False)
    """Tokens with a '>' inside: only after one of them can an end tag be complete."""
    marks: frozenset[int] = field(init=False)
    """Special tokens that open or close a thought."""

    def __post_init__(self) -> None:
        vocabulary = self.tokenizer.get_vocab()
        object.__setattr__(self, "closing", frozenset(number for token, number in vocabulary.items() if ">" in token))
        object.__setattr__(self, "marks", thought_marks(self.tokenizer))

    def reason(self, tokens: Sequence[int]) -> FinishReason | None:
        """Return why the completion ends after the last of `tokens`, or None while it goes on."""
        if tokens[-1] in self.end_tokens:
            return "eos"
        if self.at_end_tag and tokens[-1] in self.closing:
            tail = self.tokenizer.decode(tokens[-_TAIL:], skip_special_tokens=True, **_AS_WRITTEN)
            if _END_TAG in tail.lower() and self._page_ended(tokens):
                return "stop"
        if len(tokens) >= self.max_new_tokens:
            return "length"
        if self.cut_loops and len(tokens) % LOOP_CHECK_EVERY == 0 and loop_period(tokens):
            return "loop"
        return None

    def extend(self, written: list[int], tokens: Iterable[int]) -> FinishReason | None:
        """Append tokens to what is written up to where the completion ends, an end token left out.

        Returns why it ended, or None while it goes on. Time grows with the tokens that are appended, not their square.
        """
        for token in tokens:
            written.append(token)
            reason = self.reason(written)
            if reason is not None:
                if reason == "eos":
                    written.pop()
                return reason
        return None

    def _page_ended(self, tokens: Sequence[int]) -> bool:
        """Whether the page ends here. All of the answer is read, but only where an end tag has just been written."""
        text = answer_text(self.tokenizer, tokens, self.marks)
        return page_end(self.thought + text, final=False) is not None


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids at which a model ends its answer, as its makers say."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(ids if isinstance(ids, list | tuple) else [ids])}
    return frozenset(number for number in found if number is not None)


def thought_marks(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the special tokens that open or close a thought, such as `[THINK]` or `<|channel|>`.

    They are left in the text of an answer, for without them its thoughts could not be told from its page.
    """
    special = {str(token) for token in getattr(tokenizer, "all_special_tokens", ())}
    special |= {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values() if token.special}
    if not special:
        return frozenset()
    vocabulary = tokenizer.get_vocab()
    return frozenset(vocabulary[token] for token in special if token in vocabulary and _marks_a_thought(token))


def _marks_a_thought(token: str) -> bool:
    match = SPECIAL_TOKEN.fullmatch(token)
    if match is not None:
        return token_role(token, match) in ("channel", "think", "unthink") or match[1] == "message"
    return _THOUGHT_MARK.fullmatch(token) is not None


def answer_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], marks: frozenset[int]) -> str:
    """Return the text of an answer without its special tokens, but with those that mark thoughts where it has any.

    Args:
        tokenizer: The model's.
        tokens: The answer, without its end token.
        marks: What `thought_marks` found.
    """
    marked = bool(marks) and not marks.isdisjoint(tokens)
    return str(tokenizer.decode(tokens, skip_special_tokens=not marked, **_AS_WRITTEN))


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
