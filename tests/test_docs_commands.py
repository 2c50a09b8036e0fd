"""Every command that documentation, notebook and suites show is one that the command line takes."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from harness.cli.app import app
from harness.errors import HarnessError, UsageError
from harness.model.profile import profile_names
from harness.render.browser import find_browser
from harness.suite.load import find_suites
from harness.suite.rows import SUFFIXES
from tests.cli.parsing import parse
from tests.conftest import ROOT, SUBJECTS, CommandLine
from tests.generate.transformers.architectures import ARCHITECTURES, SIZES, make

PAGES = [*sorted(ROOT.glob("docs/*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
PAGES += [ROOT / "baselines" / "scores" / "README.md", ROOT / "reports" / "README.md"]
CALL = re.compile(r"(?:-m harness|(?:^|[\s/])html-harness)\s+(?=[a-z-])(.*)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group has commands
OWN_SUITES = {"mine", "recipes"}
"""Suites that the documentation makes."""


def shown() -> Iterator[tuple[str, str]]:
    """Yield each whole command with the place that shows it."""
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        for line in [*(line for line in blocks if "pip install" not in line), *spans]:
            if found := CALL.search(line):
                yield str(page.relative_to(ROOT)), found[1]
    for suite in sorted(ROOT.glob("tasks/*/suite.yaml")):
        for line in suite.read_text("utf-8").splitlines():
            if found := CALL.search(line):
                yield str(suite.relative_to(ROOT)), found[1]
    yield "Makefile", next(filter(None, map(CALL.search, (ROOT / "Makefile").read_text().splitlines())))[1]


def in_the_notebook() -> Iterator[str]:
    """Yield each command of the notebook's cells and words, with its settings filled in."""
    cells = json.loads((ROOT / "docs" / "colab.ipynb").read_text("utf-8"))["cells"]
    sources = {cell["id"]: "".join(cell["source"]) for cell in cells}
    settings: dict[str, Any] = {"prompt": "A page"}
    exec(sources["settings"], settings)
    for source in sources.values():
        for _, call in re.findall(r"harness\(f?(['\"])(.*?)\1\)", source):
            yield call.format(**settings)


def words_of(line: str) -> list[str]:
    """Split a line as a shell does that knows the variables: of numbers where one is asked for."""
    line = re.sub(r"\$\w+(?=/\d)", "1", line.replace("$(ARGS)", ""))
    return shlex.split(re.sub(r"\$(\w+)", r"\1", line), comments=True)


SHOWN = sorted(set(shown()))


def test_commands_are_found_in_all_kinds_of_places() -> None:
    pages = {page for page, _ in SHOWN}
    assert {"README.md", "docs/ci.md", "docs/scaling.md", "docs/training.md", "docs/suites.md", "Makefile"} <= pages
    assert "tasks/html_alpaca/suite.yaml" in pages
    assert len(SHOWN) >= 35


@pytest.mark.parametrize(("page", "line"), SHOWN)
def test_a_command_that_is_shown_is_one(page: str, line: str) -> None:
    command, values = parse(words_of(line))
    assert command != "judge"
    if values.get("profile"):
        assert values["profile"] in profile_names(ROOT / "baselines")
    suites = {suite.name for suite in find_suites(ROOT / "tasks")} | OWN_SUITES | {"NAME"}
    named = [*(values.get("suites") or "").split(","), values.get("suite") or ""]
    named += [word.partition("=")[0] for word in values.get("data") or ()]
    assert {name for name in named if name} <= suites


@pytest.mark.slow
def test_the_three_lines_about_ones_own_model_and_data_do_what_they_say(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    text = (ROOT / "README.md").read_text("utf-8").partition("## Your own model and data")[2]
    lines = FENCE.findall(text)[0].splitlines()
    assert len(lines) == 3 and all(line.startswith("html-harness ") for line in lines)
    longer = replace(ARCHITECTURES["Llama, tied"], sizes=SIZES | {"max_position_embeddings": 2048})
    make(longer, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    with Path("rows.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("prompt", "reference"), *((asked, page) for _, asked, page in SUBJECTS)])
    said = [command_line(*words_of(line.replace("Qwen/Qwen2.5-0.5B-Instruct", "model"))[1:]) for line in lines]
    assert [code for code, _, _ in said[:2]] == [0, 0], said
    assert said[2][0] == 0 or "the model wrote no page" in said[2][2], "a random model hardly writes one"
    (run,) = (path.parent for path in Path("reports").glob("*/summary.json"))
    models = json.loads((run / "manifest.json").read_text())["models"]
    assert models["tuned"]["training"]["suite"] == "mine" and models["tuned"]["training"]["rows"] > 5
    assert json.loads((run / "summary.json").read_text())["verdict"]["pair"] == "base:tuned"
    assert "from the cache" in said[2][2], "the page is of the model that the second line trained"


def test_the_commands_of_the_notebook_are_some() -> None:
    calls = list(in_the_notebook())
    assert {parse(words_of(call))[0] for call in calls} >= {"doctor", "plan", "train", "run", "report", "generate"}
    assert len(calls) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_in_passing_exists(page: Path) -> None:
    """`train --push me/x` in a sentence: the command, and each option; and targets of make."""
    text = page.read_text("utf-8")
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        first, *rest = span.split()
        if first in COMMANDS and rest:
            command = COMMANDS[first]
            if hasattr(command, "commands"):
                command = command.commands[rest[0]]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in rest if word.startswith("--")} <= known, span
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*FENCE.findall(text), *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]
    for line in "\n".join(code).splitlines():
        if made := re.match(r"(?:\s*- run: )?make ([a-z-]+)", line):
            assert made[1] in targets, line


@pytest.mark.parametrize(
    "line", ["rnu", "run --modles x", "run --limit x", "plan --gpu h10", "run --shard 5/4", "suites chekc", "score x"]
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises((UsageError, typer.BadParameter.__mro__[1])):
        parse(words_of(line))


def test_the_formats_in_the_help_are_those_that_are_read() -> None:
    names = {"JSONL": ".jsonl .ndjson", "JSON": ".json", "CSV": ".csv", "TSV": ".tsv", "Parquet": ".parquet"}
    names |= {"Arrow": ".arrow", "Feather": ".feather", "YAML": ".yaml .yml"}
    assert {suffix for suffixes in names.values() for suffix in suffixes.split()} == set(SUFFIXES)
    new = COMMANDS["suites"].commands["new"]
    for command, option in ((COMMANDS["run"], "--data"), (COMMANDS["train"], "--data"), (new, "--from")):
        (help_text,) = [parameter.help for parameter in command.params if option in parameter.opts]
        assert {name for name in names if re.search(rf"\b{name}\b", help_text)} == set(names)
