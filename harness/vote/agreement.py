"""The win rate of one model over another by votes, and how often each metric says the same as the voters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.compare.paired import wilson
from harness.compare.resample import Resampler, mean_pivots
from harness.errors import cannot_write
from harness.runs.model_name import family
from harness.runs.read import load_run
from harness.runs.schema import SCHEMA
from harness.storage.atomic import write_atomically
from harness.types import Row
from harness.vote.ballots import read_votes

Json = dict[str, Any]
AGREEMENT_FILE = "agreement.json"


def agreement(
    votes: Sequence[Mapping[str, Any]], rows: Sequence[Row], *, seed: int = 0, pairs: Sequence[tuple[str, str]] = ()
) -> dict[str, Json]:
    """Return for each pair "first:second" the win rate of the second model and each metric's agreement.

    A voter's last vote on a task counts, earlier ones stay in the file. The win rate is over decided votes (ties and
    "both bad" are counted beside it), with Wilson's interval; where several people voted on one task, tasks are the
    unit and the interval is the bootstrap's over tasks. A metric agrees where it is higher for the chosen page; tasks
    on which it is equal or not measured are counted as `silent`. Trainings of one model count under its family's name,
    each vote against the scores of the training that it was given on. `pairs` says which model of a pair is the second:
    those of the run's verdicts.
    """
    last: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for vote in votes:
        voter, suite, task = (str(vote.get(key, "")) for key in ("voter", "suite", "task"))
        last[voter, suite, task, *sorted(_named(vote).values())] = vote
    scores = {(r["suite"], r["task"], r["model"]): r["scores"] for r in rows if r["sample"] == 0}
    by_pair: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    known = {frozenset(pair): pair for pair in pairs}
    order = {model: place for place, model in enumerate(dict.fromkeys(_rank(rows)))}
    for vote in last.values():
        models = _named(vote).values()
        ranked = sorted(models, key=lambda m: (order.get(m, len(order)), m))
        first, second = known.get(frozenset(models), (ranked[0], ranked[1]))
        by_pair.setdefault((first, second), []).append(vote)
    return {f"{a}:{b}": _of_pair(b, given, scores, seed) for (a, b), given in sorted(by_pair.items())}


def _named(vote: Mapping[str, Any]) -> dict[str, str]:
    """Return under which name each side's model is counted: its family's, unless both are of one family."""
    left, right = str(vote["left"]), str(vote["right"])
    if family(left) == family(right):
        return {left: left, right: right}
    return {left: family(left), right: family(right)}


def _rank(rows: Sequence[Row]) -> list[str]:
    """Return the models with base first and tuned last, as pairs are written elsewhere; families before trainings."""
    names = sorted({name for row in rows for name in (row["model"], family(row["model"]))})
    return sorted(names, key=lambda name: (name != "base", name.startswith("tuned"), name))


def _of_pair(
    second: str,
    votes: Sequence[Mapping[str, Any]],
    scores: Mapping[tuple[str, str, str], Mapping[str, float | None]],
    seed: int,
) -> Json:
    decided = [vote for vote in votes if vote["chosen"] in _named(vote)]
    wins = [float(_named(vote)[vote["chosen"]] == second) for vote in decided]
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
    known = (scores.get((v["suite"], v["task"], model), {}) for v in decided for model in (v["left"], v["right"]))
    for metric in dict.fromkeys(metric for scored in known for metric in scored):
        agreed, spoken = [], []
        for vote in decided:
            sides = (vote["left"], vote["right"])
            a, b = (scores.get((vote["suite"], vote["task"], model), {}).get(metric) for model in sides)
            if a is None or b is None or a == b:
                continue
            spoken.append(vote)
            agreed.append(float((sides[1] if b > a else sides[0]) == vote["chosen"]))
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


def write_agreement(run_dir: Path) -> Path | None:
    """Write what the votes of a run say to its `agreement.json` and return that path; None for a run without votes.

    It is a file of its own: votes come after the run, and `summary.json` follows from the run's rows alone.

    Raises:
        UsageError: the folder holds no finished run.
        HarnessError: one of its files is damaged, or the file cannot be written.
    """
    votes = read_votes(run_dir)
    if not votes:
        return None
    run = load_run(run_dir)
    path = run_dir / AGREEMENT_FILE
    content = {"schema": SCHEMA, "pairs": agreement(votes, run.rows, pairs=run.pairs)}
    try:
        write_atomically(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from None
    return path
