"""The ready example of docs/ci.md does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from harness.compare.command import run_freeze_command
from tests.compare.compare_data import make_rows
from tests.conftest import ROOT, CommandLine

DOCS = (ROOT / "docs" / "ci.md").read_text("utf-8")
BLOCKS: list[Any] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCS, re.S)]
(RULES,) = [block for block in BLOCKS if "rules" in block]
(WORKFLOW,) = [block for block in BLOCKS if "jobs" in block]
COMMANDS = [step["run"] for step in WORKFLOW["jobs"]["gate"]["steps"] if "run" in step]


def test_the_workflow_is_one() -> None:
    assert WORKFLOW[True] == "pull_request"  # YAML reads the key `on` as a truth value, and GitHub knows it
    assert all(("run" in step) != ("uses" in step) for step in WORKFLOW["jobs"]["gate"]["steps"])
    assert "make setup" in COMMANDS


@pytest.mark.parametrize(("before", "now", "wanted"), [(0.0, 0.4, 0), (0.4, 0.0, 100)])
def test_its_command_holds_a_run_against_frozen_scores(
    write_run: Callable[..., Path],
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: float,
    now: float,
    wanted: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    old = write_run("main", make_rows(64, gain=before))
    run_freeze_command("main")
    shutil.rmtree(old)
    write_run("pr", make_rows(64, gain=now))
    rules = yaml.safe_dump(RULES).replace("html_starter", "starter").replace("renders", "extracted")
    (tmp_path / "gate.yaml").write_text(rules)
    (command,) = [line for line in COMMANDS if " compare " in line]
    arguments = shlex.split(command.partition("-m harness ")[2])
    code, said, error = command_line(*arguments)
    assert (code, error) == (wanted, "")
    failures = ElementTree.parse(tmp_path / "gate.xml").getroot().findall(".//failure")
    assert bool(failures) == bool(wanted)
    assert ("FAILED" in said) == bool(wanted)
    assert "| Conforming ★ |" in (tmp_path / "gate.md").read_text("utf-8")
