from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from harness.metrics.metric import NuReport
from harness.render import RenderRequest
from harness.scoring import scorer as module
from harness.scoring.scorer import Scorer
from harness.types import Completion, Outcome, Rendering, Task

TASKS = [
    Task(f"t{number}", f"Page {number}", reference=f"<!DOCTYPE html><title>{number}</title><p>{number}")
    for number in range(5)
]


class Measured(Future[Rendering]):
    """Notes how many pages had been asked for when it was waited for."""

    def __init__(self, browsers: Browsers) -> None:
        super().__init__()
        self.browsers = browsers

    def result(self, timeout: float | None = None) -> Rendering:
        self.browsers.waited.append(len(self.browsers.asked))
        return super().result(timeout)


class Browsers:
    """Takes pages like a renderer; `outcomes` are a page's, one after the other, where they are not `ok`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waited: list[int] = []
        self.futures: list[Measured] = []
        self.outcomes: dict[str, list[Outcome]] = {}
        self.most = 99
        """Pages that are measured; the others are not begun."""

    def submit(self, request: RenderRequest) -> Measured:
        self.asked.append(request.html)
        future = Measured(self)
        self.futures.append(future)
        if len(self.asked) <= self.most:
            outcomes = self.outcomes.get(request.html, [])
            future.set_result(Rendering(outcomes.pop(0) if outcomes else "ok"))
        return future


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts that the checker was asked about."""
    texts: list[str] = []

    def check(pages: list[str], scopes: object) -> list[NuReport]:
        texts.extend(pages)
        return [NuReport(()) for _ in pages]

    monkeypatch.setattr(module, "warm", lambda: None)
    monkeypatch.setattr(module, "find_nu", lambda: "there")
    monkeypatch.setattr(module, "check_pages", check)
    monkeypatch.setattr(module, "CHUNK", 2)
    yield texts


def scorer(browsers: Browsers) -> Scorer:
    return Scorer("s", browsers, lambda picture, name: name)  # type: ignore[arg-type]


def answers(model: str, shift: int = 0) -> list[tuple[Task, Completion]]:
    others = [*TASKS[shift:], *TASKS[:shift]]
    return [
        (task, Completion(task=task.id, model=model, text=other.reference, finish_reason="eos"))
        for task, other in zip(TASKS, others, strict=True)
    ]


def test_rows_come_in_order_and_every_page_is_rendered_and_checked_once(checked: list[str]) -> None:
    browsers = Browsers()
    work = [*answers("reference"), *answers("shuffled", 2)]
    rows = [row for chunk in scorer(browsers).rows(work) for row in chunk]
    assert [(row.model, row.task) for row in rows] == [(done.model, task.id) for task, done in work]
    assert [row.outcome for row in rows] == ["ok"] * 10
    references = sorted(task.reference for task in TASKS)
    assert sorted(browsers.asked) == references
    assert sorted(checked) == references


def test_the_next_chunk_is_begun_before_the_first_one_is_waited_for() -> None:
    browsers = Browsers()
    rows = scorer(browsers).rows(answers("reference"))
    assert len(next(rows)) == 2
    assert browsers.waited[0] == 4
    rows.close()  # type: ignore[attr-defined]


def test_a_page_that_ran_out_of_time_gets_a_second_try_and_no_third() -> None:
    browsers = Browsers()
    late, later = TASKS[0].reference, TASKS[1].reference
    browsers.outcomes = {late: ["timeout", "ok"], later: ["timeout", "timeout", "ok"]}
    rows = [row for chunk in scorer(browsers).rows(answers("reference")) for row in chunk]
    assert [row.outcome for row in rows] == ["ok", "timeout", "ok", "ok", "ok"]
    assert (browsers.asked.count(late), browsers.asked.count(later)) == (2, 2)


def test_who_stops_early_takes_back_what_was_begun_and_may_begin_again() -> None:
    browsers = Browsers()
    browsers.most = 2
    own = scorer(browsers)
    rows = own.rows(answers("reference"))
    assert len(next(rows)) == 2
    rows.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in browsers.futures] == [False, False, True, True]
    browsers.most = 99
    again = [row for chunk in own.rows(answers("reference")) for row in chunk]
    assert [row.outcome for row in again] == ["ok"] * 5
