from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from harness.storage.lock import one_at_a_time
from tests.conftest import ROOT

HOLDER = (
    "import sys, time; from pathlib import Path; from harness.storage.lock import one_at_a_time\n"
    "with one_at_a_time(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_the_second_waits_says_so_once_and_goes_on_when_the_first_is_killed(tmp_path: Path) -> None:
    path, said = tmp_path / "adapter.lock", []
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        threading.Timer(0.6, holder.kill).start()
        began = time.monotonic()
        with one_at_a_time(path, lambda: said.append("waiting")):
            assert time.monotonic() - began > 0.5
    assert said == ["waiting"]


def test_a_free_lock_is_taken_at_once_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with one_at_a_time(tmp_path / "lock", lambda: (_ for _ in ()).throw(AssertionError("it waited"))):
            pass
