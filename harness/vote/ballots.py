"""Ballots, the questions put to a voter, and the append-only file of votes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.runs.model_name import family
from harness.runs.schema import SCHEMA, upgraded
from harness.storage.jsonl import append_lines, read_lines
from harness.types import Row

Choice = Literal["left", "right", "tie", "both-bad"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both-bad")
VOTES_FILE = "votes.jsonl"


@dataclass(frozen=True)
class Ballot:
    """Two answers to one task, sides already shuffled; the voter never learns which model stands where."""

    suite: str
    task: str
    prompt: str
    input: str
    prompt_sha: str
    left: Row
    right: Row

    @property
    def key(self) -> tuple[str, str]:
        """Suite and task."""
        return self.suite, self.task


def ballots_of(
    rows: Sequence[Row],
    tasks: Mapping[tuple[str, str], Mapping[str, Any]],
    pair: tuple[str, str],
    *,
    seed: int,
    suite: str | None = None,
) -> list[Ballot]:
    """Return one ballot for each task that both models answered differently, in random order with random sides.

    The first sample of each model stands for it; of a model trained several times, a training drawn for each task.
    Equal pages are left out: there is nothing to choose.
    """
    answers: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        named = next((name for name in pair if stands_for(name, row["model"])), None)
        if named and row["sample"] == 0 and suite in (None, row["suite"]):
            answers.setdefault((row["suite"], row["task"]), {}).setdefault(named, []).append(row)
    shuffled = random.Random(seed)
    ballots = []
    for key, sides in sorted(answers.items(), key=lambda item: item[0]):
        if len(sides) < 2:
            continue
        left, right = shuffled.sample([shuffled.choice(sides[pair[0]]), shuffled.choice(sides[pair[1]])], 2)
        if left.get("page") == right.get("page"):
            continue
        task = tasks.get(key, {})
        prompt, given = str(task.get("prompt", "")), str(task.get("input") or "")
        ballots.append(Ballot(*key, prompt, given, str(left.get("prompt_sha", "")), left, right))
    shuffled.shuffle(ballots)
    return ballots


def stands_for(name: str, model: str) -> bool:
    """Whether `name` means this model: by its own name, or by its family's (`tuned` for `tuned#seed1`)."""
    return name in (model, family(model))


def vote_of(ballot: Ballot, choice: Choice, voter: str, time: str) -> dict[str, Any]:
    """Return the line that is written for one vote: which model stood where, and which was chosen."""
    chosen = {"left": ballot.left["model"], "right": ballot.right["model"]}.get(choice, choice)
    return {
        "schema": SCHEMA,
        "time": time,
        "voter": voter,
        "suite": ballot.suite,
        "task": ballot.task,
        "prompt_sha": ballot.prompt_sha,
        "left": ballot.left["model"],
        "right": ballot.right["model"],
        "chosen": chosen,
    }


def append_vote(path: Path, vote: Mapping[str, Any]) -> None:
    """Append one vote and see it onto the disk before returning.

    Raises:
        HarnessError: the file cannot be written (disk full, read-only).
    """
    append_lines(path, [vote])


def read_votes(run_dir: Path) -> list[dict[str, Any]]:
    """Return the votes of a run in the order they were given; torn lines are dropped, no file is no votes."""
    path = run_dir / VOTES_FILE
    return [
        upgraded(vote, path) for vote in read_lines(path) if {"suite", "task", "left", "right", "chosen"} <= vote.keys()
    ]
