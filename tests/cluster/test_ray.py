"""Runs on a real Ray cluster of two nodes: the same rows as in one process, whoever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.actors import Actors
from harness.cluster.executor import RayExecutor
from harness.cluster.facts import NodeFacts
from harness.cluster.pool import WorkerPool
from harness.errors import HarnessError
from harness.pipeline.config import RunConfig
from harness.types import CONTROL_NAMES
from tests.cluster.conftest import TwoNodes
from tests.cluster.poisoned import DistantFiles, DyingModelWorker, DyingScoreWorker
from tests.conftest import ROOT, CommandLine
from tests.pipeline.test_run import do, read, without_times

pytestmark = pytest.mark.slow

TASKS = 8
PROFILE = """\
title: Embedded, short
weights: {{folder: {weights}}}
prompt: |-
  {{{{ prompt }}}}{{% if input %}} {{{{ input }}}}{{% endif %}}
chat: true
dtype: float32
max_new_tokens: 40
batch_size: 2
suites: [html_starter]
"""


@pytest.fixture(scope="module")
def local_rows(embedded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A working folder with a short profile of the embedded model, and the rows of a run in this process."""
    import shutil

    work = tmp_path_factory.mktemp("ray") / "work"
    for name in ("tasks", "baselines"):
        shutil.copytree(ROOT / name, work / name)
    profile = work / "baselines" / "short"
    profile.mkdir()
    (profile / "profile.yaml").write_text(PROFILE.format(weights=embedded_folder))
    (profile / "base.yaml").write_text("description: As made.\n")
    (profile / "base-fewshot.yaml").write_text("few_shot: 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(work / "cache"))
        patch.chdir(work)
        folder, _ = do(RunConfig(models=("base", "base-fewshot"), profile="short", limit=TASKS, name="local"))
        return work, without_times(read(folder, "samples.jsonl"))


@pytest.fixture
def work(local_rows: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(local_rows[0])
    return local_rows[0]


def request(cluster: TwoNodes, name: str) -> RunConfig:
    return RunConfig(
        models=("base", "base-fewshot"), profile="short", limit=TASKS, name=name, executor="ray",
        address=cluster.address, actors=Actors(models=2, cpus=1, scorers=2, browsers=2),
    )  # fmt: skip


@contextmanager
def once(ready: Callable[[], bool], act: Callable[[], None]) -> Iterator[list[bool]]:
    """Act in a thread as soon as `ready`; the list holds True once it happened."""
    done: list[bool] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if ready():
                act()
                done.append(True)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def lines(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The whole lines of the files that match."""
    found = []
    for path in folder.glob(pattern):
        found += [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return found


def rendered(cache: Path) -> int:
    return sum(1 for _ in cache.glob("renders/**/*.json"))


def assert_nothing_twice(cache: Path, folder: Path) -> None:
    keys = Counter(line["key"] for line in lines(cache, "completions/*.jsonl"))
    assert set(keys.values()) == {1}
    assert len(keys) == 2 * TASKS
    rows = Counter((row["task"], row["model"]) for row in lines(folder, "journal.jsonl"))
    assert set(rows.values()) == {1}
    assert len(rows) == TASKS * (2 + len(CONTROL_NAMES))


def test_two_nodes_give_the_rows_of_one_process(
    two_nodes: TwoNodes, work: Path, local_rows: tuple[Path, list[Any]], own_cache: Path, command_line: CommandLine
) -> None:
    folder, said = do(request(two_nodes, "whole"))
    assert "Ray: 2 nodes, 2 workers for models, 2 for pages with 2 browsers each" in said
    assert without_times(read(folder, "samples.jsonl")) == local_rows[1]
    assert_nothing_twice(own_cache, folder)
    manifest = read(folder, "manifest.json")
    assert manifest["executor"]["name"] == "ray"
    assert len(manifest["executor"]["nodes"]) == 2
    assert manifest["deciding"] == read(work / "reports" / "local", "manifest.json")["deciding"]
    for row in read(folder, "samples.jsonl"):
        assert all((folder / shot).is_file() for shot in row["shots"].values())

    # again: everything is there
    before = (folder / "journal.jsonl").read_bytes()
    do(request(two_nodes, "whole"))
    assert (folder / "journal.jsonl").read_bytes() == before

    code, out, _ = command_line("doctor", "--address", two_nodes.address)
    assert code == 0
    assert out.count("ok       node ") == 2
    two_nodes.add(HARNESS_BROWSER="no-such-browser")
    code, out, _ = command_line("doctor", "--address", two_nodes.address)
    assert code == 1
    assert "HARNESS_BROWSER=no-such-browser is no program" in out.partition("DIFFERS  node ")[2]
    with pytest.raises(HarnessError, match="would not measure pages as this machine does: HARNESS_BROWSER"):
        do(request(two_nodes, "mixed"))


def test_a_node_killed_while_it_generates(
    two_nodes: TwoNodes, work: Path, local_rows: tuple[Path, list[Any]], own_cache: Path, monkeypatch: Any
) -> None:
    pools: list[WorkerPool[Any, Any]] = []
    begin = WorkerPool.map
    monkeypatch.setattr(WorkerPool, "map", lambda self, *given: pools.append(self) or begin(self, *given))

    def both_generate() -> bool:
        workers = [worker for pool in pools if pool.name == "models" for worker in pool._workers]
        return bool(lines(own_cache, "completions/*.jsonl")) and all(worker.jobs for worker in workers)

    with once(both_generate, two_nodes.kill_other) as killed:
        folder, said = do(request(two_nodes, "killed-generating"))
    assert killed
    assert "models: a worker died on node" in said
    assert without_times(read(folder, "samples.jsonl")) == local_rows[1]
    assert_nothing_twice(own_cache, folder)


def test_a_node_killed_while_it_renders(
    two_nodes: TwoNodes, work: Path, local_rows: tuple[Path, list[Any]], own_cache: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("harness.cluster.executor.CHUNK", 6)
    # four workers on four CPUs, one of them for models: the other node has a page's worker, wherever that one is
    actors = Actors(models=1, cpus=1, scorers=3, browsers=2)
    ready: dict[str, int] = {}
    """How many pages were rendered when a node's first worker was ready."""
    welcome = RayExecutor._welcome_scorer

    def note(executor: RayExecutor, facts: NodeFacts) -> None:
        welcome(executor, facts)
        ready.setdefault(facts.node, rendered(own_cache))

    def it_renders() -> bool:
        other = two_nodes.other.node_id
        return other in ready and rendered(own_cache) >= ready[other] + 2

    monkeypatch.setattr(RayExecutor, "_welcome_scorer", note)
    with once(it_renders, two_nodes.kill_other) as killed:
        folder, said = do(replace(request(two_nodes, "killed-rendering"), actors=actors))
    assert killed
    assert "pages: a worker died on node" in said, said
    assert without_times(read(folder, "samples.jsonl")) == local_rows[1]
    assert_nothing_twice(own_cache, folder)


def test_the_driver_killed_and_run_again(
    two_nodes: TwoNodes, work: Path, local_rows: tuple[Path, list[Any]], own_cache: Path
) -> None:
    command = [
        sys.executable, "-m", "harness", "run", "--models", "base,base-fewshot", "--profile", "short", "--limit",
        str(TASKS), "--name", "driver", "--executor", "ray", "--address", two_nodes.address,
        "--actors", "models=2,cpus=1,scorers=2,browsers=2",
    ]  # fmt: skip
    folder = work / "reports" / "driver"
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(lines(own_cache, "completions/*.jsonl")) < TASKS + 1:
        assert driver.poll() is None
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    stored = lines(own_cache, "completions/*.jsonl")
    assert TASKS < len(stored) < 2 * TASKS
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert without_times(read(folder, "samples.jsonl")) == local_rows[1]
    assert_nothing_twice(own_cache, folder)
    kept = {line["key"]: line["seconds"] for line in stored}
    assert kept.items() <= {line["key"]: line["seconds"] for line in lines(own_cache, "completions/*.jsonl")}.items()


def test_a_row_that_kills_its_workers_is_named_and_the_rest_goes_on(
    two_nodes: TwoNodes, work: Path, local_rows: tuple[Path, list[Any]], own_cache: Path, monkeypatch: Any
) -> None:
    ids = sorted({row["task"] for row in local_rows[1]})
    poison = ids[3]
    two_nodes.stop()
    monkeypatch.setenv("POISON_TASK", poison)
    two_nodes.__init__()  # type: ignore[misc]
    monkeypatch.setattr("harness.cluster.executor.ModelWorker", DyingModelWorker)
    monkeypatch.setattr("harness.cluster.executor.ScoreWorker", DyingScoreWorker)
    folder, said = do(request(two_nodes, "poison"))
    assert "models: 3 workers died over this row" in said
    assert "pages: 3 workers died over this row" in said
    rows = {(row["task"], row["model"]): row for row in read(folder, "samples.jsonl")}
    assert len(rows) == len(local_rows[1])
    for local in local_rows[1]:
        row = rows[local["task"], local["model"]]
        if local["task"] == poison and local["model"] in ("base", "base-fewshot", "reference"):
            assert set(row["scores"].values()) == {None}
            assert set(row["notes"].values()) == {"3 workers died over this row"}
            assert row["outcome"] == "unscored"
        else:
            assert without_times(row) == local
    assert len(lines(own_cache, "completions/*.jsonl")) == 2 * TASKS - 2


def test_weights_arrive_in_pieces_where_no_disk_is_shared(
    two_nodes: TwoNodes, tiny_folder: Path, own_cache: Path, monkeypatch: Any
) -> None:
    import ray

    from harness.cluster.files import FolderSource, obtain, weights_sha256

    ray.init(two_nodes.address, log_to_driver=False)
    monkeypatch.setattr("harness.cluster.files.PIECE_BYTES", 1_000_000)
    server = ray.remote(num_cpus=0)(DistantFiles).remote(str(tiny_folder))
    sha = weights_sha256(tiny_folder)
    assert sha is not None
    received = obtain(FolderSource("/not/on/this/machine", sha), server)
    assert received.is_relative_to(own_cache)
    for path in tiny_folder.iterdir():
        assert (received / path.name).read_bytes() == path.read_bytes()
    ray.kill(server)
    assert obtain(FolderSource("/not/on/this/machine", sha), server) == received
    with pytest.raises(Exception, match=r"died|dead|kill"):
        obtain(FolderSource("/not/on/this/machine", "0" * 64), server)
