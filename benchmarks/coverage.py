"""How often the intervals hold the truth: simulated experiments with known answers, through the harness' own code.

    python -m benchmarks.coverage [--experiments 10000] [--replicates 1999] [--only PARTS] [--json]

Prints Markdown tables (coverage, false alarms and power in percent), or one JSON object a line. PARTS are continuous,
yes-no, bleu, seeds, gate, power and methods, separated by commas. All experiments of a chunk share one resampling, as
all metrics of a run do. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy import stats

from harness.compare.corpus import corpus_function, corpus_pivot
from harness.compare.estimate import Quantity, estimate_all
from harness.compare.multiplicity import holm
from harness.compare.paired import bonett_price, mcnemar_exact
from harness.compare.power import power_mcnemar
from harness.compare.resample import Floats, Resampler, mean_pivots, variance_freedom
from harness.compare.seeds import SeededPivot

TASKS = (20, 64, 136, 500)
CHUNK = 500
"""Experiments resampled at once: bounds memory."""
Random = np.random.Generator
Pairs = Callable[[Random, int, int], Floats]
"""(random, tasks, experiments) → differences of shape (tasks, experiments) whose true mean is 0."""


def _correlated(random: Random, shape: tuple[int, int], correlation: float) -> tuple[Floats, Floats]:
    first, other = random.normal(size=shape), random.normal(size=shape)
    return first, correlation * first + np.sqrt(1 - correlation**2) * other


def normal(random: Random, n: int, e: int) -> Floats:
    return random.normal(size=(n, e))


def skewed_high(random: Random, n: int, e: int) -> Floats:
    return random.beta(0.4, 0.1, (n, e)) - random.beta(8, 2, (n, e))


def skewed_low(random: Random, n: int, e: int) -> Floats:
    return random.beta(0.5, 2, (n, e)) - random.beta(2, 8, (n, e))


def same_task_beta(random: Random, n: int, e: int) -> Floats:
    first, second = _correlated(random, (n, e), 0.7)
    changes: Floats = stats.beta.ppf(stats.norm.cdf(second), 0.8, 0.5) - stats.beta.ppf(stats.norm.cdf(first), 0.8, 0.5)
    return changes


def checks(random: Random, n: int, e: int) -> Floats:
    chance = random.beta(1, 1, (n, e))
    return (random.binomial(4, chance) - random.binomial(4, chance)) / 4


def mostly_equal(random: Random, n: int, e: int) -> Floats:
    chance = np.where(random.random((n, e)) < 0.7, 1.0, random.beta(1, 1, (n, e)))
    return (random.binomial(4, chance) - random.binomial(4, chance)) / 4


def clustered(random: Random, n: int, e: int) -> Floats:
    chance = random.beta(0.3, 0.3, (n, e))
    return (random.binomial(8, chance) - random.binomial(8, chance)) / 8


CONTINUOUS: dict[str, Pairs] = {
    "normal": normal,
    "bounded, skewed to the top: Beta(0.4, 0.1) − Beta(8, 2)": skewed_high,
    "bounded, skewed to the bottom: Beta(0.5, 2) − Beta(2, 8)": skewed_low,
    "bounded, paired: Beta(0.8, 0.5) each, copula correlation 0.7": same_task_beta,
    "share of 4 checks": checks,
    "share of 4 checks, 70 % of tasks always solved": mostly_equal,
    "8 samples of a yes/no, clustered in their task": clustered,
}


def continuous(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    for name, draw in CONTINUOUS.items():
        for n in TASKS:
            held = 0
            for size in _chunks(experiments):
                values = draw(random, n, size)
                resampler = Resampler(int(random.integers(2**31)), replicates)
                quantities = [Quantity(values[:, i], -np.inf, np.inf, difference=True) for i in range(size)]
                if name != "normal":
                    quantities = [Quantity(q.values, -1.0, 1.0, difference=True) for q in quantities]
                found = estimate_all(quantities, resampler)
                held += sum(f.low is not None and f.high is not None and f.low <= 0 <= f.high for f in found)
            yield {"part": "continuous", "cell": name, "n": n, "coverage": held / experiments}


def yes_no(random: Random, experiments: int, _replicates: int) -> Iterator[dict[str, object]]:
    for gained, lost in ((0.01, 0.01), (0.05, 0.05), (0.15, 0.15), (0.35, 0.35), (0.15, 0.05), (0.3, 0.2)):
        for n in TASKS:
            drawn = random.multinomial(n, [gained, lost, 1 - gained - lost], size=experiments)
            bounds = [_bonett_price(int(up), int(down), n) for up, down, _ in drawn]
            held = sum(low <= gained - lost <= high for low, high in bounds) / experiments
            cell = f"{100 * gained:g} % gained, {100 * lost:g} % lost"
            yield {"part": "yes-no", "cell": cell, "n": n, "coverage": held}


def bleu(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    function = corpus_function("bleu")
    replicates = min(replicates, 499)
    for n in TASKS:
        held, alarms = 0, 0
        for _ in range(experiments):
            length = random.integers(20, 300, n)
            sides = [_bleu_counts(random, length) for _ in range(2)]
            terms = ((-1.0, sides[0]), (1.0, sides[1]))
            pivot = corpus_pivot(terms, function, Resampler(int(random.integers(2**31)), replicates))
            low, high = pivot.bounds()
            held += low <= 0 <= high
            alarms += pivot.p_value() <= 0.05
        cell = {"coverage": held / experiments, "false_alarms": alarms / experiments}
        yield {"part": "bleu", "cell": "corpus BLEU, rows of 20 to 300 tokens", "n": n, **cell}


def _bleu_counts(random: Random, length: np.ndarray) -> Floats:
    n = len(length)
    system = np.maximum(4, (length * random.lognormal(0, 0.3, n)).astype(int))
    totals = np.stack([system - order for order in range(4)], axis=1)
    shares = np.cumprod(random.beta(1.5, 1, (n, 1)) ** np.array([1, 0.5, 0.4, 0.3]), axis=1)
    return np.concatenate([system[:, None], length[:, None], (totals * shares).astype(int), totals], axis=1).astype(
        float
    )


def seeds(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    for trainings in (2, 3, 5):
        for noise in (0.0, 0.05, 0.15):
            for n in (64, 136, 500):
                held = 0
                for size in _chunks(experiments):
                    task = random.normal(0, 0.3, (n, size, 1))
                    training = random.normal(0, noise, (1, size, trainings))
                    values = task + training + random.normal(0, 0.3, (n, size, trainings))
                    pivots = mean_pivots(
                        list(values.mean(axis=2).T), Resampler(int(random.integers(2**31)), replicates)
                    )
                    by_seed = values.mean(axis=0)
                    for i, pivot in enumerate(pivots):
                        low, high = SeededPivot(pivot, (by_seed[i],)).bounds()
                        held += low <= 0 <= high
                cell = f"{trainings} trainings, sd between them {100 * noise:g} points"
                yield {"part": "seeds", "cell": cell, "n": n, "coverage": held / experiments}


def gate(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """Primary metrics that share 0.5 of their noise, half of them yes/no; no true difference."""
    for metrics in (3, 8, 16):
        for n in TASKS:
            worse = either = plain = 0
            for size in _chunks(experiments, CHUNK // 4):
                resampler = Resampler(int(random.integers(2**31)), replicates)
                sides = []
                for _ in range(2):
                    common, own = random.normal(size=(n, size, 1)), random.normal(size=(n, size, metrics))
                    sides.append(stats.norm.cdf(np.sqrt(0.5) * common + np.sqrt(0.5) * own))
                for column in range(metrics):
                    if column % 2 == 0:
                        for side in sides:
                            side[:, :, column] = side[:, :, column] < 0.6
                change = sides[1] - sides[0]
                smooth = [change[:, i, c] for i in range(size) for c in range(1, metrics, 2)]
                pivots = iter(mean_pivots(smooth, resampler))
                for i in range(size):
                    entries: list[dict[str, Any]] = []
                    for column in range(metrics):
                        values = change[:, i, column]
                        if column % 2:
                            pivot = next(pivots)
                            entries.append({"p": pivot.p_value(), "difference": pivot.estimate})
                        else:
                            up, down = int((values > 0).sum()), int((values < 0).sum())
                            entries.append({"p": _mcnemar(up, down), "difference": up - down})
                    plain += any(entry["p"] <= 0.05 and entry["difference"] < 0 for entry in entries)
                    holm(entries)
                    rejected = [entry for entry in entries if entry["p_adjusted"] <= 0.05]
                    worse += any(entry["difference"] < 0 for entry in rejected)
                    either += bool(rejected)
            yield {
                "part": "gate",
                "cell": f"{metrics} primary metrics",
                "n": n,
                "false_alarms": worse / experiments,
                "better_or_worse": either / experiments,
                "uncorrected": plain / experiments,
            }


def power(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """A true difference of 10 points: how often it is found, against what is stated, on average over experiments."""
    for n in (64, 136, 500):
        for gained, lost in ((0.12, 0.02), (0.2, 0.1), (0.3, 0.2)):
            drawn = random.multinomial(n, [gained, lost, 1 - gained - lost], size=experiments)
            shown = sum(_mcnemar(int(up), int(down)) <= 0.05 for up, down, _ in drawn) / experiments
            stated = sum(_power_of_ten_points(int(up + down), n) for up, down, _ in drawn) / experiments
            cell = f"yes/no, {100 * gained:g} % gained, {100 * lost:g} % lost"
            yield {"part": "power", "cell": cell, "n": n, "stated": stated, "found": shown}
        for name, draw in CONTINUOUS.items():
            if name == "normal":
                continue
            found, stated = 0, 0.0
            for size in _chunks(experiments):
                values = draw(random, n, size) + 0.1
                pivots = mean_pivots(list(values.T), Resampler(int(random.integers(2**31)), replicates))
                found += sum(pivot.p_value() <= 0.05 for pivot in pivots)
                stated += sum(pivot.power(0.1) for pivot in pivots if pivot.se)
            yield {"part": "power", "cell": name, "n": n, "stated": stated / experiments, "found": found / experiments}


def methods(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """The candidates for the interval of a mean difference at n = 64, on the same resamples."""
    cases: dict[str, Pairs] = {
        "skewed to the top": skewed_high,
        "Beta(1, 9) − Beta(0.1, 0.9)": lambda r, n, e: r.beta(1, 9, (n, e)) - r.beta(0.1, 0.9, (n, e)),
        "exponential": lambda r, n, e: r.exponential(size=(n, e)) - 1,
        "80 % of differences 0": lambda r, n, e: np.where(r.random((n, e)) < 0.2, r.normal(size=(n, e)), 0.0),
        "share of 4 checks, 70 % of tasks always solved": mostly_equal,
    }
    n, limit, tail = 64, stats.t.ppf(0.975, 63), max(1, int((replicates + 1) * 0.025))
    for name, draw in cases.items():
        held = np.zeros(5)
        for size in _chunks(experiments):
            values = draw(random, n, size)
            centre, se = values.mean(axis=0), stats.sem(values, axis=0)
            deviations = values - centre
            sums = Resampler(int(random.integers(2**31)), replicates).sums(
                np.concatenate([deviations, deviations**2], 1)
            )
            shifts = sums[:, :size] / n
            spreads = np.sqrt(np.maximum((sums[:, size:] / n - shifts**2) / (n - 1), 1e-18))
            t, observed = np.sort(shifts / spreads, axis=0), centre / se
            two_tails = (t[tail - 1] <= observed) & (observed <= t[-tail])
            widest = np.sort(np.abs(t), axis=0)[-2 * tail]
            freedom = [variance_freedom(column) or 1.0 for column in deviations.T]
            bounded = np.minimum(widest, stats.t.ppf(0.975, freedom))
            symmetric, ours = np.abs(observed) <= widest, np.abs(observed) <= bounded
            # BCa (Efron 1987): 0 is held where its rank among the replicates lies between the corrected quantiles.
            below = (shifts < 0).mean(axis=0) + (shifts == 0).mean(axis=0) / 2
            bias = stats.norm.ppf(below)
            acceleration = (deviations**3).sum(axis=0) / (6 * (deviations**2).sum(axis=0) ** 1.5)
            ends = [stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z))) for z in (-1.96, 1.96)]
            rank = (shifts <= -centre).mean(axis=0)
            bca = (ends[0] <= rank) & (rank <= ends[1])
            held += [np.sum(np.abs(observed) <= limit), bca.sum(), two_tails.sum(), symmetric.sum(), ours.sum()]
        t_share, bca_share, tails_share, symmetric_share, ours_share = (float(share) for share in held / experiments)
        yield {
            "part": "methods",
            "cell": name,
            "t": t_share,
            "BCa": bca_share,
            "bootstrap-t, two tails": tails_share,
            "bootstrap-t, symmetric": symmetric_share,
            "bootstrap-t, symmetric and bounded": ours_share,
        }


@cache
def _power_of_ten_points(flips: int, n: int) -> float:
    """What an experiment with so many flips says of itself, as `detectable_mcnemar` does."""
    total = max(flips / n, 0.1)
    return power_mcnemar((total + 0.1) / 2, (total - 0.1) / 2, n)


_bonett_price = lru_cache(maxsize=None)(bonett_price)
_mcnemar = lru_cache(maxsize=None)(mcnemar_exact)
PARTS = {
    "continuous": continuous,
    "yes-no": yes_no,
    "bleu": bleu,
    "seeds": seeds,
    "gate": gate,
    "power": power,
    "methods": methods,
}


def _chunks(experiments: int, size: int = CHUNK) -> Iterator[int]:
    for start in range(0, experiments, size):
        yield min(size, experiments - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--replicates", type=int, default=1_999, help="bootstrap replicates; the harness takes 10,000")
    parser.add_argument("--seed", type=int, default=20_240)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for index, (part, run) in enumerate(PARTS.items()):
        if part not in arguments.only.split(","):
            continue
        if not arguments.json:
            print(f"\n### {part}")
        head: list[str] = []
        for cell in run(np.random.default_rng([arguments.seed, index]), arguments.experiments, arguments.replicates):
            if arguments.json:
                print(json.dumps(cell), flush=True)
                continue
            if not head:
                head = [key for key in cell if key != "part"]
                print("| " + " | ".join(head) + " |\n" + "|---|" + "---:|" * (len(head) - 1))
            shown = [f"{100 * v:.1f}" if isinstance(v, float) else str(v) for k, v in cell.items() if k != "part"]
            print("| " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()
