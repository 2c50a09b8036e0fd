"""SIGKILL at random moments over a whole run: called again, it ends like one that nothing disturbed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from tests.conftest import make_suite
from tests.test_run import read, start, without_times

KILLS = 30
IN_A_ROW = 3
"""So often a run is killed again before it may end."""
ARGUMENTS = ("--models", "base,tuned", "--limit", "8")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL"),
]


@pytest.fixture
def eight_held_out(tiny_workplace: Path) -> Path:
    """The tiny workplace with a suite of eight held-out tasks instead of six."""
    from harness.render.browser import find_browser

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    suite = tiny_workplace / "tasks" / "small"
    for file in suite.iterdir():
        file.unlink()
    suite.rmdir()
    make_suite(suite, train=6, held_out=8)
    return tiny_workplace


def test_thirty_kills_over_all_stages_leave_no_trace(eight_held_out: Path, tmp_path: Path) -> None:
    """Each round begins with an empty cache. Set HARNESS_TEST_SEED to repeat the moments of a run that failed."""
    seed = int(os.environ.get("HARNESS_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HARNESS_TEST_SEED={seed}")
    moments = random.Random(seed)
    began = time.monotonic()
    _finish(eight_held_out, tmp_path / "quiet-cache", "quiet")
    span = time.monotonic() - began
    wanted = _results(eight_held_out / "reports" / "quiet")
    landed: list[str] = []
    for number in itertools.count():
        name, cache = f"round-{number}", tmp_path / f"cache-{number}"
        for _ in range(IN_A_ROW):
            wait = moments.uniform(0, span)
            began = time.monotonic()
            stage = _kill(eight_held_out, cache, name, wait)
            if stage is None:  # it was done before its moment came
                span = min(span, time.monotonic() - began) if not landed else span
                break
            landed.append(stage)
            print(f"{name}: kill {len(landed)} after {wait:.1f} of {span:.1f} s, in: {stage}", flush=True)
        _finish(eight_held_out, cache, name)
        assert _results(eight_held_out / "reports" / name) == wanted
        if len(landed) >= KILLS:
            break
    assert len({stage.split(" ")[0] for stage in landed}) >= 4  # starting, training, answering, scoring, ...


def _results(folder: Path) -> list[Any]:
    return [without_times(read(folder, name)) for name in ("samples.jsonl", "summary.json")]


def _finish(workplace: Path, cache: Path, name: str) -> None:
    process = start(workplace, cache, *ARGUMENTS, "--name", name)
    _, error = process.communicate(timeout=600)
    assert (process.returncode, error) == (0, "")


def _kill(workplace: Path, cache: Path, name: str, wait: float) -> str | None:
    """Start the run, kill it after `wait` seconds, and return the last thing that it said; None if it was done."""
    process = start(workplace, cache, *ARGUMENTS, "--name", name)
    try:
        process.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        lines = said.strip().splitlines()
        return lines[-1].strip() if lines else "starting"
    assert process.returncode == 0
    return None
