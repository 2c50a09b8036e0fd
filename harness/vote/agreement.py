"""The win rate of one model over another by votes, and how often each metric says the same as the voters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.compare.paired import wilson
from harness.compare.resample import Resampler, mean_pivots
from harness.errors import cannot_write
from harness.runs.folder import AGREEMENT_FILE, SAMPLES_FILE
from harness.runs.model_name import family
from harness.runs.pairs import Pair
from harness.runs.read import load_run, read_votes
from harness.runs.samples import SampleRecord, TaskKey
from harness.runs.votes import Agreement, MetricAgreement, PairVotes, Vote
from harness.storage.atomic import write_atomically
from harness.vote.ballots import FirstSamples, first_samples, last_votes, named


def agreement(
    votes: Sequence[Vote], rows: Sequence[SampleRecord], *, seed: int = 0, pairs: Sequence[Pair] = ()
) -> dict[Pair, PairVotes]:
    """Return for each pair the win rate of the second model and each metric's agreement.

    A voter's last vote on a task counts, earlier ones stay in the file; votes on pages that the run no longer holds
    are counted as `outdated` and nowhere else. The win rate is over decided votes (ties and "both bad" are counted
    beside it), with Wilson's interval; where several people voted on one task, tasks are the unit and the interval is
    the bootstrap's over tasks. A metric agrees where it is higher for the chosen page; tasks on which it is equal or
    not measured are counted as `silent`. Trainings of one model count under its family's name, each vote against the
    scores of the training that it was given on. `pairs` says which model of a pair is the second: those of the run's
    verdicts.
    """
    first = first_samples(rows)
    by_pair: dict[Pair, tuple[list[Vote], list[Vote]]] = {}
    known = {frozenset(pair): pair for pair in pairs}
    order = {model: place for place, model in enumerate(dict.fromkeys(_rank(rows)))}
    for place, of_one_sort in enumerate(last_votes(votes, first)):
        for vote in of_one_sort:
            models = named(vote).values()
            ranked = sorted(models, key=lambda m: (order.get(m, len(order)), m))
            pair = known.get(frozenset(models), Pair(ranked[0], ranked[1]))
            by_pair.setdefault(pair, ([], []))[place].append(vote)
    return {
        pair: _of_pair(pair.second, given, first, seed).with_(outdated=len(outdated))
        for pair, (given, outdated) in sorted(by_pair.items())
    }


def _rank(rows: Sequence[SampleRecord]) -> list[str]:
    """Return the models with base first and tuned last, as pairs are written elsewhere; families before trainings."""
    names = sorted({name for row in rows for name in (row.model, family(row.model))})
    return sorted(names, key=lambda name: (name != "base", name.startswith("tuned"), name))


def _of_pair(second: str, votes: Sequence[Vote], rows: FirstSamples, seed: int) -> PairVotes:
    decided = [vote for vote in votes if vote.chosen in named(vote)]
    found = PairVotes(
        votes=len(votes),
        decided=len(decided),
        ties=sum(vote.chosen == "tie" for vote in votes),
        both_bad=sum(vote.chosen == "both-bad" for vote in votes),
        voters=len({vote.voter for vote in votes}),
        low=None,
        high=None,
    )
    if not decided:
        return found
    rate, low, high = _rate(decided, [float(named(vote)[vote.chosen] == second) for vote in decided], seed)
    known = (_scores(rows, vote, model) for vote in decided for model in (vote.left, vote.right))
    metrics = {
        metric: _of_metric(metric, decided, rows, seed)
        for metric in dict.fromkeys(metric for scored in known for metric in scored)
    }
    return found.with_(win_rate=rate, low=low, high=high, metrics=metrics)


def _scores(rows: FirstSamples, vote: Vote, model: str) -> Mapping[str, float | None]:
    row = rows.get((vote.of_task, model))
    return row.scores if row else {}


def _of_metric(metric: str, decided: Sequence[Vote], rows: FirstSamples, seed: int) -> MetricAgreement:
    agreed, spoken = [], []
    for vote in decided:
        left, right = (_scores(rows, vote, model).get(metric) for model in (vote.left, vote.right))
        if left is None or right is None or math.isclose(left, right, abs_tol=1e-9):
            continue
        spoken.append(vote)
        agreed.append(float((vote.right if right > left else vote.left) == vote.chosen))
    found = MetricAgreement(n=len(spoken), silent=len(decided) - len(spoken), low=None, high=None)
    if not spoken:
        return found
    share, low, high = _rate(spoken, agreed, seed)
    return found.with_(agreement=share, low=low, high=high)


def _rate(votes: Sequence[Vote], values: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Return a share of votes with its interval."""
    by_task: dict[TaskKey, list[float]] = {}
    for vote, value in zip(votes, values, strict=True):
        by_task.setdefault(vote.of_task, []).append(value)
    if len(by_task) == len(values):
        low, high = wilson(int(sum(values)), len(values))
        return sum(values) / len(values), low, high
    means = np.array([sum(of_task) / len(of_task) for of_task in by_task.values()])
    pivot = mean_pivots([means], Resampler(seed))[0]
    low, high = pivot.bounds() if pivot.se else wilson(round(float(means.sum())), len(means))
    return pivot.estimate, max(0.0, low), min(1.0, high)


def write_agreement(run_dir: Path) -> Path | None:
    """Write what the votes of a run say to its `agreement.json` and return that path; None without votes or answers.

    It is a file of its own: votes come after the run, and `summary.json` follows from the run's rows alone.

    Raises:
        UsageError: the folder holds no finished run.
        HarnessError: one of its files is damaged, or the file cannot be written.
    """
    votes = read_votes(run_dir)
    if not votes or not (run_dir / SAMPLES_FILE).is_file():  # it is measured anew, and was stopped
        return None
    run = load_run(run_dir)
    path = run_dir / AGREEMENT_FILE
    content = Agreement(pairs=agreement(votes, run.rows, pairs=run.pairs)).as_json()
    try:
        write_atomically(path, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from None
    return path
