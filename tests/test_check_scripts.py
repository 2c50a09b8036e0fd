"""Where the scripts cannot be checked, lint says so in a line and goes on; what is wrong with one ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is checked and of what checks it, without what npm fetches."""
    for folder in ("tools", "harness/report/assets", "harness/vote/assets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


def check(project: Path, **more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(project / "tools/check_scripts.py")]
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **more}, check=False)


def test_without_node_it_is_one_line(project: Path) -> None:
    done = check(project, PATH="")
    assert (done.returncode, done.stdout) == (0, "scripts: not checked: node and npm are not here\n")


@pytest.mark.skipif(not shutil.which("npm"), reason="no npm here")
def test_without_a_registry_it_is_one_line(project: Path) -> None:
    done = check(project, npm_config_registry="http://127.0.0.1:9/", npm_config_cache=str(project / "cache"),
                 npm_config_fetch_retries="0")  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("scripts: not checked: npm did not fetch what checks them: ")
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(
    not (ROOT / "tools/javascript/node_modules/.lock").exists(), reason="no type check here: make lint fetches it"
)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("export const a = (x) => x;", "implicitly has an 'any' type"),
        ('import { no } from "./dom.js";\nno();', "has no exported member 'no'"),
        ("debugger;", "no-debugger"),
    ],
)
def test_what_is_wrong_is_named(project: Path, wrong: str, said: str) -> None:
    (project / "tools/javascript/node_modules").symlink_to(ROOT / "tools/javascript/node_modules")
    (project / "harness/report/assets/wrong.js").write_text(wrong + "\n")
    done = check(project)
    assert done.returncode == 1 and said in done.stdout and "wrong.js" in done.stdout
