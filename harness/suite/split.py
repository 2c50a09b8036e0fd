"""The held-out split: a property of the suite, the same on every machine and on every day."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Sequence

from harness.types import Task, sha256


def split_hash(train: Iterable[Task], held_out: Iterable[Task]) -> str:
    """Return the SHA-256 over what both parts hold: ids, prompts and references, so that a changed row changes it."""
    digest = hashlib.sha256()
    for part, tasks in (("train", train), ("held_out", held_out)):
        for task in sorted(tasks, key=lambda task: task.id):
            digest.update(f"{part}\0{task.id}\0{task.prompt_sha}\0{sha256(task.reference)}\n".encode())
    return digest.hexdigest()


def split_by_hash(tasks: Sequence[Task], held_out_share: float) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Split into (train, held out), near-duplicates kept together.

    A group of near-duplicates is held out when the SHA-256 of its least prompt hash, read as a number in [0, 1), is
    below `held_out_share`. Adding or removing rows therefore never moves other rows, and order does not matter.
    Where the draw would leave either part empty, the group with the lowest (or highest) number is moved there.
    """
    from harness.suite.leakage import groups

    drawn = sorted((_draw(group), index, group) for index, group in enumerate(groups(tasks)))
    held = [group for number, _, group in drawn if number < held_out_share]
    kept = [group for number, _, group in drawn if number >= held_out_share]
    if not held and len(kept) > 1:
        held.append(kept.pop(0))
    elif not kept and len(held) > 1:
        kept.append(held.pop())
    held_ids = {task.id for group in held for task in group}
    return (
        tuple(task for task in tasks if task.id not in held_ids),
        tuple(task for task in tasks if task.id in held_ids),
    )


def split_by_strata(
    tasks: Sequence[Task], held_out_share: float, by: Collection[str]
) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Split into (train, held out), near-duplicates kept together, each stratum in proportion.

    A group of near-duplicates is one unit, whatever its size, and stands in the stratum of its task with the least
    prompt hash. Strata are `length` (of the reference, in powers of two of characters) and `kind` (see
    `harness.suite.kinds`). Within a stratum groups stand in the order of their hash; along all of them every so many-th
    is held out (systematic sampling, Cochran 1977, chapter 8). The order of rows does not matter, further rows may
    move others.
    """
    from harness.suite.kinds import kind_of
    from harness.suite.leakage import groups

    def stratum(group: Sequence[Task]) -> tuple[str, int]:
        first = min(group, key=lambda task: task.prompt_sha)
        length = min(max(len(first.reference).bit_length(), _SHORTEST), _LONGEST)
        return kind_of(first) if "kind" in by else "", length if "length" in by else 0

    ordered = sorted((stratum(group), _draw(group), index, group) for index, group in enumerate(groups(tasks)))
    held_ids: set[str] = set()
    for number, (_, _, _, group) in enumerate(ordered):
        if _steps(number + 1, held_out_share) > _steps(number, held_out_share):
            held_ids |= {task.id for task in group}
    if not held_ids and len(ordered) > 1:
        held_ids = {task.id for task in ordered[len(ordered) // 2][-1]}
    return (
        tuple(task for task in tasks if task.id not in held_ids),
        tuple(task for task in tasks if task.id in held_ids),
    )


_SHORTEST, _LONGEST = 8, 12
"""Bits of a reference's length in characters, between which lengths are told apart: below 256, ..., from 2,048 on."""


def _steps(number: int, share: float) -> int:
    """How many of the first `number` units are held out."""
    return math.floor(number * share + 0.5)


def development_slice(train: Sequence[Task], count: int) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Split training rows into (rows to train on, development slice of `count` rows), near-duplicates kept together.

    Groups of near-duplicates are drawn in the order of a hash, independent of the one that holds rows out, each
    category in proportion. One that would go beyond `count`, or that lacks a reference to compare with, stays with the
    rows to train on. The slice is smaller than `count` where the groups do not allow more.
    """
    from harness.suite.leakage import groups

    by_category: dict[str, list[tuple[float, list[Task]]]] = {}
    for group in groups(train):
        first = min(group, key=lambda task: task.prompt_sha)
        by_category.setdefault(first.category, []).append((_draw(group, "development"), group))
    order: list[tuple[float, float, list[Task]]] = []
    for members in by_category.values():
        members.sort(key=lambda member: member[0])
        order += [((rank + 0.5) / len(members), draw, group) for rank, (draw, group) in enumerate(members)]
    drawn: set[str] = set()
    for _, _, group in sorted(order, key=lambda place: place[:2]):
        if len(drawn) + len(group) <= count and all(task.reference.strip() for task in group):
            drawn.update(task.id for task in group)
    return (
        tuple(task for task in train if task.id not in drawn),
        tuple(task for task in train if task.id in drawn),
    )


def _draw(group: Sequence[Task], purpose: str = "") -> float:
    return int(sha256(purpose + min(task.prompt_sha for task in group))[:13], 16) / 16**13


def stratified(tasks: Sequence[Task], count: int | None) -> tuple[Task, ...]:
    """Return a fixed part of `tasks`, each category in proportion, in the order of `tasks`; all of them for None.

    Within a category tasks are taken by the hash of their prompt; categories get their shares by largest remainder.
    A larger part holds every smaller part's categories in the same order of draw.
    """
    if count is None or count >= len(tasks):
        return tuple(tasks)
    by_category: dict[str, list[Task]] = {}
    for task in tasks:
        by_category.setdefault(task.category, []).append(task)
    quota = {name: len(members) * count / len(tasks) for name, members in by_category.items()}
    seats = {name: int(share) for name, share in quota.items()}
    by_remainder = sorted(quota, key=lambda name: (seats[name] - quota[name], name))
    for name in by_remainder[: count - sum(seats.values())]:
        seats[name] += 1
    chosen = {
        task.id
        for name, members in by_category.items()
        for task in sorted(members, key=lambda task: task.prompt_sha)[: seats[name]]
    }
    return tuple(task for task in tasks if task.id in chosen)
