"""Places are taken once, and come back whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.generate.llama.places import Places


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10)), max_size=60))
def test_no_place_is_taken_twice_and_all_come_back(wanted: list[tuple[int, int]]) -> None:
    places = Places(7, 100)
    taken: list[tuple[int, int]] = []
    for count, which in wanted:
        start = places.take(count)
        if start is None:
            free = 100 - sum(size for _, size in taken)
            assert taken, "an empty room has place for each"
            assert free < 100
        else:
            assert start >= 7
            assert start + count <= 107
            assert not any(start < first + size and first < start + count for first, size in taken)
            taken.append((start, count))
        if taken and which > 4:
            places.give_back(*taken.pop(which % len(taken)))
    for first, size in taken:
        places.give_back(first, size)
    assert places.take(100) == 7
    assert places.take(1) is None
