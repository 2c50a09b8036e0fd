"""Joins a Ray cluster, or starts one on this machine for the time of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from harness.errors import HarnessError, UsageError
from harness.storage.variables import without_tilde

Found = TypeVar("Found")
INSTALL = 'pip install "html-harness[ray]"'
_ANSWER_SECONDS = 20.0
_STORE_BYTES = 500_000_000
"""Object store of a cluster that is started here: what is under way at one time is small."""


def import_ray() -> ModuleType:
    """Return the module ray.

    Raises:
        UsageError: the extra is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError("--executor ray needs the package ray, which is not installed", INSTALL) from error
    module: ModuleType = ray
    return module


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[ModuleType]:
    """Yield ray, connected to the cluster at `address`; None starts one on this machine and stops it at the end.

    A connection that is there already is used and left open.

    Raises:
        UsageError: ray is not installed.
        HarnessError: the cluster cannot be reached.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": None}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    else:
        options["address"] = address
    try:
        _answers(address or "")
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError, OverflowError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HarnessError(f"there is no Ray cluster at {address or 'this machine'}: {reason:.160}", _hint()) from error
    _hush()
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT, which Ray takes minutes to say; other addresses are its own."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()


def _hint() -> str:
    """Ray's head asks for a token wherever one lies, while nothing that joins it sends one unasked (seen in 2.60)."""
    kept = os.environ.get("RAY_AUTH_TOKEN_PATH") or without_tilde("~") / ".ray" / "auth_token"
    if "RAY_AUTH_MODE" not in os.environ and ("RAY_AUTH_TOKEN" in os.environ or Path(kept).is_file()):
        return "where it runs and asks for Ray's token: export RAY_AUTH_MODE=token here and on all nodes"
    return "start one with `ray start --head`, or leave --address out"


def _hush() -> None:
    """Ray prints a paragraph for each dead worker; the pool says it in a line."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with contextlib.suppress(ImportError, AttributeError):  # no public switch turns it off
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None


def on_every_node(ray: ModuleType, function: Callable[[], Found], timeout: float = 300.0) -> list[Found]:
    """Call a function of no arguments once on each node that is alive, and return its results.

    Raises:
        HarnessError: a node did not answer in time.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    refs = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    answers: list[Found] = []
    for node, ref in zip(nodes, refs, strict=True):
        try:
            answers.append(ray.get(ref, timeout=timeout))
        except ray.exceptions.RayTaskError as error:
            said = (str(error.cause).strip().splitlines() or [""])[0]
            raise HarnessError(
                f"node {node['NodeManagerHostname']} cannot run the harness: {said:.120}",
                "install the same version of it on every node",
            ) from error
        except ray.exceptions.RayError as error:
            raise HarnessError(f"node {node['NodeManagerHostname']} does not answer", "look at `ray status`") from error
    return answers
