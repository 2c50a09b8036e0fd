"""Corpus metrics: one number of a whole corpus, from sums of its rows' statistics, resampled as a corpus."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.compare.bleu import bleu_gradient, corpus_bleu
from harness.compare.resample import Floats, Pivot, Resampler, mean_pivots, standard_errors, studentise

Term = tuple[float, Floats]
"""A factor and the statistics of each task, shape (n, p): the estimate is Σ factor · f(column sums)."""
_STEP = 1e-4


@dataclass(frozen=True)
class CorpusFunction:
    """A function of summed statistics, shape (..., p) → (...), with its gradient where many sums cost little more."""

    value: Callable[[Floats], Floats]
    gradient: Callable[[Floats], Floats] | None = None


def corpus_function(metric: str) -> CorpusFunction:
    """Return the corpus function of a metric: BLEU's own for both BLEU metrics, else what the registry names."""
    if metric in {"bleu", "bleu_dom"}:
        return CorpusFunction(corpus_bleu, bleu_gradient)
    from harness.metrics.registry import metric as registered

    single = registered(metric).corpus
    if single is None:
        raise ValueError(f"{metric} is marked as a corpus metric but the registry has no corpus function for it")

    def value(sums: Floats) -> Floats:
        return np.asarray(np.apply_along_axis(lambda row: float(single(row.tolist())), -1, sums))

    return CorpusFunction(value)


def numeric_gradient(function: Callable[[Floats], Floats], sums: Floats) -> Floats:
    """Return ∂f/∂sums by central differences of a relative step, shape like `sums`; 0 where a sum is 0."""
    out = np.zeros_like(sums)
    for column in range(sums.shape[-1]):
        step = sums[..., column] * _STEP
        moved = sums.copy()
        moved[..., column] += step
        upper = function(moved)
        moved[..., column] -= 2 * step
        np.divide(upper - function(moved), 2 * step, out=out[..., column], where=step != 0)
    return out


def corpus_value(terms: Sequence[Term], function: CorpusFunction) -> float:
    """Return Σ factor · f(column sums) over the terms."""
    return float(sum(factor * function.value(counts.sum(axis=0)) for factor, counts in terms))


def unit_differences(terms: Sequence[Term], function: CorpusFunction) -> Floats:
    """Return Σ factor · f of each unit by itself, shape (n,): what a test of a corpus without spread rests on."""
    return np.asarray(sum(factor * function.value(counts) for factor, counts in terms), dtype=np.float64)


def corpus_pivot(terms: Sequence[Term], function: CorpusFunction, resampler: Resampler) -> Pivot:
    """Return the pivot of a corpus metric, or of a difference of two, over tasks.

    The standard error of the estimate and of every replicate is the infinitesimal jackknife's: with the influence
    L_i = ∇f · s_i of task i, se² = n / (n − 1) · Σ w_i (L_i − L̄)² (Efron and Tibshirani 1993, section 21).
    A function that takes one vector at a time is made linear in the tasks instead (the delta method) and resampled as
    their mean.
    """
    n = len(terms[0][1])
    estimate = corpus_value(terms, function)
    slope = function.gradient or (lambda sums: numeric_gradient(function.value, sums))
    influence = np.zeros(n)
    for factor, counts in terms:
        influence += factor * (counts @ slope(counts.sum(axis=0)))
    scale = n / max(n - 1, 1)
    variance = scale * float(((influence - influence.mean()) ** 2).sum())
    if function.gradient is None:
        linear = mean_pivots([estimate + n * (influence - influence.mean())], resampler)[0]
        return replace(linear, influence=influence)
    shifts = np.empty(resampler.replicates)
    variances = np.empty(resampler.replicates)
    for where, weights in resampler.blocks(n):
        values, influences = np.zeros(len(weights)), np.zeros_like(weights)
        for factor, counts in terms:
            sums = weights @ counts
            values += factor * function.value(sums)
            influences += factor * (slope(sums) @ counts.T)
        centre = np.einsum("bn,bn->b", weights, influences) / n
        influences -= centre[:, None]
        shifts[where] = values - estimate
        variances[where] = scale * np.einsum("bn,bn,bn->b", weights, influences, influences)
    return Pivot(
        estimate,
        float(np.sqrt(variance)),
        studentise(shifts, variances, variance),
        shifts=shifts,
        errors=standard_errors(variances, variance),
        influence=influence,
    )
