"""BLEU of a whole corpus from sums of sufficient statistics, for many resamples at once.

The arithmetic is sacrebleu's `BLEU.compute_bleu` with exponential smoothing; the tests hold the two equal.
"""

from __future__ import annotations

import numpy as np

from harness.compare.resample import Floats

ORDER = 4
STATISTICS = 2 + 2 * ORDER
"""sys_len, ref_len, correct_1..4, total_1..4: the order of sacrebleu's `_compute_score_from_stats`."""


def corpus_bleu(sums: Floats) -> Floats:
    """Return BLEU (0 to 100) for `sums` of shape (..., 10); 0 where nothing matched or an order has no n-grams."""
    system, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER : STATISTICS]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(system < reference, np.exp(1 - reference / system), 1.0)
        missing = correct == 0
        # Chen and Cherry's method 3 as in mteval: the k-th order without a match counts as 1 / (2^k · total).
        smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), correct)
        precision = np.log(smoothed / total).mean(axis=-1)
        score = 100 * penalty * np.exp(precision)
    nothing = missing.all(axis=-1) | (total == 0).any(axis=-1) | (system <= 0)
    return np.asarray(np.where(nothing, 0.0, score), dtype=np.float64)


def bleu_gradient(sums: Floats) -> Floats:
    """Return ∂BLEU/∂sums, shape like `sums`; 0 where the smoothing holds an order up, or where BLEU is 0.

    With log BLEU = min(0, 1 − ref/sys) + ¼ Σ (log correct_n − log total_n).
    """
    system, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER : STATISTICS]
    short = (system < reference) & (system > 0)
    out = np.zeros_like(sums)
    np.divide(reference, system**2, out=out[..., 0], where=short)
    np.divide(-1.0, system, out=out[..., 1], where=short)
    np.divide(1 / ORDER, correct, out=out[..., 2 : 2 + ORDER], where=correct > 0)
    np.divide(-1 / ORDER, total, out=out[..., 2 + ORDER :], where=total > 0)
    out *= corpus_bleu(sums)[..., None]
    return out
