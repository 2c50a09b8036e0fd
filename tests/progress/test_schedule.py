"""The time that is left: what was expected of the steps ahead, and the pace of the one that runs."""

from __future__ import annotations

import pytest

from harness.progress.schedule import Schedule, Step


class Clock:
    """Seconds that go on when they are told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Told(list[tuple[str, float, float]]):
    """What steps were told that they took."""

    def step(self, part: str, stage: str, units: float, seconds: float | None) -> Step:
        return Step(part, stage, units, lambda: seconds, lambda done, took: self.append((stage, done, took)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> Told:
    return Told()


def left(schedule: Schedule, done: float = 0.0) -> float:
    found = schedule.left(done)
    assert found is not None
    assert not found.unknown
    return found.seconds


def test_the_time_left_counts_down_over_the_stages(clock: Clock, told: Told) -> None:
    schedule = Schedule([told.step("training", "train", 16, 90.0), told.step("pages", "pages", 64, 30.0)], clock)
    assert left(schedule) == 120
    schedule.begin("weights")  # no step of the schedule: it takes none of the time
    clock.now += 5
    schedule.end()
    assert left(schedule) == 120
    schedule.begin("train")
    clock.now += 30
    assert left(schedule, 0.25) == 60 + 30
    found = schedule.left(0.25)
    assert found is not None
    assert found.share_done == pytest.approx(30 / 120)
    clock.now += 70
    # later than expected: at this pace the last tenth takes another tenth of what passed
    assert left(schedule, 0.9) == pytest.approx(0.1 * 100 + 30)
    assert left(schedule, 0.0) == 30  # nobody knows
    schedule.end()
    assert told == [("train", 16, 100)]
    assert left(schedule) == 30
    schedule.begin("pages")
    clock.now += 20
    schedule.end()
    assert schedule.left() is None
    assert told[1:] == [("pages", 64, 20)]


def test_a_stage_may_do_the_work_of_several(clock: Clock, told: Told) -> None:
    steps = [told.step("answers", f"{name} answers", 8, seconds) for name, seconds in (("base", 30.0), ("tuned", 10.0))]
    schedule = Schedule([*steps, told.step("pages", "pages", 1, 5.0)], clock)
    schedule.begin("base answers", "tuned answers")
    clock.now += 20
    assert left(schedule) == 20 + 5
    schedule.end()
    assert told == [("base answers", 8, 15), ("tuned answers", 8, 5)]


def test_work_that_was_there_already_is_no_measurement(clock: Clock, told: Told) -> None:
    schedule = Schedule([told.step("answers", "base answers", 8, 30.0)], clock)
    schedule.begin("base answers")
    clock.now += 6
    schedule.end(2)
    assert told == [("base answers", 2, 6)]


def test_what_nothing_is_known_of_is_named_and_shares_by_units(clock: Clock, told: Told) -> None:
    unknown = [told.step("answers", "base", 6, None), told.step("answers", "tuned", 2, None)]
    assert Schedule(unknown, clock).left() is None
    schedule = Schedule([*unknown, told.step("pages", "pages", 1, 5.0)], clock)
    found = schedule.left()
    assert found is not None
    assert (found.seconds, found.unknown) == (5, ("answers",))
    schedule.begin("base", "tuned")
    clock.now += 8
    schedule.end()
    assert told == [("base", 6, 6), ("tuned", 2, 2)]


def test_nothing_to_do_is_done(clock: Clock) -> None:
    schedule = Schedule([], clock)
    schedule.begin("comparing")
    assert schedule.left() is None
    schedule.end()
