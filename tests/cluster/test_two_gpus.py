"""The benchmark for two GPUs runs its logic on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def test_two_replicas_answer_as_one_on_a_cpu() -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    command = [sys.executable, "benchmarks/two_gpus.py", "--device", "cpu", "--tiny", "--parts", "ray,shard,equal,kill"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    parts = {line["part"]: line for line in map(json.loads, done.stdout.splitlines()[1:]) if "part" in line}
    assert set(parts) == {"ray", "shard", "equal", "kill"}
    assert parts["equal"]["equal"] == parts["equal"]["rows"] == 12
    assert parts["kill"]["equal"] == parts["kill"]["rows"] == 12
