"""SIGKILL at random moments over a whole run: called again, it ends like one that nothing disturbed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from tests.conftest import ROOT, make_suite
from tests.pipeline.test_run import read, without_times

KILLS = 30
IN_A_ROW = 6
"""So often a run is killed again before it may end."""
MOST_TRIES = 3 * KILLS
STARTING = "starting"
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


def start(workplace: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_CACHE": str(cache)}
    command = [sys.executable, "-m", "harness", "run", "--profile", "tiny", *arguments]
    return subprocess.Popen(
        command, cwd=workplace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@dataclass
class Watched:
    """A run whose lines are read as they come: the last one names the stage that it is in."""

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    stages: list[tuple[str, float]] = field(default_factory=lambda: [(STARTING, 0.0)])
    """Each stage with the second in which it began."""

    def __post_init__(self) -> None:
        self._moved = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._moved:
                self.stages.append((_stage(line), time.monotonic() - self.began))
                self._moved.notify_all()
        with self._moved:
            self._ended = True
            self._moved.notify_all()

    def await_stage(self, name: str) -> bool:
        """Return whether the stage began before the run ended."""
        with self._moved:
            assert self._moved.wait_for(lambda: self._ended or self._in(name), timeout=600)
            return self._in(name)

    def _in(self, name: str) -> bool:
        return any(stage == name for stage, _ in self.stages)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(timeout=600)
        self._reader.join(timeout=60)
        return code


def _stage(line: str) -> str:
    """Return a line without what differs from run to run: counts and times."""
    line = line.strip()
    begun = line.endswith("…")
    name = re.split(r" …|: \d|: in ", line)[0]
    name = re.sub(r"^run .*", "run", name)
    name = re.sub(r"reports/\S+", "reports", name)
    return name if begun or name == line else f"after {name}"


def test_thirty_kills_over_all_stages_leave_no_trace(eight_held_out: Path, tmp_path: Path) -> None:
    """Each round begins with an empty cache and is killed up to six times, each at a random moment of a stage drawn
    beforehand. Set HARNESS_TEST_SEED to repeat the moments of a run that failed.
    """
    seed = int(os.environ.get("HARNESS_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HARNESS_TEST_SEED={seed}")
    chance = random.Random(seed)
    quiet = Watched(start(eight_held_out, tmp_path / "quiet-cache", *ARGUMENTS, "--name", "quiet"))
    assert quiet.end() == 0
    span = time.monotonic() - quiet.began
    wanted = _results(eight_held_out / "reports" / "quiet")
    lasted = _lasted(quiet.stages, span)
    for stage, seconds in lasted.items():
        print(f"  {seconds:6.2f} s  {stage}", flush=True)
    order = list(lasted)
    landed: Counter[str] = Counter()
    tries = number = 0
    while landed.total() < KILLS or set(order) - set(landed):
        name, cache = f"round-{number}", tmp_path / f"cache-{number}"
        # those that were hit least come first; within a round a later stage follows an earlier one
        drawn = sorted(order, key=lambda stage: (landed[stage], chance.random()))[:IN_A_ROW]
        for stage in sorted(drawn, key=order.index):
            tries += 1
            assert tries <= MOST_TRIES, f"never hit: {set(order) - set(landed)}"
            hit = _kill(eight_held_out, cache, name, stage, chance.uniform(0, lasted[stage]))
            if hit is None:  # it was done before its moment came
                break
            landed[hit] += 1
            print(f"{name}: kill {landed.total()} in: {hit}", flush=True)
        last = Watched(start(eight_held_out, cache, *ARGUMENTS, "--name", name))
        code = last.end()
        assert last.process.stderr is not None
        assert (code, last.process.stderr.read()) == (0, "")
        assert _results(eight_held_out / "reports" / name) == wanted
        print(f"{name}: the same rows and summary", flush=True)
        number += 1
    for stage in order:
        print(f"{landed[stage]:3} kills in: {stage}")


def _results(folder: Path) -> list[Any]:
    return [without_times(read(folder, name)) for name in ("samples.jsonl", "summary.json")]


def _lasted(stages: list[tuple[str, float]], span: float) -> dict[str, float]:
    """Return the seconds of each stage that is long enough for a kill to be aimed at, in their order."""
    ends = [began for _, began in stages[1:]] + [span]
    lasted: dict[str, float] = {}
    for (stage, began), ended in zip(stages, ends, strict=True):
        lasted[stage] = lasted.get(stage, 0.0) + ended - began
    return {stage: seconds for stage, seconds in lasted.items() if seconds > span / 100}


def _kill(workplace: Path, cache: Path, name: str, stage: str, wait: float) -> str | None:
    """Start the run, kill it `wait` seconds into a stage; return the stage that it was in then, None if it was done."""
    run = Watched(start(workplace, cache, *ARGUMENTS, "--name", name))
    if run.await_stage(stage):
        time.sleep(wait)
    if run.process.poll() is None:
        run.process.send_signal(signal.SIGKILL)
    code = run.end()
    assert code in (0, -signal.SIGKILL)
    return None if code == 0 else run.stages[-1][0]
