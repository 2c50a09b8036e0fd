"""Workers that die over one item, importable by the processes of a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.cluster.facts import NodeFacts, _node_id
from harness.cluster.files import FileServer
from harness.cluster.workers import ModelWorker, ScoreWorker

POISON = 7
DEADLY_ONCE = -1
"""Kills the first worker that begins it."""


class Doubler:
    """Doubles numbers one by one, and dies of `POISON`; every number it begins is noted in a file."""

    def __init__(self, notes: str, seconds: float = 0) -> None:
        self._notes = Path(notes)
        self._seconds = seconds

    def setup(self) -> NodeFacts:
        return NodeFacts(_node_id(), "here", "", "", {}, {}, "", None, "")

    def prepare(self, seconds: float) -> None:
        time.sleep(seconds)

    def work(self, items: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        for number, item in items:
            again = str(item) in self._notes.read_text().split() if self._notes.exists() else False
            with self._notes.open("a") as stream:
                stream.write(f"{item}\n")
            time.sleep(self._seconds)
            if item == POISON or (item == DEADLY_ONCE and not again):
                time.sleep(1)  # what was yielded is under way
                os._exit(1)
            yield [(number, 2 * item)]


class DyingModelWorker(ModelWorker):
    """Dies over the prompts of one task."""

    def decode(self, order: Any, prompts: list[Any]) -> Iterator[list[tuple[int, Any]]]:
        if any(place[0] == os.environ["POISON_TASK"] for _, (place, _) in prompts):
            os._exit(1)
        yield from super().decode(order, prompts)


class DyingScoreWorker(ScoreWorker):
    """Dies over the reference of one task."""

    def score(self, order: Any, work: list[Any]) -> Iterator[list[tuple[int, Any]]]:
        if any((task.id, done.model) == (os.environ["POISON_TASK"], "reference") for _, (task, done) in work):
            os._exit(1)
        yield from super().score(order, work)


class DistantFiles(FileServer):
    """Files of a machine whose folders cannot be seen from here."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def sizes(self, folder: str) -> dict[str, int]:
        return super().sizes(self._folder)

    def piece(self, folder: str, name: str, offset: int, size: int) -> bytes:
        return super().piece(self._folder, name, offset, size)
