"""What dead workers leave: in which batches others try it again, and which item is given up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEATHS = 3
"""An item that was with so many workers when they died, and alone with the last of them, is given up."""

_DEATHS_WITH_NODES = 3 * DEATHS
"""The same, where whole nodes went down with it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that no worker survived."""

    why: str


class Retries(Generic[Item]):
    """Numbered items that wait for another worker.

    Args:
        alive: Returns the nodes that are up.
    """

    def __init__(self, alive: Callable[[], set[str]]) -> None:
        self._alive = alive
        self._waiting: deque[dict[int, Item]] = deque()
        self._deaths: dict[int, list[str]] = {}
        """For items that saw a worker die: the nodes they were on."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting))

    def put_back(self, batches: Iterable[dict[int, Item]]) -> None:
        """Let batches wait whose worker had not begun them, or was not killed by them."""
        self._waiting.extend(batch for batch in batches if batch)

    def put_back_suspects(self, batch: dict[int, Item], node: str) -> None:
        """Let the batch wait that a worker died over: together once more, then one by one, to find the one that kills.

        Args:
            batch: What was not delivered.
            node: Where the worker was.
        """
        for number in batch:
            self._deaths.setdefault(number, []).append(node)
        alone = {number: item for number, item in batch.items() if len(self._deaths[number]) >= DEATHS - 1}
        self.put_back({number: item} for number, item in alone.items())
        self.put_back([{number: item for number, item in batch.items() if number not in alone}])

    def take(self, share: Callable[[int], int]) -> dict[int, Item]:
        """Return the first items of the batch that waits longest; none where none waits.

        Args:
            share: Returns how many of so many are taken.
        """
        if not self._waiting:
            return {}
        batch = self._waiting.popleft()
        numbers = list(batch)
        count = share(len(numbers))
        if count < len(numbers):
            self._waiting.appendleft({number: batch[number] for number in numbers[count:]})
        return {number: batch[number] for number in numbers[:count]}

    def give_up(self, batch: dict[int, Item]) -> Lost | None:
        """Return why the one item of a batch is not tried again, None where it is, or where there are several.

        Workers that went down with their node do not count.
        """
        if len(batch) > 1:
            return None
        (number,) = batch
        nodes = self._deaths.get(number, [])
        if len(nodes) < DEATHS:
            return None
        alive = self._alive()
        if sum(node in alive for node in nodes) < DEATHS and len(nodes) < _DEATHS_WITH_NODES:
            return None
        self.delivered(number)
        return Lost(f"{len(nodes)} workers died over this row")

    def delivered(self, number: int) -> None:
        """Forget what an item saw."""
        self._deaths.pop(number, None)
