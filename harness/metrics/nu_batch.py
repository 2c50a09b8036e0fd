"""The Nu Html Checker's command line over files: what is left where its servlet does not start (`nu_server`)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.metrics.nu_process import JVM_OPTIONS
from harness.metrics.nu_queue import NuMessage, Told
from harness.types import OVERRAN

_PAGES_PER_JVM = 16
_START_SECONDS = 30.0
_SECONDS_PER_PAGE = 1.0
PAGE_SECONDS = 5.0


def check(java: str, jar: str, documents: Sequence[bytes]) -> list[Told]:
    """Return Nu's messages about each document, or why there are none, in order.

    A JVM checks 16 pages. Where it dies or overruns, each of its pages gets a JVM of its own, once.
    """
    found: list[Told] = []
    for start in range(0, len(documents), _PAGES_PER_JVM):
        batch = documents[start : start + _PAGES_PER_JVM]
        seconds = _START_SECONDS + _SECONDS_PER_PAGE * len(batch)
        together = _run(java, jar, batch, seconds)
        if isinstance(together, list):
            found += together
        else:
            for document in batch:
                alone = _run(java, jar, [document], _START_SECONDS + PAGE_SECONDS)
                found.append(alone if isinstance(alone, str) else alone[0])
    return found


def _run(java: str, jar: str, documents: Sequence[bytes], seconds: float) -> list[Told] | str:
    """One JVM over `documents`; why where it failed as a whole."""
    with tempfile.TemporaryDirectory(prefix="nu-") as name:
        folder = Path(name)
        for index, document in enumerate(documents):
            (folder / f"{index}.html").write_bytes(document)
        command = [java, *JVM_OPTIONS, "-jar", jar, "--format", "json", "--stdout", "--exit-zero-always"]
        try:
            done = subprocess.run(
                [*command, *(f"{index}.html" for index in range(len(documents)))],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{OVERRAN}the Nu Html Checker had not finished after {seconds:g} s"
        except OSError as error:
            return f"the Nu Html Checker did not start: {error}"
        try:
            messages: list[NuMessage] | None = json.loads(done.stdout)["messages"] if done.returncode == 0 else None
        except (ValueError, KeyError):
            messages = None
    if messages is None:
        return "the Nu Html Checker ended on this page"
    by_page: list[Told] = [[] for _ in documents]
    for message in messages:
        stem = str(message.get("url", "")).rpartition("/")[2].removesuffix(".html")
        page = by_page[int(stem)] if stem.isdigit() and int(stem) < len(documents) else None
        if isinstance(page, list):
            page.append(message)
    return by_page
