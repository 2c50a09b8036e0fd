from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest

from harness.suite.load import SuiteLocation, load_suite
from harness.suite.shift import FEWEST_GROUPS, TOLD_APART, auc_interval, shift
from harness.types import Suite, Task

TASKS = Path(__file__).parents[2] / "tasks"
THINGS = (
    "bakery",
    "harbour",
    "library",
    "orchard",
    "museum",
    "cinema",
    "stable",
    "bridge",
    "island",
    "factory",
    "market",
)
DEEDS = ("opens on Monday", "sells lamps", "was built by monks", "needs a roof", "hires two clerks", "won a prize")
FORMS = (
    "a table of what the {} that {} charges",
    "a page that says why the {} that {} is loved",
    "a list for the {} that {}",
)
MAILS = ("an e-mail template in which the {} that {} thanks subscribers", "a newsletter e-mail from the {} that {}")


def rows(forms: tuple[str, ...], length: int, seed: int = 0) -> list[Task]:
    draw = random.Random(seed)
    made = []
    for number, (form, thing, deed) in enumerate(itertools.product(forms, THINGS, DEEDS)):
        about = " ".join(f"{draw.choice(THINGS)}{draw.randrange(99)}" for _ in range(8))
        words = "".join(f"<p>{draw.randrange(1000, 9999)}</p>" for _ in range(length + number % 5))
        made.append(Task(f"{seed}-{number}", f"Write {form.format(thing, deed)}: {about}", reference=words))
    return draw.sample(made, len(made))


def test_two_kinds_of_request_are_told_apart_and_it_is_said_in_what() -> None:
    found = shift(rows(FORMS, 4), rows(MAILS, 30, seed=1))
    assert found is not None
    assert found.told_apart
    assert found.low > TOLD_APART
    said = "; ".join(found.differs_in)
    assert "references are longer: median 352 characters against 66" in said
    assert "100 % are of kind e-mail against 0 %" in said
    assert "mail" in next(part for part in found.differs_in if part.startswith("prompts say more often"))
    assert "this measures transfer" in str(found)
    assert shift(rows(FORMS, 4), rows(MAILS, 30, seed=1)) == found, "the same rows give the same numbers"


def test_a_random_split_is_no_alarm() -> None:
    everything = [*rows(FORMS, 4), *rows(MAILS, 30, seed=1)]
    found = []
    for seed in range(6):
        shuffled = random.Random(seed).sample(everything, len(everything))
        compared = shift(shuffled[60:], shuffled[:60])
        assert compared is not None
        found.append(compared)
    assert not any(one.told_apart for one in found)
    assert 0.42 < np.mean([one.auc for one in found]) < 0.58
    assert found[0].differs_in == ()


def test_requests_without_spaces_are_told_apart_too() -> None:
    topics = [a + b for a, b in itertools.permutations("京津沪渝苏杭宁甬", 2)]
    pages = [Task(f"p{n}", f"请制作{topic}的天气预报表格", reference="<p>x</p>") for n, topic in enumerate(topics)]
    mails = [Task(f"m{n}", f"给{topic}的客户写一封感谢邮件", reference="<p>x</p>") for n, topic in enumerate(topics)]
    found = shift(pages, mails)
    if found is None:  # near-duplicates by the hundred are few requests
        pytest.fail("all requests of one form were taken for one")
    assert found.told_apart


def test_too_few_rows_say_nothing() -> None:
    everything = rows(FORMS, 4)
    assert shift(everything, everything[: FEWEST_GROUPS - 1]) is None
    assert shift(everything, []) is None


@pytest.mark.parametrize(("auc", "first", "second"), [(0.5, 100, 400), (0.9, 40, 40), (1.0, 20, 20), (0.0, 20, 30)])
def test_the_interval_holds_what_was_found_and_has_a_width_at_the_ends(auc: float, first: int, second: int) -> None:
    low, high = auc_interval(auc, first, second)
    assert 0 <= low <= auc <= high <= 1
    assert high - low > 0.05
    mirrored = auc_interval(1 - auc, first, second)
    assert mirrored == (pytest.approx(1 - high, abs=1e-6), pytest.approx(1 - low, abs=1e-6))
    narrower = auc_interval(auc, 4 * first, 4 * second)
    assert narrower[1] - narrower[0] < high - low


def test_the_interval_covers_the_true_area() -> None:
    """Two normal samples one standard deviation apart: the true area is Φ(1/√2) = 0.7602."""
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        first, second = draw.normal(1, 1, 40), draw.normal(0, 1, 60)
        low, high = auc_interval(float((first[:, None] > second[None, :]).mean()), 40, 60)
        covered += low <= 0.76025 <= high
    assert 0.925 <= covered / 400 <= 0.98


def _real() -> list[Suite]:
    path = os.environ.get("HARNESS_TEST_HTML_ALPACA")
    starter = load_suite(SuiteLocation("html_starter", TASKS / "html_starter"))
    alpaca = [load_suite(SuiteLocation("html_alpaca", TASKS / "html_alpaca"), Path(path))] if path else []
    return [starter, *alpaca]


def test_the_suites_that_come_along_measure_what_they_train() -> None:
    for suite in _real():
        found = shift(suite.train, suite.held_out)
        assert found is not None
        assert not found.told_apart, f"{suite.name}: {found}"
        everything = sorted((*suite.train, *suite.held_out), key=lambda task: task.id)
        shuffled = random.Random(3).sample(everything, len(everything))
        again = shift(shuffled[len(suite.held_out) :], shuffled[: len(suite.held_out)])
        assert again is not None
        assert not again.told_apart
