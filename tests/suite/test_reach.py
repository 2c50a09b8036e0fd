from __future__ import annotations

import math

import numpy as np
import pytest

from harness.model.reach import UNKNOWN_LIMIT, answer_limit, estimated_tokens, reach
from harness.types import Suite, Task


def suite(train: list[int], held_out: list[int]) -> Suite:
    parts = [
        tuple(Task(f"{name}{n}", "x", reference="x" * length) for n, length in enumerate(lengths))
        for name, lengths in (("t", train), ("h", held_out))
    ]
    return Suite("s", "S", "document", frozenset(), "r", parts[0], parts[1], "h")


def test_the_limit_is_the_99th_percentile_of_all_references_and_a_quarter() -> None:
    one = suite(list(range(1, 81)), list(range(81, 101)))
    assert answer_limit(one, len) == math.ceil(1.25 * float(np.percentile(range(1, 101), 99)))
    assert answer_limit(suite(list(range(81, 101)), list(range(1, 81))), len) == answer_limit(one, len)


def test_a_profile_may_only_lower_it() -> None:
    one = suite([100] * 9, [100])
    assert answer_limit(one, len, lowered_to=50) == 50
    assert answer_limit(one, len, lowered_to=5000) == answer_limit(one, len) == 125


def test_without_references_there_is_a_fixed_limit() -> None:
    assert answer_limit(suite([0, 0], [0]), len) == UNKNOWN_LIMIT
    assert answer_limit(suite([0], []), len, lowered_to=7) == 7
    assert "no references" in str(reach(9, suite([0], [0]).held_out, len))


def test_references_beyond_limit_or_context_are_counted() -> None:
    tasks = suite([], [10, 20, 30, 0]).held_out
    assert reach(20, tasks, len).as_dict() == {
        "max_new_tokens": 20,
        "out_of_reach": 1,
        "references": 3,
        "estimated": False,
    }
    assert reach(20, tasks, len, lambda task: 15).out_of_reach == 2
    assert "1 of 3 reference is longer" in str(reach(20, tasks, len))
    assert "all 3 references are within reach" in str(reach(30, tasks, len))


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("<p>x</p>", 4), ("网页", 3), ("\ud800", 2)])
def test_an_estimate_goes_by_bytes(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens
