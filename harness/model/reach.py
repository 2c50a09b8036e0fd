"""How long an answer may be, so that a suite's references are within reach of it.

The limit of new tokens is the 99th percentile of the lengths of all references, training and held-out, and a quarter
more: answers may be wordier than references. Held-out rows lend it nothing but the length of the longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.types import Suite, Task

PERCENTILE = 99
MARGIN = 1.25

UNKNOWN_LIMIT = 1024
"""New tokens where there is no reference to go by."""

BYTES_PER_TOKEN = 2.3
"""UTF-8 bytes of HTML that a token holds, for a server whose tokenizer is not known here. Measured with SmolLM2's small
vocabulary on html_starter; larger vocabularies need fewer tokens, so that the limit errs on the generous side."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The limit of new tokens on a suite, and how many references are longer than an answer can be."""

    max_new_tokens: int
    out_of_reach: int
    references: int
    estimated: bool = False
    """The lengths are estimates, for the tokenizer is not known."""

    def as_dict(self) -> dict[str, int]:
        """Return what the manifest says."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "out_of_reach": self.out_of_reach,
            "references": self.references,
            "estimated": self.estimated,
        }

    def __str__(self) -> str:
        length = f"at most {self.max_new_tokens:,} new tokens"
        if self.estimated:
            length += " (estimated: the model's tokenizer is not known here)"
        if not self.references:
            return f"answers have {length}; there are no references to go by"
        if not self.out_of_reach:
            return f"answers have {length}; all {self.references} references are within reach"
        are = "reference is" if self.out_of_reach == 1 else "references are"
        return (
            f"answers have {length}; {self.out_of_reach} of {self.references} {are} longer than that or than what the "
            "context leaves, so that no answer can match them"
        )


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has, by its bytes in UTF-8."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def answer_limit(suite: Suite, count: Callable[[str], int], lowered_to: int | None = None) -> int:
    """Return the limit of new tokens for a suite.

    Args:
        suite: Its references decide.
        count: The tokens of a text.
        lowered_to: A limit of the profile's, which may only lower it.
    """
    import numpy as np

    lengths = [count(task.reference) for task in (*suite.train, *suite.held_out) if task.reference]
    limit = math.ceil(MARGIN * float(np.percentile(lengths, PERCENTILE))) if lengths else UNKNOWN_LIMIT
    return max(1, limit if lowered_to is None else min(limit, lowered_to))


def reach(
    limit: int,
    tasks: Iterable[Task],
    count: Callable[[str], int],
    room: Callable[[Task], int | None] = lambda _: None,
    *,
    estimated: bool = False,
) -> Reach:
    """Return how many of the references of `tasks` are out of reach of answers of `limit` new tokens.

    Args:
        limit: The limit of new tokens.
        tasks: Those that are measured.
        count: The tokens of a text.
        room: The tokens that the context leaves for the answer behind a task's prompt; None where that is not known.
        estimated: `count` is an estimate.
    """
    answered = [task for task in tasks if task.reference]
    beyond = 0
    for task in answered:
        left = room(task)
        beyond += count(task.reference) > (limit if left is None else min(limit, left))
    return Reach(limit, beyond, len(answered), estimated)
