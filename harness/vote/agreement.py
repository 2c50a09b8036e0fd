"""The win rate of one model over another by votes, and how often each metric says the same as the voters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.compare.paired import wilson
from harness.compare.resample import Resampler, mean_pivots
from harness.types import Row

Json = dict[str, Any]


def agreement(votes: Sequence[Mapping[str, Any]], rows: Sequence[Row], *, seed: int = 0) -> dict[str, Json]:
    """Return for each pair "first:second" the win rate of the second model and each metric's agreement.

    A voter's last vote on a task counts, earlier ones stay in the file. The win rate is over decided votes (ties and
    "both bad" are counted beside it), with Wilson's interval; where several people voted on one task, tasks are the
    unit and the interval is the bootstrap's over tasks. A metric agrees where it is higher for the chosen page; tasks
    on which it is equal or not measured are counted as `silent`.
    """
    last: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for vote in votes:
        models = sorted((str(vote["left"]), str(vote["right"])))
        last[str(vote.get("voter", "")), str(vote["suite"]), str(vote["task"]), *models] = vote
    scores = {(r["suite"], r["task"], r["model"]): r["scores"] for r in rows if r["sample"] == 0}
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    order = {model: place for place, model in enumerate(dict.fromkeys(_rank(rows)))}
    for vote in last.values():
        first, second = sorted((str(vote["left"]), str(vote["right"])), key=lambda m: (order.get(m, len(order)), m))
        by_pair.setdefault((first, second), []).append(vote)
    return {f"{a}:{b}": _of_pair(a, b, given, scores, seed) for (a, b), given in sorted(by_pair.items())}


def _rank(rows: Sequence[Row]) -> list[str]:
    """Return the models with base first and tuned last, as pairs are written elsewhere."""
    names = sorted({row["model"] for row in rows})
    return sorted(names, key=lambda name: (name != "base", name.startswith("tuned"), name))


def _of_pair(
    first: str,
    second: str,
    votes: Sequence[Mapping[str, Any]],
    scores: Mapping[tuple[str, str, str], Mapping[str, float | None]],
    seed: int,
) -> Json:
    decided = [vote for vote in votes if vote["chosen"] in (first, second)]
    wins = [float(vote["chosen"] == second) for vote in decided]
    out: Json = {
        "votes": len(votes),
        "decided": len(decided),
        "ties": sum(vote["chosen"] == "tie" for vote in votes),
        "both_bad": sum(vote["chosen"] == "both-bad" for vote in votes),
        "voters": len({vote.get("voter", "") for vote in votes}),
        "win_rate": None,
        "low": None,
        "high": None,
        "metrics": {},
    }
    if not decided:
        return out
    out |= _rate(decided, wins, seed, "win_rate")
    for metric in dict.fromkeys(m for v in decided for m in scores.get((v["suite"], v["task"], second), {})):
        agreed, spoken = [], []
        for vote in decided:
            a, b = (scores.get((vote["suite"], vote["task"], model), {}).get(metric) for model in (first, second))
            if a is None or b is None or a == b:
                continue
            spoken.append(vote)
            agreed.append(float((second if b > a else first) == vote["chosen"]))
        entry: Json = {
            "n": len(spoken),
            "silent": len(decided) - len(spoken),
            "agreement": None,
            "low": None,
            "high": None,
        }
        out["metrics"][metric] = entry | (_rate(spoken, agreed, seed, "agreement") if spoken else {})
    return out


def _rate(votes: Sequence[Mapping[str, Any]], values: Sequence[float], seed: int, name: str) -> Json:
    """Return a share of votes with its interval."""
    by_task: dict[tuple[str, str], list[float]] = {}
    for vote, value in zip(votes, values, strict=True):
        by_task.setdefault((vote["suite"], vote["task"]), []).append(value)
    if len(by_task) == len(values):
        low, high = wilson(int(sum(values)), len(values))
        return {name: sum(values) / len(values), "low": low, "high": high}
    means = np.array([sum(of_task) / len(of_task) for of_task in by_task.values()])
    pivot = mean_pivots([means], Resampler(seed))[0]
    low, high = pivot.bounds() if pivot.se else wilson(round(float(means.sum())), len(means))
    return {name: pivot.estimate, "low": max(0.0, low), "high": min(1.0, high)}
