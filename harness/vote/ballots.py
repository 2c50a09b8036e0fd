"""Ballots, the questions put to a voter, and the append-only file of votes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.runs.model_name import family
from harness.runs.pairs import Pair
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord
from harness.runs.votes import Vote
from harness.storage.jsonl import append_lines
from harness.types import sha256

Choice = Literal["left", "right", "tie", "both-bad"]
FirstSamples = Mapping[tuple[TaskKey, str], SampleRecord]
"""The rows that votes are given on, by task and model."""
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both-bad")


@dataclass(frozen=True)
class Ballot:
    """Two answers to one task, sides already shuffled; the voter never learns which model stands where."""

    suite: str
    task: str
    prompt: str
    input: str
    prompt_sha: str
    left: SampleRecord
    right: SampleRecord

    @property
    def key(self) -> TaskKey:
        """Suite and task."""
        return TaskKey(self.suite, self.task)


def ballots_of(
    rows: Sequence[SampleRecord],
    tasks: Mapping[TaskKey, TaskRecord],
    pair: Pair,
    *,
    seed: int,
    suite: str | None = None,
) -> list[Ballot]:
    """Return one ballot for each task that both models answered differently, in random order with random sides.

    The first sample of each model stands for it; of a model trained several times, a training drawn for each task.
    Equal pages are left out: there is nothing to choose.
    """
    answers: dict[TaskKey, dict[str, list[SampleRecord]]] = {}
    for row in rows:
        named = next((name for name in pair if stands_for(name, row.model)), None)
        if named and row.sample == 0 and suite in (None, row.suite):
            answers.setdefault(row.of_task, {}).setdefault(named, []).append(row)
    shuffled = random.Random(seed)
    ballots = []
    for key, sides in sorted(answers.items(), key=lambda item: item[0]):
        if len(sides) < 2:
            continue
        drawn = [shuffled.choice(sides[pair.first]), shuffled.choice(sides[pair.second])]
        left, right = shuffled.sample(drawn, 2)
        if left.page == right.page:
            continue
        task = tasks.get(key)
        prompt, given = (task.prompt, task.input) if task else ("", "")
        ballots.append(Ballot(*key, prompt, given, left.prompt_sha, left, right))
    shuffled.shuffle(ballots)
    return ballots


def stands_for(name: str, model: str) -> bool:
    """Whether `name` means this model: by its own name, or by its family's (`tuned` for `tuned#seed1`)."""
    return name in (model, family(model))


def vote_of(ballot: Ballot, choice: Choice, voter: str, time: str) -> Vote:
    """Return the line that is written for one vote: which model stood where, and which was chosen."""
    chosen = {"left": ballot.left.model, "right": ballot.right.model}.get(choice, choice)
    return Vote(
        time=time,
        voter=voter,
        suite=ballot.suite,
        task=ballot.task,
        prompt_sha=ballot.prompt_sha,
        left=ballot.left.model,
        right=ballot.right.model,
        chosen=chosen,
        left_page=sha256(ballot.left.page),
        right_page=sha256(ballot.right.page),
    )


def outdated(vote: Vote, rows: FirstSamples) -> bool:
    """Whether a vote was given on another page than its models have now: the run was measured anew since.

    `rows` are the first samples by task and model.
    """
    sides = ((vote.left, vote.left_page), (vote.right, vote.right_page))
    now = ((rows.get((vote.of_task, model)), sha) for model, sha in sides if sha)
    return any(row is None or sha256(row.page) != sha for row, sha in now)


def last_votes(votes: Sequence[Vote], rows: FirstSamples) -> tuple[list[Vote], list[Vote]]:
    """Return each voter's last vote on each task and pair on pages that are there, and where none is, on pages gone.

    One from before pages were written down counts as long as none was given since. `rows` as of `outdated`.
    """
    there: dict[tuple[str, ...], Vote] = {}
    gone: dict[tuple[str, ...], Vote] = {}
    for vote in votes:
        if vote.left == vote.right:
            continue  # says nothing of two models
        key = (vote.voter, *vote.of_task, *sorted(named(vote).values()))
        if not outdated(vote, rows):
            there[key] = vote
            continue
        gone[key] = vote
        if key in there and not there[key].left_page:
            del there[key]
    return [*there.values()], [vote for key, vote in gone.items() if key not in there]


def named(vote: Vote) -> dict[str, str]:
    """Return under which name each side's model is counted: its family's, unless both are of one family."""
    if family(vote.left) == family(vote.right):
        return {vote.left: vote.left, vote.right: vote.right}
    return {vote.left: family(vote.left), vote.right: family(vote.right)}


def first_samples(rows: Sequence[SampleRecord]) -> dict[tuple[TaskKey, str], SampleRecord]:
    """Return the rows that a vote is given on, by task and model."""
    return {(row.of_task, row.model): row for row in rows if row.sample == 0}


def append_vote(path: Path, vote: Vote) -> None:
    """Append one vote and see it onto the disk before returning.

    Raises:
        HarnessError: the file cannot be written (disk full, read-only).
    """
    append_lines(path, [vote.as_json()])
