"""Whose page is next, without any process."""

from __future__ import annotations

from harness.metrics.nu_queue import Page, Queue


def take(queue: Queue, last: bool = False) -> Page:
    page = queue.take(last)
    assert page is not None
    return page


def land(page: Page, seconds: float) -> None:
    """What the queue's user does when a page is done."""
    page.call.at_work -= 1
    page.call.spent += seconds


def test_the_shortest_of_a_caller_go_first_and_keep_their_place() -> None:
    queue = Queue(9)
    queue.add([b"long page", b"x", b"page"])
    assert [(page.document, page.index) for page in (take(queue), take(queue), take(queue))] == [
        (b"x", 1),
        (b"page", 2),
        (b"long page", 0),
    ]
    assert queue.take(last=False) is None


def test_who_asks_for_one_page_goes_before_the_rest_of_a_thousand() -> None:
    queue = Queue(2)
    queue.add([b"many"] * 1000)
    first, second = take(queue), take(queue)
    queue.add([b"one"])
    land(first, 5.0)
    assert take(queue).document == b"one"
    land(second, 5.0)
    assert take(queue).document == b"many"


def test_callers_share_the_seconds_not_the_turns() -> None:
    queue = Queue(1)
    slow, quick = queue.add([b"slow"] * 50), queue.add([b"quick"] * 50)
    turns = []
    for _ in range(22):
        page = take(queue)
        turns.append(page.call)
        land(page, 1.0 if page.call is slow else 0.1)
    assert turns.count(slow) == 2
    assert turns.count(quick) == 20


def test_who_comes_later_catches_up_with_nobody() -> None:
    queue = Queue(1)
    old = queue.add([b"old"] * 9)
    for _ in range(3):
        land(take(queue), 10.0)
    new = queue.add([b"new"] * 9)
    turns = []
    for _ in range(4):
        page = take(queue)
        turns.append(page.call)
        land(page, 1.0)
    assert turns == [old, new, old, new]


def test_of_callers_with_the_same_share_the_one_with_the_shorter_page_is_next() -> None:
    queue = Queue(1)
    queue.add([b"a long page"])
    queue.add([b"page"])
    assert take(queue).document == b"page"


def test_a_caller_has_no_more_pages_at_work_than_allowed() -> None:
    queue = Queue(2)
    queue.add([b"x"] * 3)
    page = take(queue)
    take(queue)
    assert queue.take(last=False) is None
    land(page, 0.1)
    take(queue)


def test_the_last_process_is_not_for_who_has_slow_pages_at_work() -> None:
    queue = Queue(2)
    slow = queue.add([b"slow"] * 3)
    take(queue)
    slow.slow = 1
    assert queue.take(last=True) is None
    queue.add([b"other"])
    assert take(queue, last=True).document == b"other"
    assert take(queue, last=False).document == b"slow"


def test_a_page_given_back_is_the_next_and_a_caller_who_left_has_none() -> None:
    queue = Queue(2)
    call = queue.add([b"a", b"bb", b"ccc"])
    page = take(queue)
    land(page, 0.1)
    queue.back(page)
    assert take(queue) is page
    queue.drop(call)
    assert (len(queue), queue.calls, queue.take(last=False)) == (0, [], None)
