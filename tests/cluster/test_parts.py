"""What the Ray executor is made of, without a cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster.actors import Actors, WorkerCounts, parse_actors, plan_workers
from harness.cluster.connect import _hint, joined
from harness.cluster.facts import differences, node_facts, refuse_strangers
from harness.cluster.source import Shares, StreamedBatches
from harness.errors import HarnessError, UsageError
from tests.conftest import CommandLine


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": resources}


def test_actors_are_words_with_numbers() -> None:
    assert parse_actors("") == Actors()
    assert parse_actors("models=4, gpus=0.5,scorers=16") == Actors(models=4, gpus=0.5, scorers=16)
    with pytest.raises(UsageError, match="did you mean 'models'"):
        parse_actors("model=4")
    for wrong in ("models", "models=", "models=x", "models=0", "gpus=-1", "gpus=nan", "cpus=inf"):
        with pytest.raises(UsageError, match="is no number"):
            parse_actors(wrong)


@pytest.mark.parametrize(
    ("actors", "nodes", "counts"),
    [
        ("", [node(CPU=2), node(CPU=2)], WorkerCounts(2, 0, 1, 2, 2)),
        ("", [node(CPU=1)], WorkerCounts(1, 0, 1, 1, 2)),
        ("", [node(CPU=64, GPU=8), node(CPU=64, GPU=8)], WorkerCounts(16, 1, 1, 56, 3)),
        ("gpus=0.5", [node(CPU=16, GPU=1)], WorkerCounts(2, 0.5, 1, 7, 3)),
        (
            "",
            [node(CPU=4), node(CPU=32, GPU=2), {"Alive": False, "Resources": {"GPU": 8}}],
            WorkerCounts(2, 1, 1, 17, 3),
        ),
        ("models=3,cpus=2,scorers=5,browsers=4", [node(CPU=8)], WorkerCounts(3, 0, 2, 5, 4)),
    ],
)
def test_what_is_left_open_is_decided_by_the_cluster(actors: str, nodes: list[Any], counts: WorkerCounts) -> None:
    assert plan_workers(parse_actors(actors), nodes) == counts


def sizes_taken(source: Shares[int], workers: int) -> list[int]:
    sizes = []
    while not source.ended:
        sizes.append(len(source.take(workers)))
    return sizes


@pytest.mark.parametrize(
    ("items", "workers", "sizes"),
    [
        (100, 1, [100]),
        (256, 2, [128, 128]),
        (255, 2, [128, 127]),
        (40, 2, [20, 20]),
        (3, 2, [2, 1]),
        (1, 4, [1]),
        (0, 2, []),
        (1300, 2, [512, 394, 394]),
        (1500, 1, [512, 512, 476]),
    ],
)
def test_workers_get_equal_shares_of_the_end(items: int, workers: int, sizes: list[int]) -> None:
    assert sizes_taken(Shares(range(items), unit=32, largest=512), workers) == sizes


@given(items=st.integers(0, 3000), workers=st.integers(1, 9), unit=st.integers(1, 64), passes=st.integers(2, 16))
def test_no_share_is_less_than_a_pass_while_there_is_one_for_each_worker(
    items: int, workers: int, unit: int, passes: int
) -> None:
    sizes = sizes_taken(Shares(range(items), unit, passes * unit), workers)
    assert sum(sizes) == items
    assert all(size >= unit for size in sizes[:-1]) or items < workers * unit
    assert max(sizes, default=0) <= passes * unit


def test_what_a_dead_worker_leaves_is_shared_but_no_pass_is_cut() -> None:
    source = Shares(range(500), unit=32, largest=512)
    assert [source.share(left, 2) for left in (100, 64, 63, 1)] == [50, 32, 63, 1]


def drained(source: StreamedBatches[int]) -> list[list[int]]:
    batches = []
    while not source.ended:
        batch = source.take(2)
        if batch:
            batches.append(list(batch))
        else:
            source.wait(0.01)
    return batches


def test_fed_batches_hold_everything_once_and_in_order() -> None:
    with StreamedBatches(range(25), batch=10, ahead=10) as source:
        batches = drained(source)
    assert [item for batch in batches for item in batch] == list(range(25))
    assert max(len(batch) for batch in batches) == 10


def test_an_iterator_too_far_ahead_is_held_back() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    with StreamedBatches(items(), batch=5, ahead=10) as source:
        while len(made) < 11:
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(made) == 11  # ten wait, the eleventh is in hand
        assert list(source.take(1)) == [0, 1, 2, 3, 4]
        source._closed.set()


def test_what_the_iterator_raises_reaches_the_taker() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise HarnessError("the disk is full")

    with pytest.raises(HarnessError, match="disk is full"), StreamedBatches(items(), batch=5, ahead=10) as source:
        drained(source)


def test_a_node_with_another_browser_is_refused_and_another_torch_is_only_named() -> None:
    packages = {"torch": "2.13.0", "peft": "0.21"}
    ours = replace(node_facts(), browser="chromium 156.0", fonts="aa", problem="", host="here", packages=packages)
    refuse_strangers(ours, [ours])
    torch = replace(ours, packages={"torch": "2.12.0"})
    assert differences(ours, torch) == ["peft missing instead of 0.21", "torch 2.12.0 instead of 2.13.0"]
    refuse_strangers(ours, [torch])
    for other, words in (
        ({"browser": "chromium 150.0"}, "browser chromium 150.0 instead of chromium 156.0"),
        ({"fonts": "bb"}, "fonts bb instead of aa"),
        ({"browser": None, "problem": "no Chromium was found (install one)"}, "no Chromium was found"),
        ({"tools": {**ours.tools, "lxml": "5.0"}}, "lxml 5.0 instead of"),
        ({"code": "0"}, "code 0 instead of"),
    ):
        with pytest.raises(HarnessError, match=f"node there would not measure pages .*{words}"):
            refuse_strangers(ours, [ours, replace(ours, host="there", **other)])


def test_without_the_extra_it_is_one_line(
    tiny_workplace: Any, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    for command in (("run", "--profile", "tiny", "--executor", "ray"), ("doctor", "--address", "auto")):
        code, _, said = command_line(*command)
        assert code == 2
        assert said == (
            'error: --executor ray needs the package ray, which is not installed (pip install "html-harness[ray]")\n'
        )


def test_a_cluster_that_may_want_a_token_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "ray start --head" in _hint()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert "export RAY_AUTH_MODE=token" in _hint()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "ray start --head" in _hint()


@pytest.mark.parametrize("port", [0, 70_000])
def test_an_address_where_nobody_listens_is_one_line_at_once(port: int) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{port or free.getsockname()[1]}"
    with pytest.raises(HarnessError, match=f"there is no Ray cluster at {address}: "), joined(address):
        pass


def test_the_cluster_options_are_for_ray(tiny_workplace: Any, command_line: CommandLine) -> None:
    code, _, said = command_line("run", "--profile", "tiny", "--address", "auto")
    assert (code, said.count("\n")) == (2, 1)
    assert "--executor ray" in said
    code, _, said = command_line("run", "--profile", "tiny", "--executor", "rai")
    assert (code, said.count("\n")) == (2, 1)
    assert "'rai' is not one of 'local', 'ray'" in said
