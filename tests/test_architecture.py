"""docs/architecture.md says what the import contract says, and names what is there."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
PATHS = re.findall(r"`((?:harness|tests|tasks|docs|tools)/[\w./-]*\w\.(?:py|md|yaml)|(?:harness|tests)/[\w/]+/)`", PAGE)


def rooms_in_the_table() -> list[set[str]]:
    table = PAGE.partition("| rooms | hold |")[2].partition("\n\n")[0]
    return [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:]]


def test_the_table_is_the_contract() -> None:
    layers = [{room.strip().removeprefix("harness.") for room in layer.split("|")} for layer in CONTRACT["layers"]]
    assert rooms_in_the_table() == layers


def test_no_room_stands_outside_the_contract() -> None:
    found = {path.stem for path in (ROOT / "harness").iterdir() if (path / "__init__.py").exists()}
    found |= {path.stem for path in (ROOT / "harness").glob("*.py")}
    assert found - {"__init__", "__main__"} == set().union(*rooms_in_the_table())


def test_every_path_on_the_page_is_there() -> None:
    assert len(PATHS) > 20
    assert [path for path in PATHS if not (ROOT / path).exists() and "NAME" not in path] == []


def test_every_name_on_the_page_is_in_its_file() -> None:
    named = re.findall(r"((?:`\w+`(?:, | and )?)+)(?:[^.`;(]*?)\s(?:in|of)\s`((?:harness|tests)/[\w/]+\.py)`", PAGE)
    assert len(named) >= 10
    for names, path in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^\s*(?:(?:async )?def |class )?{name}\b", text, re.MULTILINE), (name, path)


def test_every_room_of_the_picture_is_a_room() -> None:
    picture = PAGE.partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"\b[a-z]+\b", re.sub(r'\(?\[?"[^"]*"\]?\)?|--.*?-->', " ", picture)))
    assert drawn - {"flowchart", "subgraph", "end", "files", "profile"} <= set().union(*rooms_in_the_table())
    assert len(drawn) > 10


def test_readme_and_contributing_lead_here() -> None:
    assert "(docs/architecture.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(docs/architecture.md)" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:harness|docs|tests)/[\w./]+)`", text)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


MOST_PARAMETERS = 6
PRESCRIBED = {"slot_attention", "attend_packed", "_maybe_log_save_evaluate"}
"""Functions that a library calls with parameters of its own choice."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function outside the command line, whose signatures are its options."""
    for path in sorted((ROOT / "harness").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith("harness/cli/"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield place, node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(one.arg not in ("self", "cls") for one in given)


def test_no_function_has_many_parameters() -> None:
    """A kernel for the GPU takes pointers and numbers one by one: it is left out, as is what a library prescribes."""
    found = list(functions())
    assert {node.name for _, node in found} >= PRESCRIBED
    many = [
        f"{place}: {node.name} has {parameters(node)}"
        for place, node in found
        if parameters(node) > MOST_PARAMETERS
        and node.name not in PRESCRIBED
        and "triton.jit" not in [ast.unparse(one) for one in node.decorator_list]
    ]
    assert many == []


def test_parameters_are_counted_in_whatever_form_they_stand() -> None:
    (module,) = ast.parse("async def f(self, a, /, b, c=1, *more, d, e=2, **rest): pass").body
    assert isinstance(module, ast.AsyncFunctionDef)
    assert parameters(module) == 5
