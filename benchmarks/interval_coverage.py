"""How often the intervals hold the truth: simulated experiments with known answers, through the harness' own code.

    python -m benchmarks.interval_coverage [--experiments 10000] [--replicates 1999] [--only PARTS] [--json]

Prints Markdown tables (coverage, false alarms and power in percent), or one JSON object a line. PARTS are continuous,
constant, yes-no, bleu, groups, seeds, gate, power and methods, separated by commas. All experiments of a chunk share
one resampling, as all metrics of a run do. About fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, lru_cache

import numpy as np
from scipy import stats

from harness.compare.corpus import corpus_function, unit_differences
from harness.compare.estimate import Estimated, Quantity, estimate_all
from harness.compare.exact import agreeing
from harness.compare.multiplicity import holm
from harness.compare.paired import bonett_price, mcnemar_exact
from harness.compare.power import power_mcnemar
from harness.compare.resample import Floats, Resampler, mean_pivots, variance_freedom
from harness.compare.table import by_unit

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


def _holds(found: Estimated, truth: float = 0.0) -> bool:
    """Whether the interval holds the truth; stops where it and the test disagree on 0."""
    assert found.low is not None and found.high is not None and found.p is not None
    assert (found.p <= 0.05) == (found.low > 0 or found.high < 0), found
    return bool(found.low <= truth + 1e-12 and truth - 1e-12 <= found.high)


def _differences(values: Floats, random: Random, replicates: int, span: float = 1.0) -> list[Estimated]:
    """Estimate each column, on one resampling."""
    quantities = [Quantity(column, -span, span, difference=True, tasks=len(column)) for column in values.T]
    return estimate_all(quantities, Resampler(int(random.integers(2**31)), replicates))


def continuous(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    for name, draw in CONTINUOUS.items():
        for n in TASKS:
            held = 0
            for size in _chunks(experiments):
                span = np.inf if name == "normal" else 1.0
                held += sum(map(_holds, _differences(draw(random, n, size), random, replicates, span)))
            yield {"part": "continuous", "cell": name, "n": n, "coverage": held / experiments}


LITTLE_SPREAD: dict[str, tuple[tuple[float, float], ...]] = {
    "no task differs": ((0.0, 1.0),),
    "1 % gain 100 points, 1 % lose them": ((1.0, 0.01), (-1.0, 0.01), (0.0, 0.98)),
    "2 % gain 50 points, 1 % lose 100": ((0.5, 0.02), (-1.0, 0.01), (0.0, 0.97)),
    "4 % gain 25 points, 4 % lose them": ((0.25, 0.04), (-0.25, 0.04), (0.0, 0.92)),
    "every task loses 100 points": ((-1.0, 1.0),),
    "every task loses 10 points": ((-0.1, 1.0),),
    "97 % lose 100 points, 3 % none": ((-1.0, 0.97), (0.0, 0.03)),
    "95 % lose 30 points, 5 % none": ((-0.3, 0.95), (0.0, 0.05)),
    "95 % gain 20 points, 5 % lose 20": ((0.2, 0.95), (-0.2, 0.05)),
}
"""Differences of a task with their chances, where samples have no spread or hardly any."""


def constant(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """Data without spread, or with hardly any: coverage of the true mean, and how often a difference is shown."""
    for name, levels in LITTLE_SPREAD.items():
        truth = sum(level * chance for level, chance in levels)
        for n in (6, *TASKS):
            held = shown = 0
            for size in _chunks(experiments):
                values = random.choice([level for level, _ in levels], (n, size), p=[chance for _, chance in levels])
                found = _differences(values, random, replicates)
                held += sum(_holds(each, truth) for each in found)
                shown += sum(each.p is not None and each.p <= 0.05 for each in found)
            cell = {"coverage": held / experiments, "shown": shown / experiments}
            yield {"part": "constant", "cell": name, "n": n, **cell}


def groups(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """Near-duplicates in groups of 1 to 10 that share most of their noise; no true difference."""
    function = corpus_function("bleu")
    for sizes in ((1, 1), (1, 4), (4, 4), (10, 10), (1, 10)):
        name = f"groups of {sizes[0]}" if sizes[0] == sizes[1] else f"groups of {sizes[0]} to {sizes[1]}"
        for n in TASKS:
            counted: dict[str, list[int]] = {}
            plain = 0
            for size in _chunks(experiments, CHUNK // 10):
                unit = np.repeat(np.arange(n), random.integers(sizes[0], sizes[1] + 1, n))
                tasks, resampler = len(unit), Resampler(int(random.integers(2**31)), min(replicates, 999))
                # what a group's tasks share: each model's skill on it; most answers within a group are alike
                skill = random.beta(0.3, 0.3, (2, n, size))[:, unit]
                yes = (random.random(skill.shape) < skill).astype(float)
                share = random.binomial(4, skill) / 4
                quantities = [
                    Quantity(by_unit(change, unit), -1.0, 1.0, kind == "yes/no", True, tasks=tasks)
                    for kind, both in (("yes/no", yes), ("share of 4 checks", share))
                    for change in (both[1] - both[0]).T
                ]
                labels = ["yes/no"] * size + ["share of 4 checks"] * size
                if n < 500:
                    few = max(1, size // 5)
                    for _ in range(few):
                        length = random.integers(20, 300, n)[unit]
                        sides = [by_unit(_bleu_counts(random, length, unit), unit) for _ in range(2)]
                        terms = ((-1.0, sides[0]), (1.0, sides[1]))
                        values = unit_differences(terms, function)
                        quantities.append(Quantity(values, -100.0, 100.0, False, True, (), terms, function, tasks))
                        labels.append("corpus BLEU")
                for label, found in zip(labels, estimate_all(quantities, resampler), strict=True):
                    assert found.p is not None
                    held = counted.setdefault(label, [0, 0, 0])
                    held[0], held[1], held[2] = held[0] + _holds(found), held[1] + (found.p <= 0.05), held[2] + 1
                for change in (yes[1] - yes[0]).T:
                    plain += _mcnemar(int((change > 0).sum()), int((change < 0).sum())) <= 0.05
            for label, (held_in, alarms, number) in counted.items():
                cell = {"coverage": held_in / number, "false_alarms": alarms / number}
                alone = plain / experiments if label == "yes/no" else "–"
                yield {"part": "groups", "cell": f"{label}, {name}", "n": n, **cell, "as if tasks": alone}


def yes_no(random: Random, experiments: int, _replicates: int) -> Iterator[dict[str, object]]:
    for gained, lost in ((0.01, 0.01), (0.05, 0.05), (0.15, 0.15), (0.35, 0.35), (0.15, 0.05), (0.3, 0.2)):
        for n in TASKS:
            drawn = random.multinomial(n, [gained, lost, 1 - gained - lost], size=experiments)
            bounds = [_paired(int(up), int(down), n) for up, down, _ in drawn]
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
            quantity = Quantity(unit_differences(terms, function), -100.0, 100.0, False, True, (), terms, function, n)
            (found,) = estimate_all([quantity], Resampler(int(random.integers(2**31)), replicates))
            assert found.p is not None
            held += _holds(found)
            alarms += found.p <= 0.05
        cell = {"coverage": held / experiments, "false_alarms": alarms / experiments}
        yield {"part": "bleu", "cell": "corpus BLEU, rows of 20 to 300 tokens", "n": n, **cell}


def _bleu_counts(random: Random, length: np.ndarray, unit: np.ndarray | None = None) -> Floats:
    """Statistics of each task's answer; tasks of one `unit` match their references equally well."""
    n = len(length)
    system = np.maximum(4, (length * random.lognormal(0, 0.3, n)).astype(int))
    totals = np.stack([system - order for order in range(4)], axis=1)
    quality = random.beta(1.5, 1, (n, 1))
    quality = quality if unit is None else quality[unit]
    shares = np.cumprod(quality ** np.array([1, 0.5, 0.4, 0.3]), axis=1)
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
                    by_seed = values.mean(axis=0)
                    quantities = [
                        Quantity(values[:, i].mean(axis=1), -np.inf, np.inf, False, True, (by_seed[i],), tasks=n)
                        for i in range(size)
                    ]
                    held += sum(
                        map(_holds, estimate_all(quantities, Resampler(int(random.integers(2**31)), replicates)))
                    )
                cell = f"{trainings} trainings, sd between them {100 * noise:g} points"
                yield {"part": "seeds", "cell": cell, "n": n, "coverage": held / experiments}


def gate(random: Random, experiments: int, replicates: int) -> Iterator[dict[str, object]]:
    """Primary metrics that share 0.5 of their noise, half of them yes/no; no true difference."""
    for metrics in (3, 8, 16):
        for n in TASKS:
            worse = either = plain = 0
            for size in _chunks(experiments, CHUNK // 4):
                sides = []
                for _ in range(2):
                    common, own = random.normal(size=(n, size, 1)), random.normal(size=(n, size, metrics))
                    sides.append(stats.norm.cdf(np.sqrt(0.5) * common + np.sqrt(0.5) * own))
                for column in range(metrics):
                    if column % 2 == 0:
                        for side in sides:
                            side[:, :, column] = side[:, :, column] < 0.6
                change = sides[1] - sides[0]
                smooth = np.stack([change[:, i, c] for i in range(size) for c in range(1, metrics, 2)], axis=1)
                estimates = iter(_differences(smooth, random, replicates))
                for i in range(size):
                    entries: list[tuple[float | None, float]] = []  # p and difference of each metric
                    for column in range(metrics):
                        values = change[:, i, column]
                        if column % 2:
                            found = next(estimates)
                            entries.append((found.p, found.value or 0.0))
                        else:
                            up, down = int((values > 0).sum()), int((values < 0).sum())
                            entries.append((_mcnemar(up, down), up - down))
                    plain += any(p is not None and p <= 0.05 and moved < 0 for p, moved in entries)
                    adjusted = zip(holm([p for p, _ in entries]), entries, strict=True)
                    rejected = [moved for p, (_, moved) in adjusted if p is not None and p <= 0.05]
                    worse += any(moved < 0 for moved in rejected)
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
                seed = int(random.integers(2**31))
                pivots = mean_pivots(list(values.T), Resampler(seed, replicates))
                shown_here = _differences(values, np.random.default_rng(seed), replicates)
                found += sum(each.p is not None and each.p <= 0.05 for each in shown_here)
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


_mcnemar = lru_cache(maxsize=None)(mcnemar_exact)


@cache
def _paired(gained: int, lost: int, n: int) -> tuple[float, float]:
    return agreeing((gained - lost) / n, *bonett_price(gained, lost, n), _mcnemar(gained, lost))


PARTS = {
    "continuous": continuous,
    "constant": constant,
    "yes-no": yes_no,
    "bleu": bleu,
    "groups": groups,
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
