"""Where a pool of workers takes its items from."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

Item = TypeVar("Item")
T = TypeVar("T", covariant=True)

_GATHER_S = 2.0
"""Seconds after which a batch goes out although it is not full: a worker would only wait."""


class Source(Protocol[T]):
    """Gives batches of items."""

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""

    def take(self, workers: int) -> Sequence[T]:
        """Return the next batch for one of so many workers; empty where there is none at the moment."""

    def share(self, left: int, workers: int) -> int:
        """Return how many of so many items that are left one of so many workers gets."""

    def wait(self, seconds: float) -> None:
        """Wait for something to take, at most so long."""


class Shares(Generic[Item]):
    """Items that are all there: while there are many, in large batches; the end in one equal share for each worker.

    A decoder runs empty at the end of each batch, and a pass over the weights costs about as much for one row as for
    many. Many small batches, which would let workers end together (guided self-scheduling, Polychronopoulos and Kuck
    1987), cost more than equal shares can differ: simulated with an H100's steps and 64 rows side by side, two workers
    are 1.7 to 1.9 times as fast as one by shares of 136 to 544 answers, 0.8 to 1.3 times by batches that shrink.

    Args:
        items: The items, in the order in which they are to be done.
        unit: How many a pass is worth: what a dead worker leaves is not cut into less.
        largest: No batch is larger: what a dead worker held may have to be tried row by row.
    """

    def __init__(self, items: Iterable[Item], unit: int, largest: int) -> None:
        self._items = deque(items)
        self._unit = max(1, unit)
        self._largest = max(self._unit, largest)
        self._last: int | None = None
        """A worker's share of the end, once that has begun."""

    @property
    def ended(self) -> bool:
        """Whether all is taken."""
        return not self._items

    def take(self, workers: int) -> Sequence[Item]:
        """Return the largest batch while there is one for every worker, then shares of what is left."""
        left, workers = len(self._items), max(1, workers)
        if self._last is None and left <= self._largest * workers:
            self._last = min(self._largest, -(-left // workers))
        count = self._largest if self._last is None else self._last
        return [self._items.popleft() for _ in range(min(left, count))]

    def share(self, left: int, workers: int) -> int:
        """Return a worker's share, no pass cut in two."""
        return left if left < 2 * self._unit else -(-left // max(1, workers))

    def wait(self, seconds: float) -> None:
        """There is nothing to wait for."""


class StreamedBatches(Generic[Item]):
    """Items of an iterator that runs in a thread of its own and is held back when it is too far ahead.

    Use it as a context manager: the thread ends with the block. What the iterator raises, `take` raises.

    Args:
        items: The iterator; it is only touched by the thread.
        batch: How many items make a batch; fewer at the end.
        ahead: So many items at most wait to be taken.
    """

    def __init__(self, items: Iterable[Item], batch: int, ahead: int) -> None:
        self._batch = batch
        self._queue: queue.Queue[Item] = queue.Queue(max(batch, ahead))
        self._held: list[Item] = []
        self._since = 0.0
        self._over = threading.Event()
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._feed, args=(items,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if kind is None:
            self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether all is taken and nothing comes any more."""
        return self._over.is_set() and self._error is None and self._queue.empty() and not self._held

    def take(self, workers: int) -> Sequence[Item]:
        """Return a batch; once the iterator is at its end, a share of what is left."""
        over = self._over.is_set()  # asked first: what came before the end is in the queue by now
        while len(self._held) < self._batch:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if not self._held:
                self._since = time.monotonic()
            self._held.append(item)
        if self._error is not None:
            raise self._error
        if not over and len(self._held) < self._batch and time.monotonic() - self._since < _GATHER_S:
            return []
        left = len(self._held) + self._queue.qsize()
        count = min(len(self._held), -(-left // max(1, workers))) if over else len(self._held)
        batch, self._held = self._held[:count], self._held[count:]
        return batch

    def share(self, left: int, workers: int) -> int:
        """Return a batch at most."""
        return min(left, self._batch)

    def wait(self, seconds: float) -> None:
        """Wait for the iterator, at most so long."""
        if self._queue.empty():
            self._over.wait(seconds)

    def _feed(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                while True:
                    if self._closed.is_set():
                        return
                    try:
                        self._queue.put(item, timeout=0.2)
                        break
                    except queue.Full:
                        continue
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()
