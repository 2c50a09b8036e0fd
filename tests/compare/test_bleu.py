from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from harness.compare.bleu import ORDER, bleu_gradient, corpus_bleu
from harness.compare.corpus import corpus_function, corpus_pivot
from harness.compare.resample import Resampler
from harness.metrics import similarity

orders = st.lists(st.integers(0, 50), min_size=ORDER, max_size=ORDER)


@given(st.integers(0, 300), st.integers(0, 300), orders, orders)
def test_equals_sacrebleu_for_any_statistics(system: int, reference: int, correct: list[int], extra: list[int]) -> None:
    total = [c + e for c, e in zip(correct, extra, strict=True)]
    ours = corpus_bleu(np.array([system, reference, *correct, *total], dtype=float))
    theirs = (
        BLEU()
        .compute_bleu(list(correct), list(total), system, reference, smooth_method="exp", effective_order=True)
        .score
        if system
        else 0.0
    )
    assert np.isclose(float(ours), theirs, atol=1e-9)


def test_a_corpus_of_pages_too_short_for_four_tokens_has_a_bleu() -> None:
    equal = similarity.bleu_tokens(["<b>", "x", "</b>"], ["<b>", "x", "</b>"]).counts
    other = similarity.bleu_tokens(["<b>", "y", "</b>"], ["<b>", "x", "</b>"]).counts
    sums = np.sum([equal, equal, other], axis=0)
    assert corpus_bleu(np.array(equal)) == similarity.corpus_bleu(equal or ()) == 100.0
    assert 0 < float(corpus_bleu(sums)) < 100
    assert float(corpus_bleu(sums)) == pytest.approx(similarity.corpus_bleu(sums.tolist()))
    step = np.eye(len(sums)) * 1e-5
    there = [2, 3, 4, 6, 7, 8]  # but the order without n-grams
    slopes = (corpus_bleu(sums + step) - corpus_bleu(sums - step)) / 2e-5
    assert bleu_gradient(sums)[there] == pytest.approx(slopes[there], rel=1e-3)
    assert bleu_gradient(sums)[[5, 9]].tolist() == [0, 0]


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


def test_the_paired_bootstrap_says_what_sacrebleus_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """sacrebleu gives each system's mean and half width over its resamples, and the p of the difference."""
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    random = np.random.default_rng(2)
    words = [f"w{number}" for number in range(40)]
    references = [list(random.choice(words, random.integers(15, 40))) for _ in range(120)]

    def spoilt(share: float) -> list[str]:
        return [
            " ".join(w if random.random() > share else str(random.choice(words)) for w in line) for line in references
        ]

    for second, clear in ((0.25, False), (0.26, False), (0.4, True)):
        systems = [("base", spoilt(0.25)), ("tuned", spoilt(second))]
        joined = [" ".join(line) for line in references]
        _, found = PairedTest(systems, {"bleu": BLEU()}, [joined], "bs", n_samples=2000, n_jobs=1)()
        theirs = found["BLEU"]
        metric = BLEU(references=[joined])
        counts = [np.array(metric._extract_corpus_statistics(texts, None), dtype=float) for _, texts in systems]
        function, resampler = corpus_function("bleu"), Resampler(0, 4000)
        for result, sums in zip(theirs, counts, strict=True):
            ours = np.sort(function.value(resampler.sums(sums)))
            assert result.score == pytest.approx(float(function.value(sums.sum(axis=0))))
            assert result.mean == pytest.approx(ours.mean(), abs=0.1)
            assert result.ci == pytest.approx((ours[3899] - ours[100]) / 2, rel=0.08)
        pivot = corpus_pivot(((-1.0, counts[0]), (1.0, counts[1])), function, resampler)
        # sacrebleu centres absolute differences, which is one-sided once they are clear of 0: the same from our draws
        assert pivot.shifts is not None
        apart = np.abs(pivot.shifts + pivot.estimate)
        p = theirs[1].p_value
        assert p == pytest.approx(float(np.mean(apart - apart.mean() > abs(pivot.estimate))), abs=0.03)
        assert p <= pivot.p_value() + 0.01  # ours is of two sides, and so the stricter
        assert (pivot.p_value() < 0.01) == clear
