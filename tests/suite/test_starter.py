"""The embedded suite keeps what its description promises."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from harness.suite.leakage import flag
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.split import stratified
from harness.types import Suite, Task

FOLDER = Path(__file__).parents[2] / "tasks" / "html_starter"
CATEGORIES = {"forms", "tables", "navigation", "text", "media", "layout", "interactive", "email", "edits"}


@pytest.fixture(scope="module")
def starter() -> Suite:
    return load_suite(SuiteLocation("html_starter", FOLDER))


def everything(suite: Suite) -> list[Task]:
    return [*suite.train, *suite.held_out]


def test_there_are_enough_tasks_of_every_category(starter: Suite) -> None:
    assert len(starter.train) >= 200
    assert len(starter.held_out) >= 100
    for part in (starter.train, starter.held_out):
        assert set(Counter(task.category for task in part)) == CATEGORIES


def test_the_default_part_holds_every_category(starter: Suite) -> None:
    assert starter.default_held_out == 64
    part = stratified(starter.held_out, starter.default_held_out)
    taken = Counter(task.category for task in part)
    assert len(part) == 64
    assert set(taken) == CATEGORIES
    assert min(taken.values()) >= 5


def test_no_id_and_no_request_twice(starter: Suite) -> None:
    for key in ("id", "prompt_sha"):
        counts = Counter(getattr(task, key) for task in everything(starter))
        assert [name for name, count in counts.items() if count > 1] == []


def test_nothing_held_out_resembles_a_training_row(starter: Suite) -> None:
    assert flag(starter.train, starter.held_out) == {}


def test_held_out_tasks_are_checked(starter: Suite) -> None:
    assert [task.id for task in starter.held_out if len(task.checks) < 3] == []
    assert [task.id for task in starter.held_out if not any(check.level == "must" for check in task.checks)] == []
    interactive = [task for task in starter.held_out if task.category == "interactive"]
    assert [task.id for task in interactive if not any(check.acts for check in task.checks)] == []


def test_edits_bring_their_page_and_change_it(starter: Suite) -> None:
    edits = [task for task in everything(starter) if task.category == "edits"]
    assert [task.id for task in edits if not task.input.strip()] == []
    assert [task.id for task in edits if task.input.strip() == task.reference.strip()] == []


def test_every_task_has_an_answer_that_closes(starter: Suite) -> None:
    assert [task.id for task in everything(starter) if not task.reference.rstrip().endswith("</html>")] == []
