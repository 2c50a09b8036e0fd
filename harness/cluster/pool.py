"""Workers that may die: every item is delivered once, and one that kills its worker again and again is named.

A worker is a Ray actor whose method takes numbered items and yields lists of (number, result) as they are done. What a
dead worker had delivered stays delivered; the rest goes to others. Ray's own retries are off: they would start a whole
batch again, and without end.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.cluster.facts import NodeFacts
from harness.cluster.pool_worker import Job, PoolWorker, Prepare
from harness.cluster.retries import Lost, Retries
from harness.cluster.source import Source
from harness.errors import HarnessError

if TYPE_CHECKING:
    from ray import ObjectRefGenerator
    from ray.actor import ActorHandle

Item = TypeVar("Item")
Result = TypeVar("Result")
Send = Callable[["ActorHandle", list[tuple[int, Item]]], "ObjectRefGenerator"]
"""Hands numbered items to a worker and returns the stream of its results."""

_DEPTH = 2
"""Batches that a worker holds: one at work and one that waits, so that it never idles for the driver."""

_STILLBORN = 3
"""So many workers in a row that die before they are ready stop the run."""

_PATIENCE_S = 600.0
"""Seconds to wait for the first worker, or for another one when all are gone."""

_STARVED_S = 20.0
"""Seconds without a place for any worker until another pool is asked to give one up."""


class WorkerPool(Generic[Item, Result]):
    """So many workers, each replaced when it dies.

    Args:
        name: What the workers are called in messages.
        start: Starts an actor, whose `setup` tells its node's facts.
        size: How many workers there are to be.
        welcome: Called with each worker's facts; it raises when that worker must not be used.
        say: Is told of deaths, one line each.
        depth: How many batches a worker holds.
    """

    starved: Callable[[], bool] = staticmethod(lambda: False)
    """Asked for room when the cluster has no place for a single worker; whether there will be some."""

    def __init__(
        self,
        name: str,
        start: Callable[[], ActorHandle],
        size: int,
        welcome: Callable[[NodeFacts], None],
        say: Callable[[str], None],
        depth: int = _DEPTH,
    ) -> None:
        self.name = name
        self.size = size
        self._start = start
        self._welcome = welcome
        self._say = say
        self._depth = depth
        self._workers: list[PoolWorker[Item]] = []
        self._stillborn = 0
        self._last_sign = self._last_place = time.monotonic()
        self._mapping = False
        self._prepare: Prepare | None = None
        self._retries: Retries[Item] = Retries(_nodes_alive)
        self._numbers = itertools.count()

    def recruit(self) -> None:
        """Start what is missing; workers that the cluster has no room for yet stay pending."""
        self._workers = [worker for worker in self._workers if worker.jobs or not worker.dismissed]
        while sum(not worker.dismissed for worker in self._workers) < self.size:
            actor = self._start()
            placed = actor.__ray_ready__.remote()  # asked first: it is answered as soon as the worker has a place
            self._workers.append(PoolWorker(actor, actor.setup.remote(), placed))

    def make_room(self) -> bool:
        """Dismiss a worker for the sake of another pool, from any thread: an idle one, else one of several.

        What it had at work is done again by the others, and no more than those are wanted from now on. Returns whether
        one was dismissed.
        """
        import ray

        workers = [worker for worker in list(self._workers) if not worker.dismissed]
        alive = _nodes_alive()
        waiting = [worker for worker in workers if not worker.has_place()]
        held = [
            # those of a node that is gone hold no place any more; `_collect` will find them dead
            worker
            for worker in workers
            if worker not in waiting and (not worker.node or worker.node in alive)
        ]
        if not held or (self._mapping and len(held) == 1):
            return False
        leaving = min(held, key=lambda worker: sum(map(len, worker.undelivered())))
        self.size = max(1, len(held) - 1)
        self._say(f"{self.name}: a worker on node {leaving.node} makes room for other work; {self.size} wanted now")
        for worker in (leaving, *waiting):  # one that waits for a place would take this one
            worker.dismissed = True
            ray.kill(worker.actor)
        return True

    def close(self) -> None:
        """Dismiss all workers."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers.clear()

    def map(
        self, source: Source[Item], send: Send[Item], prepare: Prepare | None = None
    ) -> Iterator[list[tuple[Item, Result | Lost]]]:
        """Yield (item, result or `Lost`) lists as they come; `source` is read only as fast as workers are free.

        Args:
            source: Where the items are.
            send: Hands some to a worker.
            prepare: Comes before a worker's first items: one that is not ready gets none, for another may be.

        Raises:
            HarnessError: no worker can be had, or one found its machine at fault.
        """
        self._mapping, self._prepare = True, prepare
        for worker in self._workers:
            if worker.ready:
                self._make_ready(worker)
        try:
            yield from self._map(source, send)
        finally:
            self._mapping = False

    def _map(self, source: Source[Item], send: Send[Item]) -> Iterator[list[tuple[Item, Result | Lost]]]:
        import ray

        self._last_sign = self._last_place = time.monotonic()
        while True:
            self.recruit()
            yield from self._hand_out(source, send)
            heads = {worker.jobs[0].stream: worker for worker in self._workers if worker.jobs}
            if not heads and source.ended and not self._retries:
                return
            coming = {worker.hello: worker for worker in self._workers if worker.coming}
            waited = [*heads, *coming]
            if not waited:
                source.wait(0.2)
                continue
            done, _ = ray.wait(waited, num_returns=1, timeout=1.0 if source.ended or not self._hungry() else 0.05)
            if not done:
                self._be_impatient(bool(heads))
            for ready in done:
                self._last_sign = time.monotonic()
                if ready in coming:
                    self._greet(coming[ready])
                else:
                    yield from self._collect(heads[ready])

    def _hungry(self) -> bool:
        return any(worker.ready and len(worker.jobs) < self._depth for worker in self._workers)

    def _hand_out(self, source: Source[Item], send: Send[Item]) -> Iterator[list[tuple[Item, Result | Lost]]]:
        """Give every free worker something, the idle ones first; yields items that are given up."""
        for depth in range(self._depth):
            for worker in self._workers:
                if not worker.ready or len(worker.jobs) != depth:
                    continue
                items = self._left_over(source) or {next(self._numbers): item for item in source.take(self.size)}
                if not items:
                    return
                lost = self._retries.give_up(items)
                if lost is not None:
                    self._say(f"{self.name}: {lost.why}")
                    yield [(item, lost) for item in items.values()]
                    continue
                worker.jobs.append(Job(send(worker.actor, list(items.items())), items))

    def _left_over(self, source: Source[Item]) -> dict[int, Item]:
        """Return a share of what a dead worker left, if there is any."""
        ready = sum(worker.ready for worker in self._workers)  # those that load still may come too late for it
        return self._retries.take(lambda count: source.share(count, ready))

    def _greet(self, worker: PoolWorker[Item]) -> None:
        import ray

        try:
            found = ray.get(worker.hello)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            self._workers.remove(worker)
            if worker.dismissed:
                return
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                reason = str(error).strip().splitlines()[0]
                raise HarnessError(
                    f"{self.name}: {self._stillborn} workers in a row died while they started: {reason:.160}",
                    "look at their memory, and at `doctor --address`",
                ) from error
            self._say(f"{self.name}: a worker died while it started; another one is started")
            return
        if not worker.node:
            self._welcome(found)
            worker.node = found.node
        self._make_ready(worker)

    def _make_ready(self, worker: PoolWorker[Item]) -> None:
        """A worker that has said hello is ready, unless the map's items need something of it first."""
        if self._prepare is None or worker.prepare is self._prepare:
            self._stillborn, worker.hello = 0, None
        else:
            worker.prepare = self._prepare
            worker.hello = self._prepare(worker.actor)

    def _collect(self, worker: PoolWorker[Item]) -> Iterator[list[tuple[Item, Result | Lost]]]:
        import ray

        job = worker.jobs[0]
        try:
            found = ray.get(next(job.stream))
        except StopIteration:
            worker.jobs.popleft()
            if job.items:
                raise RuntimeError(f"{self.name}: {len(job.items)} items came back without a result") from None
            return
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            self._on_worker_death(worker, error)
            return
        for number, _ in found:
            self._retries.delivered(number)
        yield [(job.items.pop(number), result) for number, result in found]

    def _on_worker_death(self, worker: PoolWorker[Item], error: Exception) -> None:
        """Give a dead worker's rows to others."""
        import ray

        ray.kill(worker.actor)  # it may only be out of reach; its rows must not come twice
        self._workers.remove(worker)
        left = worker.undelivered()
        if worker.dismissed:
            self._retries.put_back(left)
            return
        self._say(f"{self.name}: a worker died on node {worker.node}; its {sum(map(len, left))} rows go to others")
        self._retries.put_back(left[1:])
        if left:
            self._retries.put_back_suspects(left[0], worker.node)

    def _be_impatient(self, working: bool) -> None:
        if working or any(worker.has_place() for worker in self._workers if not worker.dismissed):
            self._last_place = time.monotonic()
        elif time.monotonic() - self._last_place > _STARVED_S:
            self._last_place = time.monotonic()
            self.starved()
        if working or time.monotonic() - self._last_sign < _PATIENCE_S:
            return
        raise HarnessError(
            f"{self.name}: the cluster had no room for a worker in {_PATIENCE_S:.0f} s",
            "look at `ray status`, or ask for less with --actors; the same command goes on from here",
        )


def _nodes_alive() -> set[str]:
    import ray

    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}
