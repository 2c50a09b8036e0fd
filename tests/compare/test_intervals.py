from __future__ import annotations

import gc
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from harness.compare.bleu import bleu_gradient
from harness.compare.corpus import CorpusFunction, corpus_function, corpus_pivot, numeric_gradient
from harness.compare.estimate import few_bounds
from harness.compare.multiplicity import holm
from harness.compare.paired import bonett_price, mcnemar_exact, wilson
from harness.compare.power import detectable_mcnemar, detectable_mean, power_mcnemar, power_mean
from harness.compare.resample import Pivot, Resampler, mean_pivots
from harness.compare.seeds import SeededPivot
from harness.runs.model_name import family
from tests.compare.compare_data import make_rows


def test_mean_pivot_is_the_symmetric_bootstrap_t_computed_replicate_by_replicate() -> None:
    values = np.random.default_rng(1).exponential(size=30)
    resampler = Resampler(seed=3, replicates=300)
    pivot = mean_pivots([values], resampler)[0]
    weights = next(iter(Resampler(seed=3, replicates=300).blocks(30)))[1]
    ts = []
    for row in weights.astype(int):
        drawn = np.repeat(values, row)
        ts.append(abs(drawn.mean() - values.mean()) / (drawn.std(ddof=1) / math.sqrt(30)))
    assert np.allclose(pivot.t, np.sort(ts))
    low, high = pivot.bounds()
    freedom = 2 * 30 / stats.kurtosis(values, fisher=False) / (1 - 1 / stats.kurtosis(values, fisher=False))
    critical = min(np.sort(ts)[300 - 15], stats.t.ppf(0.975, freedom))
    assert np.allclose([low, high], values.mean() + np.array([-1, 1]) * critical * stats.sem(values))


def test_the_critical_value_is_bounded_only_where_few_tasks_differ() -> None:
    random = np.random.default_rng(4)
    many = random.normal(size=(40, 64))
    few = np.where(random.random((40, 64)) < 0.18, many, 0.0)
    kept = []
    for samples in (few, many):
        pivots = mean_pivots(list(samples), Resampler(0, 1999))
        free = [replace(pivot, freedom=None) for pivot in pivots]
        halves = [(a.bounds()[1] - a.estimate, b.bounds()[1] - b.estimate) for a, b in zip(pivots, free, strict=True)]
        assert all(bounded <= wide for bounded, wide in halves)
        assert all(one.p_value() <= other.p_value() for one, other in zip(pivots, free, strict=True))
        kept.append(np.mean([bounded / wide for bounded, wide in halves if np.isfinite(wide)]))
    assert kept[0] < 0.98
    assert kept[1] > 0.99


def test_the_power_stated_is_the_t_tests_for_normal_scores_and_found_by_simulation_for_skewed_ones() -> None:
    random = np.random.default_rng(9)
    normal = stats.norm.ppf((np.arange(136) + 0.5) / 136)
    pivot = mean_pivots([normal], Resampler(0, 4999))[0]
    assert pivot.power(0.2) == pytest.approx(power_mean(0.2, float(normal.std(ddof=1)), 136), abs=0.03)
    assert pivot.detectable() == pytest.approx(detectable_mean(float(normal.std(ddof=1)), 136), rel=0.05)
    # Beta(1, 9) − Beta(0.1, 0.9): the t test's power would be 93 % at 64 tasks
    draws = random.beta(1, 9, (64, 600)) - random.beta(0.1, 0.9, (64, 600)) + 0.1
    pivots = mean_pivots(list(draws.T), Resampler(0, 499))
    stated = float(np.mean([each.power(0.1) for each in pivots]))
    found = float(np.mean([each.p_value() <= 0.05 for each in pivots]))
    assert stated == pytest.approx(found, abs=0.05)
    assert power_mean(0.1, float(draws.std(ddof=1)), 64) > found + 0.04


def test_replicate_means_spread_like_scipys_bootstrap() -> None:
    values = np.random.default_rng(2).beta(0.5, 2, 80)
    ours = Resampler(0, 10_000).sums(values[:, None])[:, 0] / 80
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(0))
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.03)


def test_normal_data_give_almost_the_t_interval() -> None:
    values = np.random.default_rng(5).normal(1, 2, 400)
    low, high = mean_pivots([values], Resampler())[0].bounds()
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert np.allclose([low, high], expected, atol=0.01)


def test_weights_depend_on_seed_and_length_alone() -> None:
    one, other = Resampler(7, 50), Resampler(7, 50)
    other.sums(np.ones((9, 1)))
    assert np.array_equal(one.sums(np.arange(20.0)[:, None]), other.sums(np.arange(20.0)[:, None]))
    assert not np.array_equal(one.sums(np.arange(20.0)[:, None]), Resampler(8, 50).sums(np.arange(20.0)[:, None]))


def test_blocks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(20.0)[:, None]
    whole = Resampler(1, 64).sums(values)
    monkeypatch.setattr("harness.compare.resample._BLOCK_CELLS", 100)
    assert np.array_equal(Resampler(1, 64).sums(values), whole)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_p_value_and_interval_agree(values: list[float]) -> None:
    pivot = mean_pivots([np.array(values)], Resampler(0, 199))[0]
    low, high = pivot.bounds()
    if pivot.se > 1e-9:
        assert (pivot.p_value() <= 0.05) == (low > 0 or high < 0) or min(abs(low), abs(high)) < 1e-9


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    expected = mcnemar([[10, lost], [gained, 10]], exact=True).pvalue
    assert mcnemar_exact(gained, lost) == pytest.approx(min(1.0, expected))


def test_mcnemar_of_the_approval_ratings_example() -> None:
    # Agresti 1990, p. 350: 150 against 86; R's exact2x2::mcnemar.exact prints p-value = 3.716e-05.
    assert mcnemar_exact(150, 86) == pytest.approx(3.716e-05, rel=1e-3)


def test_bonett_price_of_the_airway_example() -> None:
    # Fagerland, Lydersen and Laake 2014 (data of Bentur et al.): n = 21, one change one way, seven the other.
    low, high = bonett_price(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.508, -0.013)


def test_wilson_of_a_known_proportion() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert np.allclose(wilson(81, 263), (0.2553, 0.3662), atol=5e-5)


def test_bonett_price_never_collapses() -> None:
    low, high = bonett_price(0, 0, 64)
    assert low < 0 < high


def test_paired_t_power_of_the_textbook_example() -> None:
    # dz = 0.5, 34 pairs: the sample size every power table gives for 80 %.
    assert power_mean(0.5, 1.0, 34) == pytest.approx(0.8078, abs=5e-4)
    assert detectable_mean(2.0, 34) == pytest.approx(
        2 * TTestPower().solve_power(nobs=34, power=0.8, alpha=0.05), rel=1e-4
    )
    assert detectable_mean(1.0, 4) == float("inf")


@pytest.mark.parametrize("n", [5, 20, 500, 5000])
def test_detectable_mean_has_the_power_it_states(n: int) -> None:
    assert power_mean(detectable_mean(1.0, n), 1.0, n) == pytest.approx(0.8, abs=1e-3)


def test_power_of_a_huge_difference_is_one() -> None:
    assert power_mean(1.0, 0.01, 136) == 1.0


@pytest.mark.parametrize(("up", "down", "n"), [(0.3, 0.1, 12), (0.2, 0.2, 15), (0.5, 0.0, 9)])
def test_mcnemar_power_equals_summing_over_all_outcomes(up: float, down: float, n: int) -> None:
    total = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            if mcnemar_exact(gained, lost) <= 0.05:
                total += float(stats.multinomial.pmf([gained, lost, n - gained - lost], n, [up, down, 1 - up - down]))
    assert power_mcnemar(up, down, n) == pytest.approx(total, abs=1e-9)


def test_detectable_mcnemar_has_the_power_it_states() -> None:
    difference = detectable_mcnemar(0.3, 136)
    assert power_mcnemar((0.3 + difference) / 2, (0.3 - difference) / 2, 136) == pytest.approx(0.8, abs=5e-3)
    assert detectable_mcnemar(0.1, 4) == float("inf")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_equals_statsmodels(ps: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", int)  # statsmodels looks for garbage in each call
        expected = multipletests(ps, method="holm")[1]
    assert np.allclose(np.array(holm(ps), dtype=float), expected)


def test_holm_leaves_what_was_not_tested() -> None:
    assert holm([None, 0.01]) == [None, 0.01]


def _counts(model: str) -> np.ndarray:
    return np.array(
        [row["counts"]["bleu_dom"] for row in make_rows(60, gain=0.2) if row["model"] == model], dtype=float
    )


def test_gradient_of_bleu_matches_moving_one_task() -> None:
    counts = _counts("base")
    function = corpus_function("bleu").value
    sums = counts.sum(axis=0)
    influence = counts @ bleu_gradient(sums)
    jackknife = np.array([float(function(sums) - function(sums - row)) for row in counts])
    assert np.corrcoef(influence, jackknife)[0, 1] > 0.99
    assert influence.std() == pytest.approx(jackknife.std(), rel=0.05)


@pytest.mark.parametrize("brevity", [0.6, 1.3])
def test_gradient_of_bleu_matches_differences(brevity: float) -> None:
    sums = _counts("base").sum(axis=0) * np.array([brevity, *[1] * 9])
    assert np.allclose(bleu_gradient(sums), numeric_gradient(corpus_function("bleu").value, sums), rtol=1e-4, atol=1e-9)


def test_gradient_of_nothing_is_nothing() -> None:
    assert not bleu_gradient(np.zeros((3, 10))).any()


def test_corpus_standard_error_is_near_the_bootstraps() -> None:
    base, tuned = _counts("base"), _counts("tuned")
    function = corpus_function("bleu")
    resampler = Resampler(0, 4000)
    pivot = corpus_pivot(((-1.0, base), (1.0, tuned)), function, resampler)
    stars = function.value(resampler.sums(tuned)) - function.value(resampler.sums(base))
    assert pivot.estimate == float(function.value(tuned.sum(0)) - function.value(base.sum(0)))
    assert pivot.se == pytest.approx(stars.std(), rel=0.05)


def test_a_corpus_function_of_one_vector_gives_almost_the_same_interval() -> None:
    terms = ((-1.0, _counts("base")), (1.0, _counts("tuned")))
    fast = corpus_function("bleu")
    slow = CorpusFunction(fast.value)
    exact, linear = corpus_pivot(terms, fast, Resampler()), corpus_pivot(terms, slow, Resampler())
    assert linear.estimate == pytest.approx(exact.estimate)
    assert np.allclose(linear.bounds(), exact.bounds(), atol=0.05 * (exact.bounds()[1] - exact.bounds()[0]))


def test_seeds_widen_the_interval_by_t_over_trainings() -> None:
    pivot = mean_pivots([np.random.default_rng(0).normal(0.1, 0.3, 100)], Resampler())[0]
    by_seed = np.array([0.05, 0.15])
    seeded = SeededPivot(pivot, (by_seed,))
    half_tasks = pivot.bounds()[1] - pivot.estimate
    half_seeds = stats.t.ppf(0.975, 1) * by_seed.std(ddof=1) / math.sqrt(2)
    assert seeded.bounds()[1] - seeded.estimate == pytest.approx(math.hypot(half_tasks, half_seeds))
    assert seeded.p_value() > pivot.p_value()


def test_seeded_p_value_meets_its_interval() -> None:
    pivot = Pivot(0.2, 0.05, np.sort(np.abs(np.random.default_rng(0).standard_t(60, 9999))))
    seeded = SeededPivot(pivot, (np.array([0.18, 0.2, 0.22]),))
    p = seeded.p_value()
    low, _ = seeded.bounds(p)
    assert abs(low) < 0.01


def test_family_of_a_training() -> None:
    assert [family(name) for name in ("tuned#seed3", "tuned", "base")] == ["tuned", "tuned", "base"]


def test_few_bounds_hold_whatever_the_rare_values_are() -> None:
    low, high = few_bounds(np.zeros(64), -1.0, 1.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 64))
    assert low == -high
    low, high = few_bounds(np.array([1.0] * 19 + [0.0]), 0.0, 1.0)
    assert high == 1.0
    assert low < 0.95
