"""What lies in the working folder comes before what travels with the harness, and that is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.model.profile import load_profile, profile_names, resolve_model
from harness.storage import builtin
from harness.storage.builtin import builtin_folder, find_all
from harness.suite.load import find_suite, find_suites, load_suite
from tests.conftest import ROOT, CommandLine, make_suite


def test_in_a_checkout_the_folders_beside_the_package_are_the_built_in_ones() -> None:
    assert builtin_folder("tasks") == ROOT / "tasks"
    assert builtin_folder("no-such-folder") is None


def test_a_copy_of_the_package_elsewhere_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tasks` in a folder of packages is somebody else's."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "tasks").mkdir()
    monkeypatch.setattr(builtin, "_PACKAGE", tmp_path / "harness")
    assert builtin_folder("tasks") is None
    (tmp_path / "harness" / "builtin" / "tasks").mkdir(parents=True)
    assert builtin_folder("tasks") == tmp_path / "harness" / "builtin" / "tasks"


def test_an_empty_folder_has_the_built_in_suites_and_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [suite.name for suite in find_suites()] == ["html_alpaca", "html_starter"]
    assert find_suite("html_starter").folder == ROOT / "tasks" / "html_starter"
    assert profile_names() == ["llama-2-7b", "smollm2-135m"]
    spec = resolve_model("llama-2-7b/base", load_profile("smollm2-135m"))
    assert (spec.name, spec.profile.name) == ("llama-2-7b/base", "llama-2-7b")
    assert find_all(Path("tasks"), "suite.yaml", alone=True) == {}


def test_ones_own_comes_first_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    monkeypatch.chdir(tmp_path)
    make_suite(tmp_path / "tasks" / "mine", train=2, held_out=2)
    make_suite(tmp_path / "tasks" / "html_starter", train=2, held_out=2)
    assert [suite.name for suite in find_suites()] == ["html_alpaca", "html_starter", "mine"]
    line = "that of tasks/html_starter is taken, not the one of that name that is built in"
    suite = load_suite(find_suite("html_starter"))
    assert (len(suite.held_out), suite.notes) == (2, (line,))
    assert load_suite(find_suite("mine")).notes == ()
    code, said, _ = command_line("suites", "list")
    assert code == 0 and f"html_starter: {line}" in " ".join(said.split()) and said.count("is taken") == 1


def test_an_unchanged_copy_shadows_nothing(workplace: Path) -> None:
    """As in a folder that somebody has copied the suites to: which of the two is taken makes no difference."""
    assert find_suite("html_starter").folder == Path("tasks/html_starter")
    assert [suite.taken for suite in find_suites()] == ["", ""]
    assert load_profile("smollm2-135m").why == "chosen by --profile"
    shutil.copy("baselines/smollm2-135m/base.yaml", "baselines/smollm2-135m/other.yaml")
    assert "that of baselines/smollm2-135m is taken" in load_profile("smollm2-135m").why
