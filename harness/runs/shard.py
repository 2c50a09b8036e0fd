"""A run cut into parts by hand: which tasks are this part's, and what its folder is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.types import Task

_FOLDER = re.compile(r"(?P<run>.+)\.shard-(?P<number>\d+)-of-(?P<count>\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """The part `number` of `count`, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part(self, tasks: Sequence[Task]) -> tuple[Task, ...]:
        """Return every `count`-th task: neighbours in a stratified order go to different parts."""
        return tuple(tasks[self.number - 1 :: self.count])

    def folder_name(self, run: str) -> str:
        """Return the name of the part's folder."""
        return f"{run}.shard-{self.number}-of-{self.count}"

    def whole(self, folder_name: str) -> str:
        """Return the run's name, given the name of a part's folder."""
        return folder_name.removesuffix(self.folder_name(""))


def parse_shard(word: str) -> Shard:
    """Parse `--shard I/N`.

    Raises:
        UsageError: it is not two numbers with 1 ≤ I ≤ N.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", word)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {word} is not I/N", "for example --shard 1/4, the first of four parts")
    return Shard(int(found[1]), int(found[2]))


def is_shard_folder(folder: Path) -> bool:
    """Return whether the folder holds a part of a run, not a whole one."""
    return _FOLDER.fullmatch(folder.name) is not None


def shard_folders(run: str, reports: Path) -> dict[Shard, Path]:
    """Return the folders of a run's parts that are here, in order."""
    found = {}
    for folder in reports.glob(f"{run}.shard-*"):
        match = _FOLDER.fullmatch(folder.name)
        if match and match["run"] == run:
            found[Shard(int(match["number"]), int(match["count"]))] = folder
    return dict(sorted(found.items(), key=lambda item: (item[0].count, item[0].number)))
