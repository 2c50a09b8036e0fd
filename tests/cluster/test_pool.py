"""A pool of workers on a real Ray cluster: each item comes once, whoever dies or has to make room."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.pool import WorkerPool
from harness.cluster.retries import Lost
from harness.cluster.source import Shares
from tests.cluster.poisoned import DEADLY_ONCE, POISON, Doubler
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of this machine with four CPUs, for all of these tests: workers die here, nodes do not."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for whatever else this machine does
        ray.init(num_cpus=4, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def four_cpus(cluster: None) -> None:
    """Wait until the workers of the test before have left."""
    import ray

    end = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 4:
        assert time.monotonic() < end, f"its CPUs are not free: {ray.available_resources()}"
        time.sleep(0.05)


def doublers(name: str, count: int, notes: Path, said: list[str], seconds: float = 0) -> WorkerPool[int]:
    import ray

    actor = ray.remote(num_cpus=1, max_restarts=0)(Doubler)
    return WorkerPool(
        name, functools.partial(actor.remote, str(notes), seconds), count, lambda facts: None, said.append
    )


def doubled(pool: WorkerPool[int], items: Iterable[int], batch: int, prepare: Any = None) -> list[tuple[int, Any]]:
    def send(worker: Any, numbered: Any) -> Any:
        return worker.work.options(num_returns="streaming").remote(numbered)

    source = Shares(items, unit=batch, largest=2 * batch)
    return [pair for pairs in pool.map(source, send, prepare) for pair in pairs]


def test_every_item_comes_once_and_poison_is_tried_three_times(four_cpus: None, tmp_path: Path) -> None:
    notes, said = tmp_path / "notes", []
    pool = doublers("doublers", 2, notes, said)
    came = doubled(pool, range(40), 5)
    results = dict(came)
    assert len(came) == len(results)
    assert results.pop(POISON) == Lost("3 workers died over this row")
    assert results == {number: 2 * number for number in range(40) if number != POISON}
    begun = Counter(map(int, notes.read_text().split()))
    assert begun.pop(POISON) in (3, 4)  # 4: the batch before it was over, but had not yet said so
    assert max(begun.values()) == 1  # what was delivered is never done again; what came after the poison had not begun
    assert said[-1] == "doublers: 3 workers died over this row"
    pool.close()


def test_a_pool_without_a_place_gets_one_of_another(
    four_cpus: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr("harness.cluster.pool._STARVED_S", 1.0)
    notes, said = tmp_path / "notes", []
    many, few = doublers("many", 4, notes, said, seconds=0.2), doublers("few", 1, tmp_path / "other", said)
    many.starved, few.starved = few.make_room, many.make_room
    numbers = range(100, 160)
    came: list[tuple[int, Any]] = []
    assert doubled(many, [1], 1) == [(1, 2)]
    ray.get([worker.placed for worker in many._workers])  # all four have their places
    working = threading.Thread(target=lambda: came.extend(doubled(many, numbers, 5)))
    working.start()
    assert sorted(doubled(few, range(6), 2)) == [(number, 2 * number) for number in range(6)]
    working.join(timeout=60)
    assert sorted(came) == [(number, 2 * number) for number in numbers]
    # A loaded machine may need longer to place the waiting worker than it takes to ask again. The last one stays while
    # it has work, and is given up like any idle one once the work is done.
    assert [line.partition(" node ")[0] for line in said] == ["many: a worker on"] * len(said)
    assert [line[-12:] for line in said] == [f"{wanted} wanted now" for wanted in (3, 2, 1, 1)][: len(said)] != []
    many.close()
    few.close()


def test_the_last_worker_is_not_taken_from_its_work(four_cpus: None, tmp_path: Path) -> None:
    import ray

    said: list[str] = []
    pool = doublers("doublers", 4, tmp_path / "notes", said, seconds=0.2)
    numbers = range(100, 140)
    came: list[tuple[int, Any]] = []
    assert doubled(pool, [1], 1) == [(1, 2)]
    ray.get([worker.placed for worker in pool._workers])
    working = threading.Thread(target=lambda: came.extend(doubled(pool, numbers, 5)))
    working.start()
    time.sleep(0.5)
    assert [pool.make_room() for _ in range(4)] == [True, True, True, False]
    working.join(timeout=60)
    assert sorted(came) == [(number, 2 * number) for number in numbers]
    assert pool.make_room()  # nothing to do
    assert doubled(pool, [1], 1) == [(1, 2)]
    pool.close()


def test_a_worker_that_is_not_ready_gets_nothing_and_a_live_one_takes_over(four_cpus: None, tmp_path: Path) -> None:
    notes, said = tmp_path / "notes", []
    pool = doublers("doublers", 2, notes, said)
    assert doubled(pool, [1], 1) == [(1, 2)]
    prepared: list[Any] = []

    def prepare(actor: Any) -> Any:
        """The first two are ready at once, those that replace a dead one never while there is something to do."""
        prepared.append(actor)
        return actor.prepare.remote(0 if len(prepared) <= 2 else 600)

    started = time.monotonic()
    numbers = [*range(100, 110), DEADLY_ONCE, *range(110, 120)]
    came = doubled(pool, numbers, 5, prepare)
    assert sorted(came) == sorted((number, 2 * number) for number in numbers)
    assert time.monotonic() - started < 300
    assert len(prepared) <= 3  # the third may not have said hello before all was done
    assert [line.partition(" on node ")[0] for line in said] == ["doublers: a worker died"]
    pool.close()
