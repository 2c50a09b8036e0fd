"""What `html-harness setup` fetches, with programs and an index that only pretend."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.model.profile_schema import PackagedGguf
from harness.model.weights import packaged_file
from harness.render.browser import BrowserChoice
from harness.setup import browser, embedded, machine
from harness.setup.machine import Step
from harness.storage import packages

FILE = b"GGUF and what follows"
GGUF = PackagedGguf(package="no_such_package", file="model.gguf", sha256=hashlib.sha256(FILE).hexdigest())


class Programs:
    """Stands for the programs of a machine: remembers what is run; a browser is there after `until` was."""

    def __init__(self, until: str) -> None:
        self.said: list[str] = []
        self.until = until

    def run(self, command: Sequence[str], seconds: float | None = None) -> int:
        self.said.append(" ".join(command))
        if "playwright" in command and self.until == "hangs":
            raise subprocess.TimeoutExpired(command, 1.0)
        return 0

    def browser(self) -> str:
        return "chromium 1" if any(self.until in line for line in self.said) else ""

    def count(self, part: str) -> int:
        return sum(part in line for line in self.said)


def programs(until: str, monkeypatch: pytest.MonkeyPatch, apt: bool = True) -> Programs:
    made = Programs(until)
    monkeypatch.setattr(browser, "run", made.run)
    monkeypatch.setattr(browser, "browser", made.browser)
    monkeypatch.setattr(browser.shutil, "which", lambda name: f"/usr/bin/{name}" if apt else None)
    return made


def test_playwrights_own_browser_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made = programs("playwright install", monkeypatch)
    said: list[str] = []
    assert browser.install_browser(said.append) == "chromium 1"
    assert made.said == [f"{sys.executable} -m playwright install chromium --only-shell"]
    assert said == ["Playwright's own …"]


def test_a_download_without_end_falls_back_to_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    made = programs("hangs", monkeypatch)
    monkeypatch.setattr(browser, "browser", lambda: "chromium 2" if made.count("install -y") else "")
    said: list[str] = []
    assert browser.install_browser(said.append) == "chromium 2"
    assert made.count("apt-get install -y -qq chromium-headless-shell") == 1
    assert any("did not end within" in line for line in said)


def test_no_browser_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    programs("never", monkeypatch, apt=False)
    with pytest.raises(HarnessError, match=r"no browser could be had \(install Chrome or Chromium"):
        browser.install_browser(lambda line: None)


def test_a_program_that_is_missing_is_an_answer_and_no_traceback(tmp_path: Path) -> None:
    assert browser.run([str(tmp_path / "no-such-program")]) == 127


class Index:
    """Stands for pip and an index with one package that holds `content`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[str, ...]] = []
        self.fault: Exception | None = None

    def install(self, *arguments: str, seconds: float) -> None:
        self.asked.append(arguments)
        folder = Path(arguments[arguments.index("--target") + 1]) / GGUF.package
        folder.mkdir(parents=True)
        (folder / GGUF.file).write_bytes(self.content)
        (folder / "__init__.py").touch()
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def index(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.delenv("HARNESS_EMBEDDED_MODEL", raising=False)
    made = Index(FILE)
    monkeypatch.setattr(embedded, "install", made.install)
    return made


def kept(cache: Path) -> list[Path]:
    """Everything below the cache's folder for it, locks and hashes aside."""
    return [path for path in (cache / "packaged").rglob("*") if path.suffix != ".lock"]


def test_the_models_file_lies_in_the_cache_alone_and_is_fetched_once(index: Index, own_cache: Path) -> None:
    assert embedded.embedded_model(GGUF) == ""
    path = embedded.fetch_embedded(GGUF)
    assert Path(path).read_bytes() == FILE
    assert kept(own_cache) == [Path(path).parent, Path(path)]
    assert embedded.embedded_model(GGUF) == path == embedded.fetch_embedded(GGUF) == str(packaged_file(GGUF))
    (asked,) = index.asked
    assert asked[0] == "--no-deps" and asked[-1] == embedded.REQUIREMENT


def test_what_is_not_the_models_file_is_not_kept(index: Index, own_cache: Path) -> None:
    index.content = FILE[:-1]
    with pytest.raises(HarnessError, match=r"does not hold the model\.gguf that the profile names"):
        embedded.fetch_embedded(GGUF)
    index.fault = subprocess.CalledProcessError(1, "pip", stderr="ERROR: no network\nnotice: a new pip\n")
    with pytest.raises(HarnessError, match=r"could not be fetched: ERROR: no network \(check the network"):
        embedded.fetch_embedded(GGUF)
    assert kept(own_cache) == []
    with pytest.raises(HarnessError, match=r"is not on this machine \(run `html-harness setup`\)"):
        packaged_file(GGUF)


def test_a_file_that_is_there_can_be_named(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(FILE)
    monkeypatch.setenv("HARNESS_EMBEDDED_MODEL", str(file))
    assert packaged_file(GGUF) == file
    file.write_bytes(b"another")
    with pytest.raises(HarnessError, match=r"mine\.gguf is not the file that the profile names"):
        packaged_file(GGUF)


def broken(say: machine.Say) -> str:
    raise HarnessError("no network", "look at the cable")


def test_each_step_is_taken_though_one_before_it_failed() -> None:
    said: list[str] = []
    wanted = [
        Step("browser", lambda: "", broken),
        Step("checker", lambda: "", lambda say: say("looking …") or "checker: not to be had"),  # type: ignore[func-returns-value]
        Step("model", lambda: "here", broken),
    ]
    with pytest.raises(HarnessError, match=r"^browser: no network \(look at the cable\)$"):
        machine.set_up(wanted, said.append)
    assert said == ["checker: looking …", "checker: not to be had (0 s)", "model: here"]


def test_what_is_there_is_said_unless_it_is_to_be_quiet() -> None:
    said: list[str] = []
    there = [Step("browser", lambda: "chromium 1", broken)]
    machine.set_up(there, said.append, quiet=True)
    assert said == []
    machine.set_up(there, said.append)
    assert said == ["browser: chromium 1", "ready after 0 s"]


def test_the_checker_can_be_left_out() -> None:
    names = [step.name for step in machine.steps(checker=True)]
    assert names == ["browser", "Nu Html Checker", "embedded model"]
    assert [step.name for step in machine.steps(checker=False)] == [names[0], names[2]]


@pytest.mark.parametrize(
    ("pip", "programs", "target", "begin"),
    [
        (True, ("uv",), False, [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]),
        (False, ("uv", "pip"), False, ["/bin/uv", "pip", "install", "--python", sys.executable, "--quiet"]),
        (False, ("pip",), True, ["/bin/pip", "--disable-pip-version-check", "install", "--quiet"]),
        (False, ("pip",), False, None),  # of another Python: what it installs is not found here
        (False, (), True, None),
    ],
)
def test_packages_are_installed_with_the_installer_that_is_there(
    pip: bool, programs: tuple[str, ...], target: bool, begin: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: object() if pip else None)
    monkeypatch.setattr(packages.shutil, "which", lambda name: f"/bin/{name}" if name in programs else None)
    monkeypatch.setattr(packages.subprocess, "run", lambda command, **_: ran.append(command))
    words = ["--target", "here", "a==1"] if target else ["a==1"]
    if begin is None:
        with pytest.raises(OSError, match="neither pip nor uv"):
            packages.install(*words, seconds=1)
    else:
        packages.install(*words, seconds=1)
        assert ran == [[*begin, *words]]


def test_a_browser_fetched_alone_says_the_same_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = programs("playwright install", monkeypatch)
    assert browser.main() == 0
    assert re.fullmatch(
        r"setup: browser: Playwright's own …\nsetup: browser: chromium 1 \(\d+ s\)\n", capsys.readouterr().out
    )
    assert browser.main() == 0
    assert made.count("") == 1 and capsys.readouterr().out == ""
    programs("never", monkeypatch, apt=False)
    assert browser.main() == 1
    assert capsys.readouterr().err.startswith("no browser could be had (install Chrome")


def test_a_browser_is_left_out_where_it_is_not_asked_for() -> None:
    assert [step.name for step in machine.steps(browser=False, checker=True)] == ["Nu Html Checker", "embedded model"]


def test_the_files_that_a_set_up_stands_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, shell = tmp_path / "model.gguf", tmp_path / "shell"
    model.write_bytes(FILE)
    monkeypatch.setenv("HARNESS_EMBEDDED_MODEL", str(model))
    monkeypatch.setattr(machine, "embedded_gguf", lambda: GGUF)
    choice = BrowserChoice(str(shell), "shell", "1", "")
    monkeypatch.setattr(browser, "find_browser", lambda: choice)
    assert machine.found_files() == [str(shell), str(model)]
    choice = BrowserChoice(None, "chromium", "1", "")  # Playwright alone knows where: nothing to look for
    assert machine.found_files() == []
