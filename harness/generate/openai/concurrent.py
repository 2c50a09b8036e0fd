"""Waits for many answers at once from a thread of its own, and hands each over as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Work = Callable[[ItemT], Awaitable[ResultT]]


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


class _RequestThread(Generic[ItemT, ResultT]):
    def __init__(
        self,
        items: Sequence[ItemT],
        opening: Callable[[], AbstractAsyncContextManager[Work[ItemT, ResultT]]],
        limit: int,
    ) -> None:
        self.waiting = iter(items)
        self.opening = opening
        self.limit = min(limit, len(items))
        self.found: queue.SimpleQueue[ResultT | _End] = queue.SimpleQueue()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.all: asyncio.Task[None] | None = None
        self.thread = threading.Thread(target=self._run, name="answers", daemon=True)

    def _run(self) -> None:
        end = _End()
        try:
            asyncio.run(self._work_off())
        except BaseExceptionGroup as group:
            end = _End(group.exceptions[0])
        except BaseException as error:  # handed over to the thread that waits
            end = _End(error)
        self.found.put(end)

    async def _work_off(self) -> None:
        self.loop, self.all = asyncio.get_running_loop(), asyncio.current_task()
        async with self.opening() as work, asyncio.TaskGroup() as group:
            for _ in range(self.limit):
                group.create_task(self._worker(work))

    async def _worker(self, work: Work[ItemT, ResultT]) -> None:
        for item in self.waiting:
            self.found.put(await work(item))

    def stop(self) -> None:
        """Break off what is under way, and wait until it is."""
        if self.loop is not None and self.all is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self.loop.call_soon_threadsafe(self.all.cancel)
        self.thread.join()


def as_they_come(
    items: Sequence[ItemT], opening: Callable[[], AbstractAsyncContextManager[Work[ItemT, ResultT]]], limit: int
) -> Iterator[ResultT]:
    """Yield the results of at most `limit` items under way at once, in the order in which they finish.

    The event loop lives in a thread, so that it does not matter whether the caller has one. The first error ends the
    work and is raised here; whoever stops reading breaks off what is under way.

    Args:
        items: What is to be done.
        opening: Opens what the work needs, such as a connection, inside the loop, and yields the work.
        limit: How many items are under way at once.
    """
    if not items:
        return
    requests = _RequestThread(items, opening, limit)
    requests.thread.start()
    try:
        while not isinstance(result := requests.found.get(), _End):
            yield result
        if result.error is not None:
            raise result.error
    finally:
        requests.stop()
