"""One worker of a pool, as the pool knows it: whether it is there and ready, and what it still has to deliver."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator
    from ray.actor import ActorHandle

Item = TypeVar("Item")
Prepare = Callable[["ActorHandle"], "ObjectRef"]
"""Lets a worker make ready what all items of a map need, such as a model's weights."""


@dataclass(eq=False)
class Job(Generic[Item]):
    """A batch that a worker holds."""

    stream: ObjectRefGenerator
    items: dict[int, Item]
    """What is not delivered yet, by number."""


@dataclass(eq=False)
class PoolWorker(Generic[Item]):
    """A Ray actor and what it was asked."""

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
    jobs: deque[Job[Item]] = field(default_factory=deque)

    @property
    def ready(self) -> bool:
        """Whether it takes items."""
        return self.hello is None and not self.dismissed

    @property
    def coming(self) -> bool:
        """Whether it will be ready."""
        return self.hello is not None and not self.dismissed

    def has_place(self) -> bool:
        """Return whether the cluster has found a place for it."""
        import ray

        done, _ = ray.wait([self.placed], timeout=0)
        return bool(done)

    def undelivered(self) -> list[dict[int, Item]]:
        """Return what it still has to deliver, the batch at work first.

        A job whose rows have all come is over, even if its stream does not say so any more.
        """
        return [job.items for job in self.jobs if job.items]
