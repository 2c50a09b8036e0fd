"""Whose commit a run records."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.runs.environment import git_state
from harness.runs.manifest import GitState
from tests.conftest import ROOT

NONE = GitState()
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_repository(folder: Path, *files: str) -> str:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", *files)
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_the_harness_own_checkout_is_recorded_from_wherever_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, elsewhere = tmp_path / "html harness", tmp_path / "user"
    commit = make_repository(checkout, "harness/__init__.py", "harness/runs/environment.py")
    other = make_repository(elsewhere, "notes.txt")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))  # as in a hook
    assert git_state(checkout / "harness") == GitState(commit=commit, dirty=False)
    (checkout / "harness" / "__init__.py").write_text("x = 2\n")
    index = (checkout / ".git" / "index").read_bytes()
    assert git_state(checkout / "harness") == GitState(commit=commit, dirty=True)
    assert (checkout / ".git" / "index").read_bytes() == index
    assert commit != other


@pytest.mark.parametrize(
    "place", ["venv/lib/python3.11/site-packages/harness", "vendor/html-harness/harness", "harness"]
)
@pytest.mark.parametrize("tracked", [True, False])
def test_somebody_elses_repository_around_the_package_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, tracked: bool
) -> None:
    names = [f"{place}/__init__.py", f"{place}/runs/environment.py"]
    make_repository(tmp_path, "notes.txt", *(names if tracked else []))
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    own = tracked and place == "harness"
    assert (git_state(tmp_path / place) == NONE) is not own


def test_no_repository_at_all(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "harness" / "compare", tmp_path / "harness")
    assert git_state(tmp_path / "harness") == NONE
