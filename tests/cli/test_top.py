from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness import __version__
from harness.cli import doctor
from tests.conftest import ROOT, CommandLine

HEAVY = {"torch", "transformers", "datasets", "trl", "peft", "playwright", "scipy", "lxml", "evaluate"}


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["suites", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, sys\nsys.argv = ['harness', *json.loads(sys.argv[1])]\n"
        "from harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted(name for name in sys.modules if '.' not in name)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "harness" in loaded
    assert loaded & HEAVY == set()
    assert arguments != ["--help"] or "pydantic" not in loaded  # below the top, typer itself looks for pydantic


def test_help_names_the_commands(command_line: CommandLine) -> None:
    code, out, _ = command_line("--help")
    assert code == 0
    assert {"run", "generate", "suites", "doctor"} <= {line.split()[0] for line in out.splitlines() if line.strip()}


def test_the_version_is_told(command_line: CommandLine) -> None:
    assert command_line("--version") == (0, f"harness {__version__}\n", "")


def test_an_unknown_command_or_option_is_wrong_usage(command_line: CommandLine) -> None:
    for arguments in (["rnu"], ["run", "--suite", "x"], ["run", "--limit", "many"]):
        code, out, error = command_line(*arguments)
        assert code == 2
        assert "Traceback" not in out + error


def test_the_doctor_finds_what_the_tests_need(command_line: CommandLine) -> None:
    _, out, error = command_line("doctor")
    lines = out.splitlines()
    assert error == ""
    for subject in ("packages", "device", "embedded model", "browser", "cache"):
        assert any(f"  {subject}: " in line for line in lines)


def test_the_doctor_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.errors import HarnessError

    def missing() -> tuple[bool | None, str]:
        raise HarnessError("no Chromium was found", "install one")

    monkeypatch.setattr(doctor, "_CHECKS", (doctor._guarded("browser", missing),))
    assert doctor.examine() == 1
    assert capsys.readouterr().out == "MISSING  browser: no Chromium was found (install one)\n"
    monkeypatch.setattr(doctor, "_CHECKS", (doctor._guarded("checker", missing, needed=False),))
    assert doctor.examine() == 0
    assert capsys.readouterr().out == "without  checker: no Chromium was found (install one)\n"
