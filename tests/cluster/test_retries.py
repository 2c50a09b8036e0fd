"""What dead workers leave is tried together, then one by one, and what none survives is given up."""

from __future__ import annotations

from harness.cluster.retries import DEATHS, Lost, Retries

BATCH = {3: "salt", 4: "bread", 5: "tea"}


def all_of(count: int) -> int:
    return count


def one_of(count: int) -> int:
    return 1


def waiting(retries: Retries[str]) -> list[dict[int, str]]:
    found = []
    while retries:
        found.append(retries.take(all_of))
    return found


def test_a_batch_goes_together_once_more_and_then_one_by_one() -> None:
    retries: Retries[str] = Retries(lambda: {"here"})
    retries.put_back_suspects(BATCH, "here")
    assert waiting(retries) == [BATCH]
    retries.delivered(3)
    retries.put_back_suspects(BATCH, "here")
    assert waiting(retries) == [{4: "bread"}, {5: "tea"}, {3: "salt"}]


def test_only_what_was_alone_at_the_end_is_given_up() -> None:
    retries: Retries[str] = Retries(lambda: {"here"})
    for _ in range(DEATHS):
        assert retries.give_up({4: "bread"}) is None
        retries.put_back_suspects(BATCH, "here")
    assert retries.give_up(BATCH) is None
    assert retries.give_up({4: "bread"}) == Lost("3 workers died over this row")
    assert retries.give_up({9: "milk"}) is None


def test_workers_that_went_down_with_their_nodes_count_less() -> None:
    retries: Retries[str] = Retries(lambda: {"here"})
    for number in range(3 * DEATHS - 1):
        retries.put_back_suspects({4: "bread"}, f"gone {number}")
        assert retries.give_up({4: "bread"}) is None
    retries.put_back_suspects({4: "bread"}, "gone too")
    assert retries.give_up({4: "bread"}) == Lost("9 workers died over this row")


def test_a_share_leaves_the_rest_first_in_line() -> None:
    retries: Retries[str] = Retries(set)
    retries.put_back([BATCH, {}, {7: "milk"}])
    assert len(retries) == 4
    assert retries.take(one_of) == {3: "salt"}
    assert waiting(retries) == [{4: "bread", 5: "tea"}, {7: "milk"}]
    assert retries.take(all_of) == {}
