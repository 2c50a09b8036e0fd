"""BLEU of a whole corpus from sums of sufficient statistics, for many resamples at once.

The arithmetic is sacrebleu's `BLEU.compute_bleu` with exponential smoothing and, where no page has four tokens, with
the effective order; the tests hold the two equal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.compare.resample import Floats

ORDER = 4
STATISTICS = 2 + 2 * ORDER
"""sys_len, ref_len, correct_1..4, total_1..4: the order of sacrebleu's `_compute_score_from_stats`."""


def corpus_bleu(sums: Floats) -> Floats:
    """Return BLEU (0 to 100) for `sums` of shape (..., 10); 0 where nothing matched.

    Orders without n-grams are left out.
    """
    system, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER : STATISTICS]
    there = _there(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(system < reference, np.exp(1 - reference / system), 1.0)
        missing = correct == 0
        # Chen and Cherry's method 3 as in mteval: the k-th order without a match counts as 1 / (2^k · total).
        smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), correct)
        precision = np.where(there, np.log(smoothed / total), 0.0).sum(axis=-1) / there.sum(axis=-1)
        score = 100 * penalty * np.exp(precision)
    nothing = missing.all(axis=-1) | ~there[..., 0] | (system <= 0)
    return np.asarray(np.where(nothing, 0.0, score), dtype=np.float64)


def _there(total: Floats) -> NDArray[np.bool_]:
    """Which orders have n-grams: up to the first one that has none."""
    return np.logical_and.accumulate(total > 0, axis=-1)


def bleu_gradient(sums: Floats) -> Floats:
    """Return ∂BLEU/∂sums, shape like `sums`; 0 where the smoothing holds an order up, or where BLEU is 0.

    With log BLEU = min(0, 1 − ref/sys) + ¼ Σ (log correct_n − log total_n), or the mean over fewer orders.
    """
    system, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER : STATISTICS]
    short = (system < reference) & (system > 0)
    there = _there(total)
    share = 1 / np.maximum(there.sum(axis=-1, keepdims=True), 1)
    out = np.zeros_like(sums)
    np.divide(reference, system**2, out=out[..., 0], where=short)
    np.divide(-1.0, system, out=out[..., 1], where=short)
    np.divide(share, correct, out=out[..., 2 : 2 + ORDER], where=there & (correct > 0))
    np.divide(-share, total, out=out[..., 2 + ORDER :], where=there)
    out *= corpus_bleu(sums)[..., None]
    return out
