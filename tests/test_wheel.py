"""An installed harness: what the wheel holds, and a job in an empty folder with no checkout anywhere near."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.render.browser import find_browser
from harness.suite.load import SuiteLocation, load_suite
from tests.conftest import ROOT, TINY_PROFILE

TREES = {"harness": "harness", "tasks": "harness/builtin/tasks", "baselines": "harness/builtin/baselines"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_suites_and_its_profiles(wheel: Path) -> None:
    wanted = {
        f"{inside}/{path.relative_to(ROOT / tree).as_posix()}"
        for tree, inside in TREES.items()
        for path in (ROOT / tree).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    wanted = {name for name in wanted if not name.startswith("harness/builtin/baselines/scores/")}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == wanted
    assert {"harness/py.typed", "harness/builtin/tasks/html_alpaca/suite.yaml"} <= found
    assert "harness/builtin/baselines/smollm2-135m/profile.yaml" in found


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    texts = {
        name.rpartition("/")[2]: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name
    }
    assert "html-harness = harness.cli:main" in texts["entry_points.txt"]
    assert "Classifier: Typing :: Typed" in texts["METADATA"]
    assert "License-Expression: Apache-2.0" in texts["METADATA"]
    assert "Apache License" in texts["LICENSE"]


class Installed:
    """An environment with the wheel and, beside it, the packages of the one that runs the tests; an empty folder."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.home, self.place = folder / "env", folder / "an empty folder"
        self.place.mkdir()
        venv.create(self.home, with_pip=False)
        python = self.home / "bin" / "python"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
        subprocess.run([*command, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
        (self.site,) = (self.home / "lib").glob("python*/site-packages")
        # a path file is read for its own lines alone: the editable harness of that environment stays out of sight
        (self.site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            [str(self.home / "bin" / words[0]), *words[1:]],
            cwd=self.place,
            env=environment | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    if os.name == "nt":
        pytest.skip("programs lie elsewhere there")
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_a_job_in_an_empty_folder_is_done_and_reported_there(installed: Installed) -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    where = installed("python", "-c", "import harness; print(harness.__file__)").stdout.strip()
    assert Path(where).parent.parent == installed.site
    listed = installed("html-harness", "suites", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    starter = next(line for line in listed.stdout.splitlines() if line.startswith("html_starter "))
    assert "226" in starter and "112" in starter
    assert any(line.startswith("html_alpaca ") for line in listed.stdout.splitlines())

    assert installed("html-harness", "suites", "new", "own").returncode == 0
    suite = load_suite(SuiteLocation("own", installed.place / "tasks" / "own"))
    rows = [{"task": task.id, "completion": "<!DOCTYPE html><title>a</title><p>b"} for task in suite.held_out]
    (installed.place / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = installed("html-harness", "score", "own", "answers.jsonl", "--name", "mine")
    assert (scored.returncode, scored.stderr) == (0, "")
    report = installed.place / "reports" / "mine"
    assert {"index.html", "manifest.json", "samples.jsonl"} <= {path.name for path in report.iterdir()}
    manifest = json.loads((report / "manifest.json").read_text())
    assert manifest["git"] == {"commit": None, "dirty": None}
    assert sorted(path.name for path in installed.place.iterdir()) == ["answers.jsonl", "reports", "tasks"]


def test_set_up_says_what_is_there(installed: Installed) -> None:
    """Where it is there: what fetches it is tried in tests/setup."""
    try:
        browser = find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    model = os.environ.get("HARNESS_EMBEDDED_MODEL")
    if model is None:
        pytest.skip("the embedded model is not here: html-harness setup")
    said = installed("html-harness", "setup", "--no-checker")
    assert (said.returncode, said.stderr) == (0, "")
    lines = [f"setup: browser: {browser.name} {browser.version}", f"setup: embedded model: {model}"]
    assert said.stdout.splitlines()[:2] == lines
    quiet = installed("html-harness", "setup", "--no-checker", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


PROFILES = """
from harness.model.profile import load_profile, model_names, profile_names
for name in profile_names():
    profile = load_profile(name)
    print(name, profile.file.title, ",".join(model_names(profile)), profile.why, sep="|")
"""


def test_profiles_are_found_and_ones_own_come_first(installed: Installed) -> None:
    def known() -> dict[str, list[str]]:
        said = installed("python", "-c", PROFILES)
        assert (said.returncode, said.stderr) == (0, "")
        return {words[0]: words[1:] for words in (line.split("|") for line in said.stdout.splitlines())}

    built_in = known()
    assert set(built_in) == {path.parent.name for path in (ROOT / "baselines").glob("*/profile.yaml")}
    assert {"base", "base-fewshot", "tuned"} <= set(built_in["smollm2-135m"][1].split(","))
    own = installed.place / "baselines" / "smollm2-135m"
    own.mkdir(parents=True)
    try:
        (own / "profile.yaml").write_text(TINY_PROFILE.format(weights="here"))
        changed = known()
    finally:
        shutil.rmtree(own.parent)
    assert changed["smollm2-135m"][:2] == ["Tiny", ""]
    assert changed["smollm2-135m"][2] == (
        "chosen by --profile; that of baselines/smollm2-135m is taken, not the one of that name that is built in"
    )
    assert {**changed, "smollm2-135m": None} == {**built_in, "smollm2-135m": None}
