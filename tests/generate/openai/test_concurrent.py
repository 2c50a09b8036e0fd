"""Many answers at once: how many, in which order, and what is left when nobody wants any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.generate.openai.concurrent import as_they_come


class Sleeper:
    """Sleeps as many hundredths of a second as it is asked for, and knows who was broken off."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.broken_off: list[int] = []
        self.closed = False

    async def sleep(self, hundredths: int) -> int:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if hundredths < 0:
                raise ValueError(f"{hundredths} is no time")
            await asyncio.sleep(hundredths / 100)
        except asyncio.CancelledError:
            self.broken_off.append(hundredths)
            raise
        finally:
            self.under_way -= 1
        return hundredths

    @contextlib.asynccontextmanager
    async def opening(self) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        try:
            yield self.sleep
        finally:
            self.closed = True


def test_results_come_as_they_finish_and_no_more_than_the_limit_are_under_way() -> None:
    sleeper = Sleeper()
    assert list(as_they_come([20, 5, 1, 1], sleeper.opening, 2)) == [5, 1, 1, 20]
    assert (sleeper.most, sleeper.closed, sleeper.broken_off) == (2, True, [])
    assert list(as_they_come([], sleeper.opening, 2)) == []


def test_whoever_stops_reading_breaks_off_what_is_under_way_and_leaves_no_thread() -> None:
    sleeper, before, started = Sleeper(), threading.active_count(), time.monotonic()
    results = as_they_come([1, 6000, 6000, 6000], sleeper.opening, 3)
    assert next(results) == 1
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)  # as Ctrl-C does while the next answer is waited for
    assert time.monotonic() - started < 10
    assert 1 <= len(sleeper.broken_off) <= 3
    assert sleeper.closed
    assert threading.active_count() == before


def test_the_first_error_is_raised_behind_what_was_answered_and_ends_the_rest() -> None:
    sleeper = Sleeper()
    results = as_they_come([1, 6000, -1, 6000], sleeper.opening, 2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="-1 is no time"):
        next(results)
    assert sleeper.broken_off == [6000]
    assert sleeper.closed


def test_what_cannot_be_opened_is_raised() -> None:
    @contextlib.asynccontextmanager
    async def opening() -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        raise OSError("no connection")
        yield

    with pytest.raises(OSError, match="no connection"):
        list(as_they_come([1], opening, 2))


def test_a_caller_may_have_an_event_loop_of_its_own() -> None:
    async def in_a_notebook() -> list[int]:
        return list(as_they_come([1, 2], Sleeper().opening, 2))

    with ThreadPoolExecutor(1) as apart:  # a browser of another test may have a loop in this thread
        assert apart.submit(asyncio.run, in_a_notebook()).result() == [1, 2]
