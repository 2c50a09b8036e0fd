"""Workers that may die: every item is delivered once, and one that kills its worker again and again is named.

A worker is a Ray actor whose method takes numbered items and yields lists of (number, result) as they are done. What a
dead worker had delivered stays delivered; the rest goes to others. Ray's own retries are off: they would start a whole
batch again, and without end.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.cluster.facts import NodeFacts
from harness.cluster.source import Source
from harness.errors import HarnessError

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator
    from ray.actor import ActorHandle

Item = TypeVar("Item")
Result = TypeVar("Result")
Send = Callable[["ActorHandle", list[tuple[int, Item]]], "ObjectRefGenerator"]
"""Hands numbered items to a worker and returns the stream of its results."""
Prepare = Callable[["ActorHandle"], "ObjectRef"]
"""Lets a worker make ready what all items of a map need, such as a model's weights."""

DEATHS = 3
"""An item that was with so many workers when they died, and alone with the last of them, is given up."""

_DEATHS_WITH_NODES = 3 * DEATHS
"""The same, where whole nodes went down with it."""

_DEPTH = 2
"""Batches that a worker holds: one at work and one that waits, so that it never idles for the driver."""

_STILLBORN = 3
"""So many workers in a row that die before they are ready stop the run."""

_PATIENCE_S = 600.0
"""Seconds to wait for the first worker, or for another one when all are gone."""

_STARVED_S = 20.0
"""Seconds without a place for any worker until another pool is asked to give one up."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that no worker survived."""

    why: str


@dataclass(eq=False)
class _Job(Generic[Item]):
    stream: ObjectRefGenerator
    items: dict[int, Item]
    """What is not delivered yet, by number."""


@dataclass(eq=False)
class _Worker(Generic[Item]):
    actor: ActorHandle
    hello: ObjectRef | None
    """The pending answer to `setup`, then to what prepares it for the map; None once the worker is ready."""
    placed: ObjectRef | None = None
    """Pending until the cluster has found a place for the worker."""
    prepare: Prepare | None = None
    """What it was last prepared by."""
    dismissed: bool = False
    """Killed by us, to make room for another pool; its death is held against no item."""
    node: str = ""
    jobs: deque[_Job[Item]] = field(default_factory=deque)


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
        self._workers: list[_Worker[Item]] = []
        self._stillborn = 0
        self._last_sign = self._last_place = time.monotonic()
        self._mapping = False
        self._prepare: Prepare | None = None
        self._again: deque[dict[int, Item]] = deque()
        self._deaths: dict[int, list[str]] = {}
        """For items that saw a worker die: the nodes they were on."""
        self._numbers = itertools.count()

    def recruit(self) -> None:
        """Start what is missing; workers that the cluster has no room for yet stay pending."""
        self._workers = [worker for worker in self._workers if worker.jobs or not worker.dismissed]
        while sum(not worker.dismissed for worker in self._workers) < self.size:
            actor = self._start()
            placed = actor.__ray_ready__.remote()  # asked first: it is answered as soon as the worker has a place
            self._workers.append(_Worker(actor, actor.setup.remote(), placed))

    def make_room(self) -> bool:
        """Dismiss a worker for the sake of another pool, from any thread: an idle one, else one of several.

        What it had at work is done again by the others, and no more than those are wanted from now on. Returns whether
        one was dismissed.
        """
        import ray

        workers = [worker for worker in list(self._workers) if not worker.dismissed]
        alive = _nodes_alive()
        waiting = [worker for worker in workers if not _is_done(worker.placed)]
        held = [
            # those of a node that is gone hold no place any more; `_collect` will find them dead
            worker
            for worker in workers
            if worker not in waiting and (not worker.node or worker.node in alive)
        ]
        if not held or (self._mapping and len(held) == 1):
            return False
        leaving = min(held, key=lambda worker: sum(len(job.items) for job in worker.jobs))
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
            if worker.hello is None and not worker.dismissed:
                self._ready(worker)
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
            if not heads and source.ended and not self._again:
                return
            coming = {
                worker.hello: worker for worker in self._workers if worker.hello is not None and not worker.dismissed
            }
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
        return any(
            worker.hello is None and not worker.dismissed and len(worker.jobs) < self._depth for worker in self._workers
        )

    def _hand_out(self, source: Source[Item], send: Send[Item]) -> Iterator[list[tuple[Item, Result | Lost]]]:
        """Give every free worker something, the idle ones first; yields items that are given up."""
        for depth in range(self._depth):
            for worker in self._workers:
                if worker.hello is not None or worker.dismissed or len(worker.jobs) != depth:
                    continue
                items = self._left_over(source) or {next(self._numbers): item for item in source.take(self.size)}
                if not items:
                    return
                given_up = {number: self._verdict(number) for number in items} if len(items) == 1 else {}
                if any(given_up.values()):
                    (number,) = items
                    self._deaths.pop(number)
                    self._say(f"{self.name}: {given_up[number]}")
                    yield [(items[number], Lost(str(given_up[number])))]
                    continue
                worker.jobs.append(_Job(send(worker.actor, list(items.items())), items))

    def _left_over(self, source: Source[Item]) -> dict[int, Item]:
        """Return a share of what a dead worker left, if there is any."""
        if not self._again:
            return {}
        left = self._again.popleft()
        numbers = list(left)
        count = source.share(len(numbers), self.size)
        if count < len(numbers):
            self._again.appendleft({number: left[number] for number in numbers[count:]})
        return {number: left[number] for number in numbers[:count]}

    def _verdict(self, number: int) -> str:
        """Return why the item is given up, or nothing. Workers that went down with their node do not count."""
        nodes = self._deaths.get(number, [])
        if len(nodes) < DEATHS:
            return ""
        alive = _nodes_alive()
        if sum(node in alive for node in nodes) < DEATHS and len(nodes) < _DEATHS_WITH_NODES:
            return ""
        return f"{len(nodes)} workers died over this row"

    def _greet(self, worker: _Worker[Item]) -> None:
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
        self._ready(worker)

    def _ready(self, worker: _Worker[Item]) -> None:
        """A worker that has said hello is ready, unless the map's items need something of it first."""
        if self._prepare is None or worker.prepare is self._prepare:
            self._stillborn, worker.hello = 0, None
        else:
            worker.prepare = self._prepare
            worker.hello = self._prepare(worker.actor)

    def _collect(self, worker: _Worker[Item]) -> Iterator[list[tuple[Item, Result | Lost]]]:
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
            self._deaths.pop(number, None)
        yield [(job.items.pop(number), result) for number, result in found]

    def _on_worker_death(self, worker: _Worker[Item], error: Exception) -> None:
        """Give a dead worker's rows to others: together once more, then one by one, to find the one that kills."""
        import ray

        ray.kill(worker.actor)  # it may only be out of reach; its rows must not come twice
        self._workers.remove(worker)
        # a job whose rows have all come was over, even if its stream did not say so any more
        first, *queued = [job for job in worker.jobs if job.items] or [_Job(None, {})]
        if worker.dismissed:
            self._again.extend(job.items for job in (first, *queued) if job.items)
            return
        left = sum(len(job.items) for job in worker.jobs)
        self._say(f"{self.name}: a worker died on node {worker.node}; its {left} rows go to others")
        self._again.extend(job.items for job in queued)
        for number in first.items:
            self._deaths.setdefault(number, []).append(worker.node)
        suspects = {number for number in first.items if len(self._deaths[number]) >= DEATHS - 1}
        together = {number: item for number, item in first.items.items() if number not in suspects}
        self._again.extend({number: first.items[number]} for number in suspects)
        if together:
            self._again.append(together)

    def _be_impatient(self, working: bool) -> None:
        if working or any(_is_done(worker.placed) for worker in self._workers if not worker.dismissed):
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


def _is_done(pending: ObjectRef) -> bool:
    import ray

    done, _ = ray.wait([pending], timeout=0)
    return bool(done)


def _nodes_alive() -> set[str]:
    import ray

    return {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}
