"""Writes constraints.txt: the exact version of every package that the harness and its extras stand on.

Run by `make raise`: pip resolves pyproject.toml as in an empty environment, without installing anything, and what it
finds becomes the file. With `--installed` the file is made of the packages that lie in the Python that runs this.

The versions have to serve every Python and platform in `ENVIRONMENTS`, so they are sought with the oldest Python: a
release that has dropped it would leave it without any. What is wanted on one platform or one Python alone (CUDA's
libraries, say) stays out: there is nobody on the others to notice when its version is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
EXTRAS = ("dev", "ray")
OLDEST = (3, 11)
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
}
ENVIRONMENTS = tuple(product(PYTHONS, PLATFORMS))
OF_THE_ENVIRONMENT = frozenset({"pip", "setuptools", "html-harness"})
"""Part of every virtual environment, or the harness itself."""
HEAD = """\
# The versions that `make` installs: nothing changes before somebody raises them with `make raise`.
"""


@dataclass(frozen=True, slots=True)
class Package:
    """A version of a package, with what it requires (PEP 508)."""

    version: str
    requires: tuple[str, ...]


Lookup = Callable[[str], Package | None]
"""From a package's normalized name to what is known of it, None where it is not there."""


def main() -> int:
    """Write the file and say what has changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--installed", action="store_true", help="take the versions that are installed")
    options = parser.parse_args()
    if sys.version_info[:2] != OLDEST:
        oldest = ".".join(map(str, OLDEST))
        print(f"raise: the versions have to serve Python {oldest}: make raise PYTHON=python{oldest}", file=sys.stderr)
        return 2
    wanted = [Requirement(line) for line in project_requirements()]
    try:
        found = pinned(wanted, installed if options.installed else resolved().get)
    except (LookupError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        print(f"raise: {said[-1] if said else error}", file=sys.stderr)
        return 1
    before = read_constraints(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    FILE.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in found.items()), encoding="utf-8")
    for name in sorted(before.keys() | found.keys()):
        if before.get(name) != found.get(name):
            print(f"raise: {name} {before.get(name, 'new')} -> {found.get(name, 'gone')}")
    print(f"raise: {FILE.name} holds {len(found)} packages: make test")
    return 0


def project_requirements() -> list[str]:
    """Return the requirements of pyproject.toml with those of `EXTRAS`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]


def read_constraints(text: str) -> dict[str, str]:
    """Return the versions in a constraints file by name."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def resolved() -> dict[str, Package]:
    """Ask pip what it would install into an empty environment today.

    Raises:
        CalledProcessError: the requirements contradict each other, or there is no network.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        harness = f"{ROOT}[{','.join(EXTRAS)}]"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        command += ["--dry-run", "--ignore-installed", "--report", str(report), harness]
        subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)
        items = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {
        canonicalize_name(item["name"]): Package(item["version"], tuple(item.get("requires_dist", ())))
        for item in items
    }


@cache
def installed(name: str) -> Package | None:
    """Return what lies in the Python that runs this."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return Package(found.version, tuple(found.requires or ()))


def pinned(wanted: Iterable[Requirement], lookup: Lookup) -> dict[str, str]:
    """Return the versions of all that is wanted on more than one platform and Python, by name and sorted.

    Args:
        wanted: The requirements to start from.
        lookup: Knows the packages.

    Raises:
        LookupError: a package that is wanted everywhere is not there.
    """
    wanted = list(wanted)
    users: dict[str, set[tuple[str, str]]] = {}
    for python, platform in ENVIRONMENTS:
        for name in closure(wanted, lookup, marker_values(python, platform)):
            users.setdefault(name, set()).add((python, platform))
    versions = {}
    for name in sorted(users.keys() - OF_THE_ENVIRONMENT):
        pythons, platforms = ({user[axis] for user in users[name]} for axis in (0, 1))
        if len(pythons) == 1 or len(platforms) == 1:
            continue
        package = lookup(name)
        if package is None and len(users[name]) == len(ENVIRONMENTS):
            raise LookupError(f"{name} is required and not there")
        if package is not None:
            versions[name] = Version(package.version).public  # torch 2.13.0+cpu is 2.13.0 of another build
    return versions


def marker_values(python: str, platform: str) -> dict[str, str]:
    """Return what a marker sees on a Python (`3.12`) and a platform of `PLATFORMS`."""
    here = {name: str(value) for name, value in default_environment().items()}
    return {**here, **PLATFORMS[platform], "python_version": python, "python_full_version": f"{python}.9"}


_read = cache(Requirement)  # each is met on every Python and platform


def closure(wanted: Iterable[Requirement], lookup: Lookup, environment: Mapping[str, str]) -> set[str]:
    """Return the names of all packages that the requirements lead to in one environment."""
    todo = [(requirement, "") for requirement in wanted]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, asking_extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": asking_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) not in seen:
                seen.add((name, extra))
                package = lookup(name)
                todo += [(_read(line), extra) for line in (package.requires if package else ())]
    return {name for name, _ in seen}


if __name__ == "__main__":
    sys.exit(main())
