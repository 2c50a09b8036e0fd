"""A whole run recomputed by code of its own: numpy and scipy alone, nothing of harness.compare but its result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.compare.compare_data import SCORERS, make_rows, summarise
from tests.conftest import ROOT

REPLICATES, SEED, ALPHA = 10_000, 0, 0.05
Rows = list[dict[str, Any]]
Close = pytest.approx


def embedded() -> tuple[Rows, dict[str, Any]]:
    frozen = json.loads((ROOT / "baselines" / "scores" / "embedded.json").read_text("utf-8"))
    return frozen["rows"], frozen["manifest"]["scorers"]


def sampled() -> tuple[Rows, dict[str, Any]]:
    return make_rows(50, gain=0.12, samples=3, seed=4), SCORERS


def weights(n: int) -> np.ndarray:
    """The documented draws: `n` of `n` tasks with the generator seeded by (seed, n), as counts."""
    drawn = np.random.default_rng([SEED, n]).integers(0, n, size=(REPLICATES, n))
    return np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)


def bleu(sums: np.ndarray) -> float:
    """BLEU of summed statistics: system and reference length, four matches, four totals; smoothed as in mteval."""
    system, reference, correct, total = sums[0], sums[1], sums[2:6], sums[6:10]
    if not correct.any() or (total == 0).any() or system <= 0:
        return 0.0
    logs, k = 0.0, 1.0
    for matches, grams in zip(correct, total, strict=True):
        if matches == 0:
            k /= 2
            logs += math.log(k / grams)
        else:
            logs += math.log(matches / grams)
    return 100 * min(1.0, math.exp(1 - reference / system)) * math.exp(logs / 4)


def gradient(sums: np.ndarray) -> np.ndarray:
    """Of BLEU by its statistics, where every order matches."""
    out = np.zeros(10)
    if sums[0] < sums[1]:
        out[0], out[1] = sums[1] / sums[0] ** 2, -1 / sums[0]
    out[2:6] = np.where(sums[2:6] > 0, 0.25 / np.maximum(sums[2:6], 1e-300), 0.0)
    out[6:10] = np.where(sums[6:10] > 0, -0.25 / np.maximum(sums[6:10], 1e-300), 0.0)
    return out * bleu(sums)


def of_corpus(base: np.ndarray, tuned: np.ndarray) -> dict[str, float]:
    """The difference of corpus BLEU with the symmetric studentised bootstrap over tasks."""
    n = len(base)
    influence = tuned @ gradient(tuned.sum(0)) - base @ gradient(base.sum(0))
    scale = n / (n - 1)
    se = math.sqrt(scale * ((influence - influence.mean()) ** 2).sum())
    estimate = bleu(tuned.sum(0)) - bleu(base.sum(0))
    ts = []
    for w in weights(n):
        sums = w @ base, w @ tuned
        own = tuned @ gradient(sums[1]) - base @ gradient(sums[0])
        own -= (w * own).sum() / n
        ts.append(abs(bleu(sums[1]) - bleu(sums[0]) - estimate) / math.sqrt(scale * (w * own**2).sum()))
    return interval(estimate, se, np.sort(ts), None)


def of_mean(values: np.ndarray) -> dict[str, float]:
    """The mean difference with the same, its critical value bounded by Student's on the variance's own freedom."""
    n = len(values)
    drawn = weights(n)
    deviations = values - values.mean()
    shift = drawn @ deviations / n
    variance = (drawn @ deviations**2 / n - shift**2) / (n - 1)
    flat = variance <= 1e-12 * stats.sem(values) ** 2
    ts = np.where(flat, np.where(shift != 0, np.inf, 0.0), np.abs(shift) / np.sqrt(np.where(flat, 1.0, variance)))
    kurtosis = (deviations**4).mean() / (deviations**2).mean() ** 2
    freedom = min(n - 1, max(1.0, 2 * n / (kurtosis - 1)))
    return interval(float(values.mean()), float(stats.sem(values)), np.sort(ts), freedom)


def interval(estimate: float, se: float, ts: np.ndarray, freedom: float | None) -> dict[str, float]:
    critical = ts[len(ts) - math.floor((len(ts) + 1) * ALPHA)]
    observed = abs(estimate) / se
    p = (float((ts >= observed).sum()) + 1) / (len(ts) + 1)
    if freedom is not None:
        critical = min(critical, stats.t.ppf(1 - ALPHA / 2, freedom))
        least = (float(np.isinf(ts).sum()) + 1) / (len(ts) + 1)
        p = min(p, max(2 * float(stats.t.sf(observed, freedom)), least))
    return {"difference": estimate, "low": estimate - critical * se, "high": estimate + critical * se, "p": p}


def of_flips(values: np.ndarray) -> dict[str, float]:
    n, up, down = len(values), int((values > 0).sum()), int((values < 0).sum())
    p = float(stats.binomtest(up, up + down, 0.5).pvalue) if up + down else 1.0
    a, b = (up + 1) / (n + 2), (down + 1) / (n + 2)
    half = stats.norm.ppf(1 - ALPHA / 2) * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    low, high = max(-1.0, a - b - half), min(1.0, a - b + half)
    if p > ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    return {"difference": (up - down) / n, "low": low, "high": high, "p": p}


def differs_enough(values: np.ndarray) -> bool:
    """Whether the bootstrap speaks: not where so few tasks leave the commonest value that resamples hold none."""
    odd = len(values) - np.unique(np.round(values, 9), return_counts=True)[1].max()
    return bool((1 - odd / len(values)) ** len(values) <= 1e-4)


@pytest.mark.parametrize("data", [embedded, sampled])
def test_every_difference_of_a_run(data: Callable[[], tuple[Rows, dict[str, Any]]]) -> None:

    rows, scorers = data()
    summary = summarise(rows, scorers, pairs=[("base", "tuned")])
    (suite,) = summary["suites"].values()
    recomputed, ps = 0, {}
    for metric, entry in suite["pairs"]["base:tuned"].items():
        sides = []
        for model in ("base", "tuned"):
            by_task: dict[str, list[Any]] = {}
            for row in rows:
                if row["model"] == model and metric in row["scores"]:
                    value = row["counts"][metric] if scorers[metric]["corpus"] else row["scores"][metric]
                    by_task.setdefault(row["task"], []).append(value)
            sides.append(np.array([np.mean(by_task[task], axis=0) for task in sorted(by_task)]))
            assert suite["metrics"][metric][model]["mean"] == Close(
                bleu(sides[-1].sum(0)) if scorers[metric]["corpus"] else sides[-1].mean()
            )
        if scorers[metric]["corpus"]:
            expected = of_corpus(*sides)
        elif scorers[metric]["scale"] == "binary" and len(rows) == len({(r["model"], r["task"]) for r in rows}):
            expected = of_flips(sides[1] - sides[0])
        elif differs_enough(sides[1] - sides[0]):
            expected = of_mean(sides[1] - sides[0])
        else:
            continue
        recomputed += 1
        top = 100.0 if scorers[metric]["scale"] == "percent" else 1.0
        expected |= {"low": max(expected["low"], -top), "high": min(expected["high"], top)}
        for key, value in expected.items():
            assert entry[key] == Close(value, rel=1e-9, abs=1e-12), (metric, key)
        ps[metric] = expected["p"]
    assert recomputed >= 5
    primary = sorted((ps[metric], metric) for metric in summary["primary"])
    running = 0.0
    for rank, (p, metric) in enumerate(primary):
        running = max(running, min(1.0, p * (len(primary) - rank)))
        assert suite["pairs"]["base:tuned"][metric]["p_adjusted"] == Close(running)
