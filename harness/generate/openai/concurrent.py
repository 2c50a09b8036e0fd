"""Waits for many answers at once in a thread beside the caller's, and hands each over as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Work = Callable[[ItemT], Awaitable[ResultT]]


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
    waiting = iter(items)
    found: queue.SimpleQueue[ResultT | Future[None]] = queue.SimpleQueue()
    break_off: Future[Callable[[], object]] = Future()

    async def worker(work: Work[ItemT, ResultT]) -> None:
        for item in waiting:
            found.put(await work(item))

    async def work_off() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        break_off.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        async with opening() as work, asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(items))):
                group.create_task(worker(work))

    with ThreadPoolExecutor(1, "answers") as pool:
        end = pool.submit(asyncio.run, work_off())
        end.add_done_callback(found.put)
        try:
            while not isinstance(result := found.get(), Future):
                yield result
            result.result()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                break_off.result()()
