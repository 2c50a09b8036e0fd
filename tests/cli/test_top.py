from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.main import get_command

from harness import __version__
from harness.cli import doctor
from harness.cli.app import app
from harness.setup import machine
from tests.cli.parsing import parse
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


def test_a_run_that_is_refused_loads_no_torch(tmp_path: Path) -> None:
    """It takes seconds, and who mistyped a word waits for them."""
    code = (
        "import sys\nsys.argv = ['harness', 'run', '--profile', 'none-of-this-name']\n"
        "from harness.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2, end.code\n"
        "assert 'harness.pipeline.run' in sys.modules\nsys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr


def test_help_names_the_commands(command_line: CommandLine) -> None:
    code, out, _ = command_line("--help")
    assert code == 0
    panels = [re.split(r"─ (.*?) ─", line)[1] for line in out.splitlines() if line.startswith("╭")]
    assert panels == ["Options", "Measure", "Look at results", "Models and suites", "This machine"]
    listed = {words[1] for words in map(str.split, out.splitlines()) if len(words) > 3}
    assert {*get_command(app).commands} - listed == {"judge"}  # type: ignore[attr-defined]  # a group has commands


def test_the_name_alone_says_what_to_type_next(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps() -> list[str]:
        code, out, error = command_line()
        assert (code, error) == (0, "")
        return [line.removeprefix("  harness ") for line in out.splitlines() if line.startswith("  harness ")]

    monkeypatch.chdir(tmp_path)
    (found,) = machine.steps(checker=False)[:1]
    here, lacking = replace(found, look=lambda: "there"), replace(found, look=lambda: "")
    monkeypatch.setattr(machine, "steps", lambda checker: [here])
    assert [parse(shlex.split(step))[0] for step in steps()] == ["run", "suites new", "run", "doctor"]
    monkeypatch.setattr(machine, "steps", lambda checker: [here, lacking])
    assert steps()[0] == "setup" and len(steps()) == 5
    assert "once: fetches the browser\n" in command_line()[1]
    (tmp_path / "reports" / "mine").mkdir(parents=True)
    (tmp_path / "reports" / "mine" / "summary.json").touch()
    assert steps()[:2] == ["setup", "report mine"]


@pytest.mark.parametrize("called", [[sys.executable, "-m", "harness"], ["html-harness"]])
def test_usage_is_said_in_the_words_it_was_called_by(called: list[str], tmp_path: Path) -> None:
    """The console command is a script that imports `main`, as an installer writes it."""
    if called == ["html-harness"]:
        script = tmp_path / "html-harness"
        script.write_text("import sys\nfrom harness.cli import main\nsys.exit(main())\n")
        called = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    name = "html-harness" if "-m" not in called else "python -m harness"
    done = subprocess.run([*called, "report", "--help"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0
    assert f" Usage: {name} report " in done.stdout


def test_the_version_is_told(command_line: CommandLine) -> None:
    assert command_line("--version") == (0, f"harness {__version__}\n", "")


def test_an_unknown_command_or_option_is_wrong_usage(command_line: CommandLine) -> None:
    for arguments, said in (
        (["rnu"], "No such command 'rnu'. Did you mean 'run'? (see harness --help)"),
        (["run", "--suite", "x"], "--suites"),
        (["run", "--limit", "many"], "Invalid value for '--limit'"),
        (["run", "--executor", "rya"], "'rya' is not one of 'local', 'ray'. (see harness run --help)"),
        (["run", "--shard", "9/4"], "--shard 9/4 is not I/N (for example --shard 1/4, the first of four parts)"),
        (["run", "--actors", "foo=1"], "--actors has no 'foo'"),
        (["score", "x"], "Missing argument 'OUTPUTS.jsonl'"),
    ):
        code, out, error = command_line(*arguments)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert error.startswith("error: ") and said in error


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
