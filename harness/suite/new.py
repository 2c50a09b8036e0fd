"""Makes a new suite: a commented `suite.yaml`, and beside it the data, or two tasks to begin from."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError, did_you_mean
from harness.storage.atomic import finished_folder
from harness.storage.hub import refusal, without_retry_warnings
from harness.suite.columns import guess_columns, guess_form
from harness.suite.conversations import CONVERSATIONS
from harness.suite.fields import foreign_texts
from harness.suite.load import (
    SuiteLocation,
    check_suite_name,
    column_names,
    column_value,
    load_suite,
    load_suite_file,
)
from harness.suite.rows import SUFFIXES, read_data

SMALL = 25
"""Rows below which half of them are held out: a fifth would be too few to compare anything by."""

USUAL_COLUMNS = {"prompt": "instruction", "input": "input", "reference": "output"}
"""Taken for a hub data set that cannot be reached to look."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

EXAMPLE = """\
# One task after the other. Needed: prompt and reference. The rest may be left out: id, input (a page that is to be
# changed), category, difficulty (easy, medium, hard), scope, checks. docs/checks.md lists all kinds of checks.
- id: counter
  category: interactive
  difficulty: easy
  prompt: A page with a button "Add one" and the number 0 above it. Each click on the button adds one to the number.
  reference: |
    <!DOCTYPE html>
    <html lang="en">
    <head><title>Counter</title></head>
    <body>
    <h1>Counter</h1>
    <p id="number">0</p>
    <button type="button" id="add">Add one</button>
    <script>
    document.getElementById("add").addEventListener("click", function () {
      var number = document.getElementById("number");
      number.textContent = Number(number.textContent) + 1;
    });
    </script>
    </body>
    </html>
  checks:
    - {why: 'a button "Add one"', level: must, see: {role: button, name: Add one}}
    - {why: "the number 0 above it", level: must, see: {text: "0", exact: true}}
    - why: "Each click on the button adds one to the number"
      level: must
      steps:
        - click: {role: button, name: Add one}
        - see: {text: "1", exact: true}
        - click: {role: button, name: Add one}
        - see: {text: "2", exact: true}
- id: opening-hours
  category: tables
  difficulty: easy
  prompt: >-
    The opening hours of a bakery as a table with the headers Day and Open, and the rows
    Saturday, 7:00-14:00 and Sunday, closed. The caption says "Opening hours".
  reference: |
    <!DOCTYPE html>
    <html lang="en">
    <head><title>Bakery</title></head>
    <body>
    <h1>Bakery</h1>
    <table>
    <caption>Opening hours</caption>
    <tr><th scope="col">Day</th><th scope="col">Open</th></tr>
    <tr><td>Saturday</td><td>7:00-14:00</td></tr>
    <tr><td>Sunday</td><td>closed</td></tr>
    </table>
    </body>
    </html>
  checks:
    - {why: "a table with the headers Day and Open", level: must, count: {role: columnheader, is: 2}}
    - {why: "Saturday, 7:00-14:00", level: must, see: {role: row, name: '/Saturday\\s+7:00/'}}
    - {why: "Sunday, closed", level: must, see: {role: row, name: '/Sunday\\s+closed/i'}}
    - {why: 'The caption says "Opening hours"', level: should, see: {css: caption, has_text: Opening hours}}
"""


@dataclass(frozen=True, slots=True)
class MadeSuite:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the harness calls it → the column taken for it; empty where the data have the harness' own names."""
    notes: tuple[str, ...] = ()
    sample: Mapping[str, str] = field(default_factory=dict)
    """A row of the data as the columns give it, to see whether they were guessed rightly."""


def make_suite(name: str, source: str | None, parent: Path) -> MadeSuite:
    """Make `parent/name/` from a data file, a hub id, or (None) with an example; nothing is ever overwritten.

    A suite made of a file is loaded before it is put in place, so that it works or is not there.

    Raises:
        UsageError: the name, the source or its columns do not do, or the folder exists.
    """
    check_suite_name(name)
    folder = parent / name
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already", "choose another name, or remove it first")
    if source is None:
        return _from_example(folder)
    path = Path(source)
    if path.is_file():
        return _from_file(folder, path)
    if path.is_dir() or path.suffix.lower() in SUFFIXES or _HUB_ID.fullmatch(source) is None:
        near = [file.name for file in path.parent.glob("*") if file.suffix.lower() in SUFFIXES]
        hint = did_you_mean(path.name, near) if near else "a hub id has the form owner/name"
        raise UsageError(f"there is no data file {source}", hint)
    return _from_hub(folder, source)


def _from_example(folder: Path) -> MadeSuite:
    text = _suite_yaml(folder.name, "files:\n  rows: [tasks.yaml]", {}, "document", [], 0.5)
    with finished_folder(folder) as temporary:
        (temporary / "suite.yaml").write_text(text, encoding="utf-8")
        (temporary / "tasks.yaml").write_text(EXAMPLE, encoding="utf-8")
        load_suite(SuiteLocation(folder.name, temporary))
    return MadeSuite(folder, (folder / "suite.yaml", folder / "tasks.yaml"))


def _from_file(folder: Path, source: Path) -> MadeSuite:
    data = read_data(source)
    rows = [row.values for row in data.rows]
    if len(rows) < 2:
        raise UsageError(f"{source} holds one row", "a split needs at least two")
    names = column_names(rows)
    rows = [foreign_texts({name: column_value(row, name) for name in names}) for row in rows]
    columns = guess_columns(names, rows, str(source))
    scope, ignore = guess_form([str(row[columns["reference"]] or "") for row in rows])
    share = 0.5 if len(rows) < SMALL else 0.2
    name = source.name if source.name != "suite.yaml" else "rows.yaml"
    text = _suite_yaml(folder.name, f"files:\n  rows: [{json.dumps(glob.escape(name))}]", columns, scope, ignore, share)
    notes = list(data.notes)
    if len(rows) < SMALL:
        notes.append(f"{len(rows)} rows are few, so half of them are held out")
    if scope == "fragment":
        notes.append("most references are parts of a page, so scope is fragment")
    if ignore:
        notes.append(f"{' and '.join(ignore)}: most references have this fault, so it does not count against a page")
    try:
        with finished_folder(folder) as temporary:
            (temporary / "suite.yaml").write_text(text, encoding="utf-8")
            shutil.copyfile(source, temporary / name)
            copied = str(temporary / name)
            suite = load_suite(SuiteLocation(folder.name, temporary))
            if not (suite.train and suite.held_out):
                raise UsageError(
                    f"all rows of {copied} are near-duplicates of one another, which stay in one part of a split",
                    "add rows that differ",
                )
    except UsageError as error:
        raise UsageError(error.message.replace(copied, str(source)), error.hint) from None
    return MadeSuite(folder, (folder / "suite.yaml", folder / name), columns, tuple(notes), _sample(rows, columns))


def _sample(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the first row that has all of the columns, else the first."""
    full = (row for row in rows if all(row[column] for column in columns.values() if column))
    row = next(full, rows[0])
    return {what: " ".join(str(row[column] or "").split()) for what, column in columns.items() if column}


def _from_hub(folder: Path, hub_id: str) -> MadeSuite:
    """The rows stay on the hub; only their columns are read, where it can be reached."""
    notes = []
    names = _hub_columns(hub_id)
    if names is None:
        columns = USUAL_COLUMNS
        notes.append(f"{hub_id} could not be reached, so its columns are assumed: look at `columns:` in suite.yaml")
    else:
        talks = any(name.lower() in CONVERSATIONS for name in names)
        columns = {"prompt": "prompt", "reference": "reference"} if talks else guess_columns(names, [], hub_id)
    source = (
        f"hub:\n  path: {json.dumps(hub_id)}\n"
        "  revision: main  # better a commit: then the rows stay the same\n"
        "  split: train"
    )
    with finished_folder(folder) as temporary:
        (temporary / "suite.yaml").write_text(
            _suite_yaml(folder.name, source, columns, "document", [], 0.2), encoding="utf-8"
        )
        load_suite_file(SuiteLocation(folder.name, temporary))
    return MadeSuite(folder, (folder / "suite.yaml",), columns, tuple(notes))


def _hub_columns(hub_id: str) -> list[str] | None:
    from datasets import load_dataset_builder

    try:
        with without_retry_warnings():
            features = load_dataset_builder(hub_id).info.features
    except Exception as error:  # the hub client raises many kinds; those that are no refusal mean "cannot look"
        refused = refusal(error, hub_id, data_set=True)
        if refused is not None:
            raise refused from None
        return None
    return list(features) if features else None


def _suite_yaml(
    name: str, source: str, columns: Mapping[str, str], scope: str, ignore: Sequence[str], share: float
) -> str:
    """The text of `suite.yaml`; what stands behind a # says what else could be there."""
    if columns:
        pairs = ", ".join(f"{what}: {json.dumps(column, ensure_ascii=False)}" for what, column in columns.items())
        column_lines = (
            "# Which column holds what. Of the others only id, category, difficulty and checks are read.\n"
            f"columns: {{{pairs}}}"
        )
    else:
        column_lines = (
            "# columns: {prompt: instruction, input: context, reference: output}  # where the data say otherwise"
        )
    return f"""\
# What each key means: docs/suites.md
title: {json.dumps(name)}
description: ""
license: ""  # of the data; shown in `suites list`

# document: a whole page is asked for. fragment: a part of one, such as a form; it is measured inside a page.
scope: {scope}
# Faults that do not count against a page: missing-doctype, missing-title. Both are still reported on their own.
ignore: [{", ".join(ignore)}]

{source}
{column_lines}

# The share of the rows that no model may learn from. Rows that are nearly the same stay on one side.
held_out_share: {share:g}
# default_held_out: 64  # measure only so many unless --full is given
"""
