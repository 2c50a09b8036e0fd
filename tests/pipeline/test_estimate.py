"""The line that a run begins with, and what is remembered for the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pipeline.ahead import Work
from harness.pipeline.estimate import Estimate, estimate, halves, in_words
from harness.pipeline.rough import Effort, product_rate
from harness.storage.rates import Rates

TRAINING = Work("training", "training tuned", 24_000, ("training: model, as-written", "training: model"))
ANSWERS = Work("answers", "base answers small", 64, ("answers: model, base on small", "answers: model"))
PAGES = Work("pages", "pages of small", 512, ("pages: small", "pages"))
REPORT = Work("the rest", "comparing and reporting", 512, ("report",))
EVERYTHING = (TRAINING, ANSWERS, PAGES, REPORT)


def done(work: Work) -> Work:
    return Work(work.part, work.stage, 0, work.kinds)


def guessed(work: Work, seconds: float) -> Work:
    return Work(
        work.part, work.stage, work.units, work.kinds, Effort(core_seconds=0, flops=seconds * product_rate("float32"))
    )


@pytest.fixture
def rates(own_cache: Path) -> Rates:
    """A machine on which everything was measured."""
    rates = Rates({"cpu": "here"})
    for work, seconds in zip(EVERYTHING, (90, 180, 90, 40), strict=True):
        for kind in work.kinds:
            rates.remember(kind, work.units, seconds)
    return rates


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (EVERYTHING, "about 6½ minutes here: training 1½, answers 3, pages 1½, the rest ½"),
        ((done(TRAINING), *EVERYTHING[1:]), "about 5 minutes here: training cached, answers 3, pages 1½, the rest ½"),
        (
            (done(TRAINING), done(ANSWERS), PAGES, REPORT),
            "about 2 minutes here: training and answers cached, pages 1½, the rest ½",
        ),
        ((done(TRAINING), done(ANSWERS), REPORT), "under a minute here: training and answers cached"),
        ((REPORT,), "under a minute here"),
    ],
)
def test_what_is_cached_takes_no_time(rates: Rates, work: tuple[Work, ...], line: str) -> None:
    assert str(Estimate(work, rates)) == line
    assert len(line) < 80


def test_nothing_is_made_up(own_cache: Path, rates: Rates) -> None:
    nothing = Rates({"cpu": "elsewhere"})
    first = "first run of this kind here: the time left shows once its stages are measured"
    assert str(Estimate(EVERYTHING, nothing)) == first
    assert str(Estimate((done(TRAINING), ANSWERS), nothing)) == first
    left = Estimate(EVERYTHING, nothing).schedule().left()
    assert left is None
    other = Work("answers", "served answers small", 64, ("answers: a server",))
    assert (
        str(Estimate((TRAINING, other, PAGES), rates))
        == "at least 3 minutes here: training 1½, pages 1½, answers unknown"
    )


def test_the_nearest_kind_that_was_measured_counts(rates: Rates) -> None:
    other = Work("answers", "tuned answers small", 32, ("answers: model, tuned on small", "answers: model"))
    found = Estimate((other,), rates)
    assert found.seconds(other) == pytest.approx(90)
    rates.remember(other.kinds[0], 32, 30)
    assert found.seconds(other) == pytest.approx(30)


def test_a_guess_is_called_one(rates: Rates, own_cache: Path) -> None:
    nothing = Rates({"cpu": "elsewhere"})
    found = Estimate((guessed(TRAINING, 90), guessed(ANSWERS, 180), guessed(PAGES, 90), REPORT), nothing)
    assert str(found) == "roughly 6 minutes here: training 1½, answers 3, pages 1½"
    assert Estimate((guessed(TRAINING, 900),), rates).seconds(guessed(TRAINING, 900)) == pytest.approx(90)


def test_what_a_stage_took_is_known_to_the_next_run(own_cache: Path) -> None:
    work = (ANSWERS, Work("answers", "tuned answers small", 64, ("answers: model, tuned on small", "answers: model")))
    schedule = estimate(work).schedule()
    now = 0.0
    schedule.clock = lambda: now
    schedule.begin("base answers small")
    now = 128.0
    schedule.end(32)  # the other half was there already
    left = schedule.left()
    assert left is not None
    assert left.seconds == pytest.approx(256)
    assert str(estimate(work)) == "roughly 8½ minutes here: answers 8½"
    schedule.begin("tuned answers small")
    now += 64.0
    schedule.end()
    assert str(estimate(work)) == "about 5½ minutes here: answers 5½"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "1 minute"),
        (100, "1½ minutes"),
        (7 * 60, "7 minutes"),
        (9.6 * 60, "9½ minutes"),
        (9.8 * 60, "10 minutes"),
        (47.4 * 60, "47 minutes"),
        (7200, "2 hours"),
        (2.6 * 3600, "2½ hours"),
        (30 * 3600, "30 hours"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_halves() -> None:
    assert [halves(seconds) for seconds in (0, 14, 16, 44, 46, 80)] == ["0", "0", "½", "½", "1", "1½"]
