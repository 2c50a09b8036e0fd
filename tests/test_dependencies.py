"""Every package that is imported is declared, so that none is there only because another one brings it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_DECLARED = {
    "triton": "comes with torch where there is a GPU, and is asked for before it is imported",
    "vllm": "asks for an older transformers than ours, so that no extra could name it (docs/models.md)",
}
OPTIONAL = {"liger_kernel": "gpu", "ray": "ray"}
"""Imported where an extra has been installed."""


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


@cache
def imported() -> list[tuple[str, Path]]:
    found = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"harness"}:
                found.append((name, path.relative_to(ROOT)))
    return found


def test_every_import_is_declared() -> None:
    known = packages_distributions()
    needed, missing = declared(PROJECT["dependencies"]), []
    found = imported()
    assert len({name for name, _ in found}) > 30
    for name, path in found:
        names = {canonicalize_name(one) for one in known.get(name, [name])}
        if name in OPTIONAL:
            assert canonicalize_name(name) in declared(PROJECT["optional-dependencies"][OPTIONAL[name]])
        elif name not in NOT_DECLARED and not names & needed:
            missing.append(f"{name} in {path}")
    assert missing == []


def test_every_dependency_is_imported_or_said_to_be_needed_by_another() -> None:
    """None is left over from code that is gone."""
    known = packages_distributions()
    used = {canonicalize_name(one) for name, _ in imported() for one in known.get(name, [name])}
    assert declared(PROJECT["dependencies"]) - used == set()


def test_every_dependency_has_bounds() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        if requirement.name.startswith("types-") or requirement.extras:
            continue
        assert {one.operator for one in requirement.specifier} == {">=", "<"}, requirement


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_classifiers_name_the_pythons_that_are_tried(version: str) -> None:
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert re.search(rf'python: .*"{version}"', workflow)


def test_the_classifiers_are_known() -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) <= classifiers
