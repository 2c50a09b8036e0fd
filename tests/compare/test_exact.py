"""Data without spread: exact tests, and intervals that agree with them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.compare.corpus import corpus_function, unit_differences
from harness.compare.estimate import Estimated, Quantity, estimate_all
from harness.compare.exact import MISSED, agreeing, hardly_differ, sign_flip_p
from harness.compare.paired import bonett_price, group_flips, mcnemar_exact
from harness.compare.resample import Resampler
from harness.metrics.registry import metric
from harness.types import Page, Task, sha256
from tests.compare.compare_data import SCORERS, Row, gate, summarise

MINI = json.loads((Path(__file__).parent / "pages" / "mini.json").read_text("utf-8"))
EMPTY = '<!DOCTYPE html><html lang="en"><head><title>x</title></head><body></body></html>'


def difference(values: Any, span: float = 1.0, **options: Any) -> Estimated:
    values = np.asarray(values, dtype=float)
    quantity = Quantity(values, -span, span, difference=True, tasks=len(values), **options)
    return estimate_all([quantity], Resampler(0, 999))[0]


def agree(found: Estimated) -> bool:
    assert found.p is not None and found.low is not None and found.high is not None and found.value is not None
    assert found.low <= found.value <= found.high
    return (found.p <= 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([-1.0] * 21, 2.0**-20),
        ([-1.0] * 6, 2.0**-5),
        ([-0.1] * 6, 2.0**-5),
        ([1 / 3] * 64, 2.0**-63),
        ([-1.0] * 135 + [0.0], 2.0**-134),
        ([-1.0] * 135 + [1.0], 137 * 2.0**-135),
        ([0.0] * 21, 1.0),
        ([0.0] * 60 + [1.0] * 4, 2.0**-3),
        ([-1.0], 1.0),
    ],
)
def test_data_without_spread_are_tested_exactly(values: list[float], p: float) -> None:
    found = difference(values)
    assert found.p == pytest.approx(p)
    assert agree(found)
    assert found.low != found.high
    assert found.detectable is None or found.detectable > 0


@given(st.lists(st.sampled_from([-1.0, -0.5, -1 / 3, 0.0, 0.25, 1.0]), min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_sign_flip_test_goes_through_all_signs(values: list[float]) -> None:
    observed = abs(sum(values))
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    assert sign_flip_p(np.array(values)) == pytest.approx(np.mean([total >= observed - 1e-9 for total in sums]))


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_of_flips_it_is_mcnemars(gained: int, lost: int) -> None:
    values = np.array([1.0] * gained + [-1.0] * lost + [0.0] * 3)
    assert sign_flip_p(values) == pytest.approx(mcnemar_exact(gained, lost), rel=1e-9)


def test_where_no_lattice_and_too_many_sums_there_is_no_exact_p() -> None:
    values = np.random.default_rng(0).normal(size=40)
    assert sign_flip_p(values) is None
    assert not hardly_differ(values)
    assert hardly_differ(np.array([0.0] * 56 + [1.0] * 8)) == (MISSED < (56 / 64) ** 64)


LEVELS = st.sampled_from([-1.0, -0.9, -0.5, -1e-3, 0.0, 1e-12, 0.25, 1 / 3, 0.5, 1.0])
WILD = st.one_of(
    st.lists(st.floats(-1, 1, allow_subnormal=True), min_size=1, max_size=40),
    st.lists(LEVELS, min_size=1, max_size=40),
    st.tuples(LEVELS, st.integers(1, 140), st.lists(LEVELS, max_size=4)).map(lambda t: [t[0]] * t[1] + t[2]),
    st.tuples(st.floats(-1, 1), st.integers(1, 60), st.lists(st.floats(-1, 1), max_size=8)).map(
        lambda t: [t[0]] * t[1] + t[2]
    ),
)


@given(WILD)
@example([5e-324] * 30)
@example([-1e-300] * 30)
@settings(max_examples=250, deadline=None)
def test_p_and_interval_agree_for_means(values: list[float]) -> None:
    assert agree(difference(values))


@given(WILD, st.lists(st.sampled_from([-0.5, -0.4, -0.1, 0.0, 0.3]), min_size=2, max_size=5))
@settings(max_examples=120, deadline=None)
def test_p_and_interval_agree_over_trainings(values: list[float], by_seed: list[float]) -> None:
    centred = np.array(by_seed) - np.mean(by_seed) + np.mean(values)
    assert agree(difference(values, by_seed=(centred,)))


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=140))
@settings(max_examples=150, deadline=None)
def test_p_and_interval_agree_for_flips(values: list[float]) -> None:
    assert agree(difference(values, yes_no=True))


@given(st.lists(st.sampled_from([-1.0, -0.75, -0.5, -1 / 3, 0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=60))
@settings(max_examples=120, deadline=None)
def test_p_and_interval_agree_for_flips_of_groups(values: list[float]) -> None:
    quantity = Quantity(np.array(values), -1.0, 1.0, True, True, tasks=len(values) + 3)
    assert agree(estimate_all([quantity], Resampler(0, 99))[0])


PAGES = st.sampled_from([(0, 30, 0), (30, 30, 0), (30, 30, 30), (30, 30, 12), (45, 30, 20), (1, 1, 1)])


@example(pages=[((30, 30, 0), (1, 1, 1)), ((1, 1, 1), (30, 30, 0))])  # every resample gives 0
@given(st.lists(st.tuples(PAGES, PAGES), min_size=1, max_size=30))
@settings(max_examples=120, deadline=None)
def test_p_and_interval_agree_for_corpora(pages: list[tuple[tuple[int, int, int], tuple[int, int, int]]]) -> None:
    function = corpus_function("bleu_dom")
    sides = [np.array([counts(*page[side]) for page in pages], dtype=float) for side in (0, 1)]
    terms = ((-1.0, sides[0]), (1.0, sides[1]))
    quantity = Quantity(unit_differences(terms, function), -100.0, 100.0, False, True, (), terms, function, len(pages))
    found = estimate_all([quantity], Resampler(0, 499))[0]
    assert agree(found)
    assert found.low != found.high
    assert found.detectable is None or found.detectable > 0


def test_the_bleu_of_next_to_nothing_is_not_said_to_lie_anywhere() -> None:
    """Its brevity makes it some thousandths, and the smaller the less: most resamples have no standard error."""
    lengths = np.random.default_rng(0).integers(30, 90, 57)
    pages = [(40, 45, 30)] * 7 + [(0, int(length), 0) for length in lengths]
    side = np.array([counts(*page) for page in pages], dtype=float)
    function, terms = corpus_function("bleu_dom"), ((1.0, side),)
    quantity = Quantity(np.zeros(64), 0.0, 100.0, terms=terms, function=function, tasks=64)
    found = estimate_all([quantity], Resampler(0, 999))[0]
    assert found.value is not None and found.low is not None and found.high is not None
    assert 0 < found.value < 0.01
    assert 0 <= found.low <= found.value
    assert 5 < found.high < 10  # of 64 tasks none is of a kind that up to 5.6 % of all may be


def counts(system: int, reference: int, correct: int) -> list[int]:
    totals = [max(0, system - order) for order in range(4)]
    return [system, reference, *(max(0, min(correct - order, total)) for order, total in enumerate(totals)), *totals]


def test_an_interval_is_drawn_out_to_zero_or_cut_off_before_it() -> None:
    assert agreeing(-0.1, -0.3, 0.05, 0.01) == (-0.3, pytest.approx(-1e-7))
    assert agreeing(0.1, 0.02, 0.3, 0.06) == (0.0, 0.3)
    assert agreeing(0.1, -0.02, 0.3, 0.06) == (-0.02, 0.3)
    assert agreeing(0.0, -0.1, 0.1, 1.0) == (-0.1, 0.1)


def test_groups_of_one_task_have_bonett_and_prices_interval() -> None:
    values = np.array([1.0] * 9 + [-1.0] * 4 + [0.0] * 20)
    assert np.allclose(group_flips(values), bonett_price(9, 4, 33))


def test_three_trainings_that_all_lose_are_no_coincidence() -> None:
    found = difference([-1.0] * 21, by_seed=(np.full(3, -1.0),))
    assert found.p == pytest.approx(2.0**-20)
    spread = difference([-0.9] * 21, by_seed=(np.array([-0.8, -0.9, -1.0]),))
    # t over three trainings: 0.9 / (0.1 / √3) on two degrees of freedom
    assert spread.p == pytest.approx(0.0041, abs=3e-4)
    assert agree(spread)
    lost = difference([-0.1] * 21, by_seed=(np.array([-0.9, -0.1, 0.7]),))
    assert lost.p is not None and lost.p > 0.5


def answered(*answers: tuple[int, str, int, str]) -> list[Row]:
    """Rows of (number of the task, model, sample, completion), scored by the form and similarity metrics."""
    rows = []
    for number, model, sample, text in answers:
        task = Task(MINI[number]["id"], MINI[number]["prompt"], reference=MINI[number]["reference"])
        page = Page(text if text.startswith("<") else "", "raw" if text.startswith("<") else "none", False)
        scored = {name: metric(name).score(evidence(task, text, page)) for name in ("well_formed", "bleu_dom")}
        rows.append(
            {
                "suite": "mini",
                "task": task.id,
                "model": model,
                "sample": sample,
                "prompt_sha": sha256(task.prompt),
                "scores": {name: score.value for name, score in scored.items() if score is not None},
                "counts": {name: list(s.counts) for name, s in scored.items() if s is not None and s.counts},
            }
        )
    return rows


def evidence(task: Task, text: str, page: Page) -> Any:
    from harness.metrics.metric import Evidence

    return Evidence(task, text, page)


def mini_summary(rows: list[Row]) -> dict[str, Any]:
    scorers = {name: SCORERS[name] | {"primary": True} for name in ("well_formed", "bleu_dom")}
    return summarise(rows, scorers, replicates=1999)


def test_right_everywhere_against_right_nowhere_is_better() -> None:
    rows = answered(
        *((n, "base", sample, "I cannot help with that.") for n in range(21) for sample in (0, 1)),
        *((n, "tuned", sample, MINI[n]["reference"]) for n in range(21) for sample in (0, 1)),
    )
    summary = mini_summary(rows)
    for entry in summary["suites"]["mini"]["pairs"]["base:tuned"].values():
        assert entry["p"] == pytest.approx(2.0**-20)
        assert entry["low"] > 0.5
    assert summary["verdict"]["word"] == "better"
    assert summary["verdict"]["sentence"].startswith("tuned beats base on mini: ")


def test_equal_answers_never_find_a_difference_of_nothing() -> None:
    rows = answered(*((n, model, 0, MINI[n]["reference"]) for n in range(21) for model in ("base", "tuned")))
    summary = mini_summary(rows)
    for entry in summary["suites"]["mini"]["pairs"]["base:tuned"].values():
        assert (entry["difference"], entry["p"]) == (0, 1.0)
        assert entry["low"] < 0 < entry["high"]
        assert entry["detectable"] is None or entry["detectable"] > 0.05
    assert summary["verdict"]["word"] == "too few tasks to tell"
    assert "difference of 0 points" not in summary["verdict"]["sentence"]


def test_a_task_asked_twice_weighs_no_more_than_one_asked_once() -> None:
    rows = answered(
        *((n, "base", 0, EMPTY if n % 3 == 0 and n < 19 else MINI[n]["reference"]) for n in range(21)),
        *((n, "base", 1, EMPTY) for n in range(10)),
        *((n, "tuned", 0, MINI[n]["reference"]) for n in range(21)),
    )
    suite = mini_summary(rows)["suites"]["mini"]
    assert suite["metrics"]["bleu_dom"]["base"]["mean"] == pytest.approx(47.0, abs=0.05)
    thrice = [{**row, "sample": row["sample"] * 3 + copy} for row in rows for copy in range(3)]
    again = mini_summary(thrice)["suites"]["mini"]["pairs"]["base:tuned"]["bleu_dom"]
    once = suite["pairs"]["base:tuned"]["bleu_dom"]
    assert (again["difference"], again["low"]) == pytest.approx((once["difference"], once["low"]))


@pytest.mark.parametrize(("tasks", "kept"), [(21, 0), (136, 1)])
def test_a_collapse_is_worse_and_fails_the_gate(tasks: int, kept: int) -> None:
    rows: list[Row] = [
        {
            "suite": "s",
            "task": f"t{number:03}",
            "model": model,
            "sample": 0,
            "prompt_sha": sha256(str(number)),
            "scores": {"checks_must": float(model == "base" or number < kept)},
        }
        for number in range(tasks)
        for model in ("base", "tuned")
    ]
    summary = summarise(rows, {"checks_must": SCORERS["checks_must"]}, replicates=999)
    entry = summary["suites"]["s"]["pairs"]["base:tuned"]["checks_must"]
    assert entry["p"] == pytest.approx(2.0 ** -(tasks - kept - 1))
    assert entry["high"] < 0
    assert summary["verdict"]["sentence"].startswith("tuned writes pages of worse content than base on s; ")
    assert [check.passed for check in gate(summary)] == [False, True]
