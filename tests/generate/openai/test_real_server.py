"""`transformers serve` with the embedded model, killed and started again while it answers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from harness.generate.openai.backend import ServedModel
from harness.generate.settings import GenerationSettings
from harness.model.profile import Profile
from harness.model.profile_schema import Served
from harness.model.prompt import PromptRenderer
from harness.types import Completion, Task

SUBJECTS = ("bread", "rain", "chess", "salt", "trains", "owls")
TASKS = [Task(f"t{number}", f"Write a short HTML page about {word}.") for number, word in enumerate(SUBJECTS)]
READY_S = 180


class RealServer:
    """A server process on a port that stays the same when it is started again."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.model, self.log = model, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(self.model)]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu", "--dtype", "float32"]
        quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=quiet)

    def wait(self) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            try:
                httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=2)
            except httpx2.TransportError:
                time.sleep(0.2)
            else:
                return
        pytest.fail(f"the server was not ready after {READY_S} s: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def server(embedded_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RealServer]:
    if shutil.which("transformers", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("there is no `transformers` command beside this Python")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = RealServer(embedded_folder, tmp_path / "server.log")
    found.start()
    found.wait()
    yield found
    found.kill()


@pytest.mark.slow
def test_a_server_killed_in_the_middle_is_asked_for_the_rest_only(
    server: RealServer, own_cache: Path, embedded_profile: Profile, embedded_folder: Path
) -> None:
    served = Served(
        url=f"http://127.0.0.1:{server.port}/v1", model=str(embedded_folder), concurrency=2, patience_s=READY_S
    )
    file = embedded_profile.file
    model = ServedModel("served", served, PromptRenderer(file.prompt, file.chat), GenerationSettings(24, 2))
    fresh: list[str] = []

    def kill_after_two(done: Completion, stored: bool) -> None:
        assert not stored
        fresh.append(done.task)
        if len(fresh) == 2:
            server.kill()
            server.start()

    found = model.complete(TASKS, on_done=kill_after_two)
    assert sorted(fresh) == [task.id for task in TASKS]
    assert all(done.text and done.finish_reason in ("length", "eos", "stop") for done in found)
    assert all(0 < done.completion_tokens <= 24 and done.prompt_tokens > 10 for done in found)

    stored: list[bool] = []
    server.kill()
    again = model.complete(TASKS, on_done=lambda done, from_store: stored.append(from_store))
    assert stored == [True] * len(TASKS)
    assert [done.text for done in again] == [done.text for done in found]
