"""A real Ray cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NODE = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}


class TwoNodes:
    """The head, which the driver is on, and another node, which a test may kill."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=dict(NODE))
        self.address: str = self._cluster.address
        self.other: Any = None
        self.add()

    def add(self, **environment: str) -> None:
        """Add another node, its environment as here but for these variables."""
        self.other = self._cluster.add_node(**NODE, env_vars=environment or None)
        self._cluster.wait_for_nodes()

    def kill_other(self) -> None:
        """Kill the other node's raylet by its process id; its workers die with it."""
        (raylet,) = [info.process for info in self.other.all_processes["raylet"]]
        os.kill(raylet.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End every process of the cluster."""
        for node in list(self._cluster.worker_nodes):
            with contextlib.suppress(Exception):
                self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.shutdown()


@contextlib.contextmanager
def cluster_of_two() -> Iterator[TwoNodes]:
    """Two nodes of two CPUs each, whose workers use this source tree; the test is skipped where none can be started."""
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            cluster = TwoNodes()
        except Exception as error:
            pytest.skip(f"no cluster of two nodes can be started here: {error}")
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.stop()


@pytest.fixture
def two_nodes(own_cache: Path) -> Iterator[TwoNodes]:
    """A cluster of the test's own, which may kill parts of it; its workers use the test's own cache."""
    with cluster_of_two() as cluster:
        yield cluster
