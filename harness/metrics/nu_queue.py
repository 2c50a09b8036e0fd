"""Which page the next free checker process gets, where several callers wait for many pages of unknown cost.

Fair queueing (Demers, Keshav and Shenker 1989) by the seconds that each caller's pages have been at work: whoever asks
for one page does not wait for those of another who asks for a thousand, slow ones among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict


class NuMessage(TypedDict, total=False):
    """One of Nu's messages in its JSON output, as far as it is read. Places count from 1."""

    type: str
    subType: str
    message: str
    url: str
    firstLine: int
    """Left out where the message lies on one line."""
    lastLine: int
    firstColumn: int
    lastColumn: int


Told: TypeAlias = list[NuMessage] | str
"""Nu's messages about a page, or why there are none."""


@dataclass(eq=False, slots=True)
class Page:
    """One page that somebody waits for."""

    call: Call
    index: int
    document: bytes
    tried: bool = False
    """Whether a process has ended by itself under it."""


@dataclass(eq=False, slots=True)
class Call:
    """What one caller asked for."""

    found: list[Told]
    spent: float
    """Seconds that its pages have been at work, counted from the share that it joined with."""
    left: int
    waiting: deque[Page] = field(default_factory=deque)
    at_work: int = 0
    slow: int = 0
    """How many of those at work are known to be slow."""
    failure: Exception | None = None


class Queue:
    """The callers that wait, in the order in which they came; its user holds a lock."""

    def __init__(self, most_at_once: int) -> None:
        self._most_at_once = most_at_once
        self.calls: list[Call] = []

    def __len__(self) -> int:
        """How many pages wait."""
        return sum(len(call.waiting) for call in self.calls)

    def add(self, documents: Sequence[bytes]) -> Call:
        """Append a caller, whose shortest pages go first: one that takes long is begun when most are done."""
        joins_with = min((call.spent for call in self.calls), default=0.0)
        call = Call([""] * len(documents), joins_with, len(documents))
        order = sorted(range(len(documents)), key=lambda index: len(documents[index]))
        call.waiting.extend(Page(call, index, documents[index]) for index in order)
        self.calls.append(call)
        return call

    def take(self, last: bool) -> Page | None:
        """Take the next page to work on, None where no caller may have another one now.

        No caller has more than `most_at_once` pages at work, and the `last` process without a slow page goes only to
        a caller who has none at work elsewhere: so nobody's slow pages hold all of them.
        """
        able = [call for call in self.calls if call.waiting and call.at_work < self._most_at_once]
        if last:
            able = [call for call in able if not call.slow]
        if not able:
            return None
        call = min(able, key=lambda call: (call.spent, call.at_work, len(call.waiting[0].document)))
        call.at_work += 1
        return call.waiting.popleft()

    def back(self, page: Page) -> None:
        """Put a page before all others of its caller, where it was taken without an outcome."""
        page.call.waiting.appendleft(page)

    def drop(self, call: Call, failure: Exception | None = None) -> None:
        """Forget a caller who has all, gave up, or fails; its pages at work are nobody's from here on."""
        call.failure = call.failure or failure
        call.waiting.clear()
        if call in self.calls:
            self.calls.remove(call)
