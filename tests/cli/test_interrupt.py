"""Ctrl-C and SIGTERM: what the command line says, also where the shell has it ignore SIGINT."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandLine
from tests.pipeline.test_faults import written_run


@pytest.mark.parametrize(
    ("target", "arguments", "said"),
    [
        ("harness.pipeline.run.run", ["run"], "stopped; the same command goes on from here\n"),
        ("harness.pipeline.config.resolve", ["train"], "stopped; the same command goes on from here\n"),
        ("harness.suite.load.find_suites", ["suites", "check"], "stopped; the same command goes on from here\n"),
        ("harness.pipeline.config.resolve", ["generate", "x"], "stopped\n"),
        ("harness.cli.doctor.examine", ["doctor"], "stopped\n"),
    ],
)
def test_ctrl_c_says_whether_the_same_command_goes_on(
    target: str, arguments: list[str], said: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(target, stop)
    assert command_line(*arguments) == (130, "", said)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("ending", "ignored"), [(signal.SIGTERM, True), (signal.SIGINT, False)])
def test_voting_ends_and_keeps_the_votes(tmp_path: Path, ending: signal.Signals, ignored: bool) -> None:
    """As `nohup html-harness vote RUN &` starts it, and as a terminal does."""
    written_run(tmp_path / "reports" / "r")
    handler = "SIG_IGN" if ignored else "SIG_DFL"
    start = (
        f"import signal, os, sys; signal.signal(signal.SIGINT, signal.{handler}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, sys.executable, "-m", "harness", "vote", "r"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert re.search(r"http://\S+/", process.stdout.readline())
        if ignored:
            process.send_signal(signal.SIGINT)  # without effect, which is why there is another way
        process.send_signal(ending)
        said, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, error) == (0, "")
    assert "0 votes kept" in said
