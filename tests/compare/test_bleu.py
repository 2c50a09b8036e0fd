from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from harness.compare.bleu import ORDER, corpus_bleu
from harness.score import similarity

orders = st.lists(st.integers(0, 50), min_size=ORDER, max_size=ORDER)


@given(st.integers(0, 300), st.integers(0, 300), orders, orders)
def test_equals_sacrebleu_for_any_statistics(system: int, reference: int, correct: list[int], extra: list[int]) -> None:
    total = [c + e for c, e in zip(correct, extra, strict=True)]
    ours = corpus_bleu(np.array([system, reference, *correct, *total], dtype=float))
    theirs = (
        BLEU().compute_bleu(list(correct), list(total), system, reference, smooth_method="exp").score if system else 0.0
    )
    assert np.isclose(float(ours), theirs, atol=1e-9)


def test_many_resamples_equal_one_at_a_time() -> None:
    random = np.random.default_rng(0)
    total = random.integers(0, 9, (200, ORDER))
    correct = (total * random.random((200, ORDER))).astype(int)
    sums = np.concatenate([random.integers(1, 40, (200, 2)), correct, total], axis=1).astype(float)
    assert np.allclose(corpus_bleu(sums), [float(corpus_bleu(row)) for row in sums])


def test_agrees_with_the_scorer_and_with_sacrebleu_on_texts() -> None:
    answers = ["<p>one two three four five</p>", "<ul><li>a</li></ul>", "nothing"]
    references = ["<p>one two three four six</p>", "<ul><li>a</li><li>b</li></ul>", "<p>all</p>"]
    counts = [similarity.bleu(a, r).counts for a, r in zip(answers, references, strict=True)]
    sums = np.sum([count for count in counts if count is not None], axis=0)
    expected = BLEU().corpus_score(answers, [references]).score
    assert np.isclose(float(corpus_bleu(sums)), expected)
    assert np.isclose(similarity.corpus_bleu(sums.tolist()), expected)
