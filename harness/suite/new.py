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

from pydantic import JsonValue

from harness.errors import UsageError, did_you_mean
from harness.storage.atomic import finished_folder
from harness.storage.hub import refusal, without_retry_warnings
from harness.suite.columns import guess_columns, guess_form
from harness.suite.conversations import CONVERSATIONS
from harness.suite.fields import foreign_texts
from harness.suite.load import OTHER_COLUMNS, SuiteLocation, check_suite_name, load_suite, load_suite_file
from harness.suite.rows import SUFFIXES, data_files, read_data
from harness.suite.template import EXAMPLE, suite_yaml
from harness.suite.values import as_json, column_names, column_value

SMALL = 25
"""Rows below which half of them are held out: a fifth would be too few to compare anything by."""

_SHOWN = 8
"""Names of columns in a note."""

USUAL_COLUMNS = {"prompt": "instruction", "input": "input", "reference": "output"}
"""Taken for a hub data set that cannot be reached to look."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


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


def make_suite(
    name: str,
    source: str | None,
    parent: Path,
    columns: Mapping[str, str] | None = None,
    *,
    held_out_only: bool = False,
) -> MadeSuite:
    """Make `parent/name/` from data, a hub id, or (None) with an example; nothing is ever overwritten.

    A suite made of files is loaded before it is put in place, so that it works or is not there.

    Args:
        name: What the suite is called.
        source: A data file, a folder of pairs, or a hub id.
        parent: Where its folder is made.
        columns: Columns that are not to be guessed, as `told_columns` returns them.
        held_out_only: Make a benchmark, of which nothing is learnt.

    Raises:
        UsageError: the name, the source or its columns do not do, or the folder exists.
    """
    check_suite_name(name)
    folder = parent / name
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already", "choose another name, or remove it first")
    if source is None:
        if columns or held_out_only:
            raise UsageError("--columns and --held-out-only say what data are: there are none", "add --from FILE")
        return _from_example(folder)
    path = Path(source)
    if (path / "suite.yaml").is_file():
        raise UsageError(f"{source} is a suite already", f"name it where a suite is asked for: --suites {source}")
    if path.is_file() or path.is_dir():
        return _from_data(folder, path, columns or {}, held_out_only)
    if path.suffix.lower() in SUFFIXES or _HUB_ID.fullmatch(source) is None:
        near = [file.name for file in path.parent.glob("*") if file.suffix.lower() in SUFFIXES]
        hint = did_you_mean(path.name, near) if near else "a hub id has the form owner/name"
        raise UsageError(f"there is no data file {source}", hint)
    return _from_hub(folder, source, columns or {}, held_out_only)


def _from_example(folder: Path) -> MadeSuite:
    text = suite_yaml(folder.name, "files:\n  rows: [tasks.yaml]", {}, "document", [], 0.5)
    with finished_folder(folder) as temporary:
        (temporary / "suite.yaml").write_text(text, encoding="utf-8")
        (temporary / "tasks.yaml").write_text(EXAMPLE, encoding="utf-8")
        load_suite(SuiteLocation(folder.name, temporary))
    return MadeSuite(folder, (folder / "suite.yaml", folder / "tasks.yaml"))


def _from_data(folder: Path, source: Path, told: Mapping[str, str], held_out_only: bool) -> MadeSuite:
    data = read_data(source)
    raw = [row.values for row in data.rows]
    if len(raw) < 2:
        raise UsageError(f"{source} holds one row", "a comparison needs more than one task")
    names = column_names(raw)
    for column in filter(None, told.values()):
        if column not in names and all(column_value(row, column) is None for row in raw):
            raise UsageError(f"{source} has no column '{column}'", did_you_mean(column, names))
    rows = [
        foreign_texts({name: column_value(row, name) for name in (*names, *filter(None, told.values()))}) for row in raw
    ]
    columns = guess_columns(names, rows, str(source), told)
    references = [str(row[columns["reference"]] or "") for row in rows]
    scope, ignore = guess_form(references)
    few = len(rows) < SMALL and not held_out_only
    name = source.resolve().name if source.is_dir() else source.name
    name = "rows.yaml" if name == "suite.yaml" else name
    text = suite_yaml(
        folder.name,
        f"files:\n  rows: [{json.dumps(glob.escape(name))}]",
        columns,
        scope,
        ignore,
        None if held_out_only else 0.5 if few else 0.2,
    )
    notes = [*data.notes, *_notes(len(rows) if few else 0, scope, ignore), *_without_html(references)]
    if unread := [name for name in names if name not in (*columns.values(), *OTHER_COLUMNS)]:
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        notes.append(f"columns that are not read: {', '.join(unread[:_SHOWN])}{more}")
    if held_out_only:
        notes.append("all rows are held out: what is trained learns from another suite")
    try:
        with finished_folder(folder) as temporary:
            (temporary / "suite.yaml").write_text(text, encoding="utf-8")
            copied = str(temporary / name)
            _copy(source, temporary / name)
            suite = load_suite(SuiteLocation(folder.name, temporary))
            if not (suite.held_out and (suite.train or held_out_only)):
                raise UsageError(
                    f"all rows of {copied} are near-duplicates of one another, which stay in one part of a split",
                    "add rows that differ, or make a benchmark of them: --held-out-only",
                )
            if not (held_out_only or any(task.reference.strip() for task in suite.train)):
                raise UsageError(
                    f"no row of {copied} that would be learnt from has an answer in '{columns['reference']}'",
                    "add answers, or make a benchmark of the rows: --held-out-only",
                )
    except UsageError as error:
        raise UsageError(error.message.replace(copied, str(source)), error.hint) from None
    return MadeSuite(folder, (folder / "suite.yaml", folder / name), columns, tuple(notes), _sample(rows, columns))


def _without_html(references: Sequence[str]) -> list[str]:
    """What is to be said where most references are no pages."""
    written = [text for text in references if text.strip()]
    without = [text for text in written if re.search(r"<[a-zA-Z!]", text) is None]
    if 2 * len(without) <= len(written):
        return []
    escaped = any(re.search(r"&lt;[a-zA-Z!]", text) for text in without)
    why = ", but HTML written as entities (&lt;p&gt;), which is text: decode it first" if escaped else ""
    return [f"{len(without)} of {len(written)} references hold no HTML{why}"]


def _notes(few: int, scope: str, ignore: Sequence[str]) -> list[str]:
    """What was chosen by what the rows are like, for people; `few` is their number where half of them are held out."""
    notes = []
    if few:
        notes.append(f"{few} rows are few, so half of them are held out")
    if scope == "fragment":
        notes.append("most references are parts of a page, so scope is fragment")
    if ignore:
        notes.append(f"{' and '.join(ignore)}: most references have this fault, so it does not count against a page")
    return notes


def _copy(source: Path, target: Path) -> None:
    """Copy a data file, or of a folder the pairs alone."""
    for file in data_files(source):
        copy = target / file.relative_to(source) if source.is_dir() else target
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _sample(rows: Sequence[Mapping[str, JsonValue]], columns: Mapping[str, str]) -> dict[str, str]:
    """Return the first row that has all of the columns, else the first."""
    full = (row for row in rows if all(row[column] for column in columns.values() if column))
    row = next(full, rows[0])
    return {what: " ".join(str(row[column] or "").split()) for what, column in columns.items() if column}


def _from_hub(folder: Path, hub_id: str, told: Mapping[str, str], held_out_only: bool) -> MadeSuite:
    """The rows stay on the hub; only their columns are read, where it can be reached."""
    notes = []
    names = _hub_columns(hub_id)
    if names is None:
        columns = {**USUAL_COLUMNS, **told}
        if told.keys() != USUAL_COLUMNS.keys():
            notes.append(f"{hub_id} could not be reached, so its columns are assumed: look at `columns:` in suite.yaml")
    elif any(name.partition(".")[0].lower() in CONVERSATIONS for name in names):
        columns = {"prompt": "prompt", "reference": "reference", **told}
    else:
        for column in filter(None, told.values()):
            if column.partition(".")[0] not in names and column not in names:
                raise UsageError(f"{hub_id} has no column '{column}'", did_you_mean(column, names))
        columns = guess_columns(names, [], hub_id, told)
    source = (
        f"hub:\n  path: {json.dumps(hub_id)}\n"
        "  revision: main  # better a commit: then the rows stay the same\n"
        "  split: train"
    )
    with finished_folder(folder) as temporary:
        (temporary / "suite.yaml").write_text(
            suite_yaml(folder.name, source, columns, "document", [], None if held_out_only else 0.2), encoding="utf-8"
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
    return column_names([{name: as_json(feature) for name, feature in features.items()}]) if features else None
