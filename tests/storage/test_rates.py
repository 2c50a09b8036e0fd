"""The pace of this machine, from run to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.storage.cache_inventory import entries
from harness.storage.rates import Rates

HERE = {"cpu": "a processor", "cores": 2}


def test_a_pace_is_remembered_and_follows_the_machine(own_cache: Path) -> None:
    rates = Rates(HERE)
    assert rates.seconds("pages", 10) is None
    rates.remember("pages", 100, 50)
    assert Rates(HERE).seconds("pages", 10) == pytest.approx(5)
    assert Rates({**HERE, "cores": 4}).seconds("pages", 10) is None
    # four pages, which took long, weigh as four against the half of a hundred
    rates.remember("pages", 4, 20)
    assert rates.seconds("pages", 1) == pytest.approx((25 + 20) / 54)
    rates.remember("pages", 0, 99)
    assert Rates(HERE).seconds("pages", 1) == pytest.approx(45 / 54)
    assert [entry.kind.name for entry in entries(own_cache)] == ["rates"]


def test_what_others_measured_meanwhile_is_kept(own_cache: Path) -> None:
    one, other = Rates(HERE), Rates(HERE)
    one.remember("pages", 10, 5)
    other.remember("answers", 10, 40)
    assert Rates(HERE).seconds("pages", 2) == 1
    assert one.seconds("answers", 1) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pages": 3}', '{"pages": {"units": 0, "seconds": 1}}'])
def test_a_damaged_file_counts_as_none(own_cache: Path, content: str) -> None:
    path = Rates(HERE).path
    path.write_text(content)
    rates = Rates(HERE)
    assert rates.seconds("pages", 1) is None
    rates.remember("pages", 2, 1)
    assert Rates(HERE).seconds("pages", 1) == 0.5


def test_a_cache_that_takes_no_more_stops_nothing(own_cache: Path) -> None:
    rates = Rates(HERE)
    rates.path.mkdir()  # nobody, not even root, writes a file there
    rates.remember("pages", 2, 1)
    assert Rates(HERE).seconds("pages", 1) is None
