"""A real Ray cluster of two nodes on this machine; each test starts its own, for they kill parts of it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

NODE = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}


class TwoNodes:
    """The head, which the driver is on, and another node, which a test may kill."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=dict(NODE))
        self.address: str = self._cluster.address
        self.other: Any = None
        self.add()

    def add(self) -> None:
        """Add the other node."""
        self.other = self._cluster.add_node(**NODE)
        self._cluster.wait_for_nodes()

    def kill_other(self) -> None:
        """Kill the other node's raylet by its process id; its workers die with it."""
        (raylet,) = [info.process for info in self.other.all_processes["raylet"]]
        os.kill(raylet.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End every process of the cluster."""
        with contextlib.suppress(Exception):
            self._cluster.remove_node(self.other, allow_graceful=False)
        self._cluster.shutdown()


@pytest.fixture
def two_nodes(_cache_of_the_session: None) -> Iterator[TwoNodes]:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    cluster = TwoNodes()
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.stop()


@pytest.fixture
def on_line() -> Callable[[Any, int], bool]:
    """Whether a file has at least so many lines."""

    def at_least(path: Any, count: int) -> bool:
        return path.exists() and path.read_bytes().count(b"\n") >= count

    return at_least
