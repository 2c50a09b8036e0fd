"""The installer that set-up uses, and the stamp of a finished set-up: with the real pip, and uv where there is one."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT

INDEX = "https://me:secret@index.test/simple"


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for name in ("commands", "installer", "pip_settings", "ready_stamp"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def tool(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("listing", "variables", "options"),
    [
        ("", {}, ()),
        (f"global.index-url='{INDEX}'", {"UV_INDEX_URL": INDEX}, ()),
        (f"global.index-url='https://no.test'\ninstall.index-url='{INDEX}'", {"UV_INDEX_URL": INDEX}, ()),
        (f":env:.index-url='{INDEX}'\ninstall.index-url='https://no.test'", {"UV_INDEX_URL": INDEX}, ()),
        ("download.index-url='https://no.test'", {}, ()),
        (
            r"global.extra-index-url='\nfile:///a/simple\nhttps://b'",
            {"UV_EXTRA_INDEX_URL": "file:///a/simple https://b"},
            (),
        ),
        (":env:.find-links='/a /b'", {"UV_FIND_LINKS": "/a,/b"}, ()),
        ("global.cert='/no/such/ca.pem'", {"SSL_CERT_FILE": "/no/such/ca.pem"}, ()),
        (f"global.cert='{ROOT}'", {"SSL_CERT_DIR": str(ROOT)}, ()),
        ("global.trusted-host='a b'\nglobal.timeout='9'", {"UV_INSECURE_HOST": "a b", "UV_HTTP_TIMEOUT": "9"}, ()),
        ("global.constraint='/a.txt /b.txt'", {}, ("-c", "/a.txt", "-c", "/b.txt")),
        (":env:.no-index='1'", {}, ("--no-index",)),
        (":env:.no-index='false'", {}, ()),
        ("global.no-color='1'\nglobal.cache-dir='/a'", {}, ()),
    ],
)
def test_uv_is_told_what_pip_is_told(listing: str, variables: Mapping[str, str], options: tuple[str, ...]) -> None:
    settings = tool("pip_settings").uv_settings(listing, {})
    assert settings.variables == {"UV_INDEX_STRATEGY": "unsafe-best-match", **variables}
    assert settings.options == options


@pytest.mark.parametrize("name", ["only-binary", "require-hashes", "no-binary", "target", "pre"])
def test_a_setting_that_uv_has_no_word_for_leaves_it_to_pip(name: str) -> None:
    assert tool("pip_settings").uv_settings(f"global.{name}='1'", {}) is None
    assert tool("pip_settings").uv_settings(f"download.{name}='1'", {}) is not None


def test_what_was_meant_for_uv_itself_stays() -> None:
    own = {"UV_INDEX_URL": "https://own.test", "REQUESTS_CA_BUNDLE": "/ca.pem"}
    settings = tool("pip_settings").uv_settings(f"global.index-url='{INDEX}'", own)
    assert "UV_INDEX_URL" not in settings.variables
    assert settings.variables["SSL_CERT_FILE"] == "/ca.pem"


def wheel(folder: Path, version: str) -> None:
    """Write a package without any code."""
    info = f"harness_nothing-{version}.dist-info"
    with zipfile.ZipFile(folder / f"harness_nothing-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: harness-nothing\nVersion: {version}\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def uv() -> str | None:
    return shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that pip alone has been told of, in its file; no network."""
    links = tmp_path / "links"
    links.mkdir()
    for version in ("1", "2", "3"):
        wheel(links, version)
    (tmp_path / "cap.txt").write_text("harness-nothing<3\n")
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    told = f"[global]\nno-index = true\nfind-links = {links}\nconstraint = {tmp_path / 'cap.txt'}\n"
    (tmp_path / "pip.conf").write_text(told + "[install]\nprogress-bar = off\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    return links


@pytest.mark.parametrize("program", ["pip", "uv", "uv that fails"])
@pytest.mark.parametrize(("pinned", "version"), [(None, "2"), ("harness-nothing==1\n", "1")])
def test_pip_and_uv_install_the_same(
    program: str, pinned: str | None, version: str, links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "uv" and uv() is None:
        pytest.skip("there is no uv")
    place = tmp_path / "programs"
    place.mkdir()
    if program == "uv":
        (place / "uv").symlink_to(str(uv()))
    elif program != "pip":
        (place / "uv").write_text('#!/bin/sh\n[ "$1" = --version ]\n')
        (place / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}/usr/bin{os.pathsep}/bin" if program != "pip" else str(place))
    said: list[str] = []

    def run(command: list[object], *more: object) -> object:
        said.append(" ".join(map(str, command)))
        return tool("commands").run(command, *more)

    constraints = tmp_path / "constraints.txt" if pinned else None
    if constraints:
        constraints.write_text(str(pinned))
    installer = tool("installer").Installer(Path(sys.executable), run, constraints, fetch_uv=False)
    done = installer.install("--target", str(tmp_path / "into"), "harness-nothing")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "into").glob("*.dist-info")] == [f"harness_nothing-{version}.dist-info"]
    assert ("-m pip" in said[-1]) == (program != "uv")


class Pretended:
    """Stands for the programs: remembers what is run with what environment; those in `missing` fail."""

    def __init__(self, *missing: str, listing: str = "") -> None:
        self.missing, self.listing = missing, listing
        self.said: list[tuple[str, Mapping[str, str]]] = []

    def run(
        self, command: list[object], timeout: float | None = None, environment: Mapping[str, str] | None = None
    ) -> object:
        line = " ".join(map(str, command))
        self.said.append((line, environment or {}))
        code = int(any(part in line for part in self.missing))
        return tool("commands").subprocess.CompletedProcess([], code, self.listing, "")


@pytest.mark.parametrize(
    ("missing", "fetch", "ends"),
    [
        ((), True, "/env/bin/uv pip install --python /env/bin/python x --quiet"),  # it is in the environment already
        (("uv --version",), True, "/env/bin/uv pip install --python /env/bin/python x --quiet"),  # it comes by pip
        (("uv --version", " uv=="), True, "-m pip --disable-pip-version-check install x --quiet"),
        (("uv --version",), False, "-m pip --disable-pip-version-check install x --quiet"),
        (("pip config",), True, "-m pip --disable-pip-version-check install x --quiet"),
    ],
)
def test_uv_is_fetched_where_the_environment_is_our_own(
    missing: tuple[str, ...], fetch: bool, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    programs = Pretended(*missing)
    installer = tool("installer").Installer(Path("/env/bin/python"), programs.run, None, fetch_uv=fetch)
    for _ in range(2):
        installer.install("x")
        assert programs.said[-1][0].endswith(ends)
    asked = [line for line, _ in programs.said if " uv==" in line]
    assert len(asked) == int(fetch and "uv --version" in missing)
    assert all("--only-binary :all:" in line for line in asked)


def test_no_password_is_in_a_command_or_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    programs = Pretended(listing=f"global.index-url='{INDEX}'")
    tool("installer").Installer(Path("/env/bin/python"), programs.run, None, fetch_uv=True).install("x")
    assert programs.said[-1][1]["UV_INDEX_URL"] == INDEX
    assert not any("secret" in line for line, _ in programs.said)
    assert tool("commands").last_line("", f"ERROR: nothing at {INDEX}/x (a@b)\n") == (
        "ERROR: nothing at https://index.test/simple/x (a@b)"
    )


def stamp(project: Path) -> Any:
    constraints = project / "constraints.txt"
    return tool("ready_stamp").ReadyStamp(project / "env", project / "python", project, constraints)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a finished set-up."""
    for name in ("harness/a/b.py", "tools/setup.py", "baselines/m/profile.yaml", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "env").mkdir()
    (tmp_path / "python").touch()
    (tmp_path / "the browser").touch()
    stamp(tmp_path).write(["dev", "ray"], [str(tmp_path / "the browser")])
    return tmp_path


def stands(project: Path, *extras: str) -> bool:
    return bool(stamp(project).stands(extras))


def test_a_finished_set_up_stands_for_fewer_extras_too(project: Path) -> None:
    assert stands(project) and stands(project, "dev") and stands(project, "ray", "dev")
    assert not stands(project, "dev", "gpu")


@pytest.mark.parametrize(
    "name", ["harness/a/b.py", "baselines/m/profile.yaml", "constraints.txt", "python", "harness/new.py"]
)
def test_a_finished_set_up_falls_with_what_decided_it(project: Path, name: str) -> None:
    (project / name).write_text("another")
    assert not stands(project)


@pytest.mark.parametrize("name", ["the browser", "python", "constraints.txt", "env/.harness-ready"])
def test_a_finished_set_up_falls_with_what_it_stands_on(project: Path, name: str) -> None:
    (project / name).unlink()
    assert not stands(project)


@pytest.mark.parametrize("text", ["", "torn", "a\nb"])
def test_a_torn_stamp_is_none(project: Path, text: str) -> None:
    (project / "env" / ".harness-ready").write_text(text)
    assert not stands(project)


def test_a_variable_that_says_where_things_lie_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    assert stands(project)
    monkeypatch.setenv("HARNESS_CACHE", str(project / "another"))
    assert not stands(project)
