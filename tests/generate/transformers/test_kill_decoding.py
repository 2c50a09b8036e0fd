"""SIGKILL in the middle of decoding: nothing finished is decoded again, and the end is that of a calm run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")


def torment(*arguments: str) -> dict[str, Any]:
    """What benchmarks/kill_decoding.py finds; it ends with 1 where a promise did not hold."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_decoding.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["decoded_again"], found["rounds_that_differ"]) == (0, 0)
    return found


def test_two_kills_in_the_middle_of_decoding_leave_no_trace(tiny_folder: Path) -> None:
    found = torment("--kills", "2", "--tasks", "12", "--new-tokens", "500", "--weights", str(tiny_folder))
    assert found["kills_in_the_middle"] == 2
    assert all(0 < stored < 12 for stored in found["answers_stored_at_the_kills"])


@pytest.mark.slow
def test_twenty_kills_in_the_middle_of_decoding_leave_no_trace(embedded_folder: Path) -> None:
    """Set HARNESS_TEST_SEED for other moments."""
    found = torment("--kills", "20", "--seed", os.environ.get("HARNESS_TEST_SEED", "0"))
    assert found["kills_in_the_middle"] == 20
    assert len(set(found["answers_stored_at_the_kills"])) > 3
