"""Loads a suite: reads `suite.yaml` and its data, validates every task, and splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from harness.errors import HarnessError, UsageError, did_you_mean
from harness.storage.builtin import find_all
from harness.storage.hub import reason, refusal, without_retry_warnings
from harness.storage.yaml import read_yaml, validate
from harness.suite.columns import guess_columns
from harness.suite.fields import foreign_fields, foreign_texts, own_fields
from harness.suite.pinned import known_rows, rows_sha256
from harness.suite.rows import DataFile, RawRow, plain_rows, read_data, revision_of
from harness.suite.schema import DEFAULT_SPLIT, HELD_OUT, Columns, FixedSplit, HubData, SuiteFile, TaskRow
from harness.suite.split import split_by_hash, split_by_strata, split_hash
from harness.suite.values import column_names, column_value, has_column
from harness.types import SUITE_NAME, Suite, Task

TASKS_FOLDER = Path("tasks")
OTHER_COLUMNS: tuple[str, ...] = ("id", "category", "difficulty", "checks")
"""What is read of a row beside the columns that its suite names."""


@dataclass(frozen=True, slots=True)
class SuiteLocation:
    """Where a suite lies: its folder, and the name under which results are filed."""

    name: str
    folder: Path
    taken: str = ""
    """A line that says that it is taken in place of a built-in suite; empty where there is none of that name."""

    @property
    def file(self) -> Path:
        """The suite's `suite.yaml`."""
        return self.folder / "suite.yaml"


def find_suites(tasks_folder: Path | None = None) -> list[SuiteLocation]:
    """Return every suite by name: below `tasks_folder`; for None those of the working folder and the built-in ones."""
    found = find_all(tasks_folder or TASKS_FOLDER, "suite.yaml", alone=tasks_folder is not None)
    return [SuiteLocation(name, one.folder, one.taken()) for name, one in found.items()]


def check_suite_name(name: str) -> None:
    """Refuse a name that not every command could name: results are filed under it, and the gate's rules hold it.

    Raises:
        UsageError: it has other letters than `harness.types.SUITE_NAME` allows.
    """
    if re.fullmatch(SUITE_NAME, name) is None:
        raise UsageError(
            f"'{name}' cannot be the name of a suite",
            "its folder's name: letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
        )


def find_suite(name_or_folder: str, tasks_folder: Path | None = None) -> SuiteLocation:
    """Return the suite of that name, looked for as by `find_suites`, or the one in that folder.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    for location in find_suites(tasks_folder):
        if location.name == name_or_folder:
            check_suite_name(location.name)
            return location
    folder = Path(name_or_folder)
    if (folder / "suite.yaml").is_file():
        check_suite_name(folder.resolve().name)
        return SuiteLocation(folder.resolve().name, folder)
    known = [location.name for location in find_suites(tasks_folder)]
    raise UsageError(f"there is no suite '{name_or_folder}'", did_you_mean(name_or_folder, known))


def load_suite_file(location: SuiteLocation) -> SuiteFile:
    """Return the validated `suite.yaml`.

    Raises:
        UsageError: the file is missing, broken, or has a wrong key; the message names the key.
    """
    content = read_yaml(location.file)
    return validate(SuiteFile, content if content is not None else {}, str(location.file))


def split_names(suite_file: SuiteFile) -> list[str]:
    """Return the names that `--split` may have for a suite, the default first."""
    return list(dict.fromkeys([DEFAULT_SPLIT, *suite_file.splits]))


def load_suite(location: SuiteLocation, data: Path | None = None, split: str = DEFAULT_SPLIT) -> Suite:
    """Load and split a suite; `data` replaces its own data by a file of the same columns, or of ones to be guessed.

    Raises:
        UsageError: a file, column or task is wrong, the suite has no such split, or its split is of other data; the
            message names it.
        HarnessError: the hub could not be reached.
    """
    suite = _load_suite(location, data, split)
    return replace(suite, notes=(location.taken, *suite.notes)) if location.taken else suite


def _load_suite(location: SuiteLocation, data: Path | None, split: str) -> Suite:
    suite_file = load_suite_file(location)
    if split not in split_names(suite_file):
        raise UsageError(f"suite {location.name} has no split '{split}'", did_you_mean(split, split_names(suite_file)))
    if data is not None:
        given, suite_file = _with_columns_of(read_data(data), suite_file, data)
        return _split_rows(location.name, suite_file, given, revision_of([data]), split)
    if suite_file.hub is not None:
        fetched = _download(suite_file.hub, location.name)
        return _split_rows(
            location.name, suite_file, fetched, f"{suite_file.hub.path}@{suite_file.hub.revision}", split
        )
    files = suite_file.files
    assert files is not None
    if files.rows:
        paths = _expand(location, files.rows)
        return _split_rows(location.name, suite_file, _read(paths), revision_of(paths), split)
    train_paths, held_out_paths = _expand(location, files.train), _expand(location, files.held_out)
    learnt, held = _read(train_paths), _read(held_out_paths)
    tasks = _tasks([*learnt.rows, *held.rows], suite_file)
    train, held_out = tasks[: len(learnt.rows)], tasks[len(learnt.rows) :]
    revision = revision_of([*train_paths, *held_out_paths])
    suite = _suite(location.name, suite_file, revision, train, held_out)
    return replace(suite, notes=(*learnt.notes, *held.notes))


def _read(paths: Sequence[Path]) -> DataFile:
    files = [read_data(path) for path in paths]
    notes = dict.fromkeys(note for file in files for note in file.notes)
    return DataFile([row for file in files for row in file.rows], tuple(notes))


def _with_columns_of(given: DataFile, suite_file: SuiteFile, path: Path) -> tuple[DataFile, SuiteFile]:
    """Take the columns of the file where no row has those of the suite."""
    known = suite_file.columns
    if any(has_column(row.values, known.prompt) and has_column(row.values, known.reference) for row in given.rows):
        return given, suite_file
    names = column_names([row.values for row in given.rows])
    values = [foreign_texts({name: column_value(row.values, name) for name in names}) for row in given.rows]
    try:
        guessed = guess_columns(names, values, str(path))
    except UsageError:
        return given, suite_file  # which is then refused with the first row's place
    told = ", ".join(f"{what} from '{column}'" for what, column in guessed.items() if column)
    note = f"{path.name} has other columns than {suite_file.title}: {told}"
    return DataFile(given.rows, (*given.notes, note)), suite_file.model_copy(update={"columns": Columns(**guessed)})


def _split_rows(name: str, suite_file: SuiteFile, data: DataFile, revision: str, split: str) -> Suite:
    tasks = _tasks(data.rows, suite_file)
    if len(tasks) < 2:
        raise UsageError(f"suite {name} has only one row", "a split needs at least two")
    chosen = suite_file.splits.get(split)
    if isinstance(suite_file.split, FixedSplit) and suite_file.split.of_rows == len(tasks):
        chosen = suite_file.split
    if isinstance(chosen, FixedSplit):
        if len(tasks) != chosen.of_rows:
            others = [other for other in split_names(suite_file) if other != split]
            raise UsageError(
                f"the split '{split}' of {name} is of exactly {chosen.of_rows} rows; these data have {len(tasks)}",
                f"give all {chosen.of_rows} rows" + (f", or take another split: {', '.join(others)}" if others else ""),
            )
        train, held_out = tuple(tasks[: chosen.train_rows]), tuple(tasks[chosen.train_rows :])
    elif chosen == HELD_OUT:
        train, held_out = (), tuple(tasks)
    elif chosen is not None:
        train, held_out = split_by_strata(tasks, suite_file.held_out_share, chosen.stratify)
    else:
        train, held_out = split_by_hash(tasks, suite_file.held_out_share)
    known = known_rows(tasks, suite_file.pinned) if suite_file.pinned else ""
    return replace(
        _suite(name, suite_file, revision, train, held_out),
        split=split,
        held_out_only=chosen == HELD_OUT,
        notes=(*data.notes, f"these are {known}") if known else data.notes,
        rows_sha256=rows_sha256(tasks),
        known_rows=known,
    )


def _suite(name: str, file: SuiteFile, revision: str, train: Sequence[Task], held_out: Sequence[Task]) -> Suite:
    return Suite(
        name=name,
        title=file.title,
        scope=file.scope,
        ignore=frozenset(file.ignore),
        revision=revision,
        train=tuple(train),
        held_out=tuple(held_out),
        split_hash=split_hash(train, held_out),
        default_held_out=file.default_held_out,
        split=DEFAULT_SPLIT,
        held_out_only=file.splits.get(DEFAULT_SPLIT) == HELD_OUT,
    )


def _tasks(rows: Sequence[RawRow], suite_file: SuiteFile) -> list[Task]:
    tasks: list[Task] = []
    places: dict[str, str] = {}
    for row in rows:
        parsed = validate(TaskRow, _mapped(row, suite_file.columns), row.place)
        task = Task(
            id=parsed.id or "",
            prompt=parsed.prompt,
            input=parsed.input,
            reference=parsed.reference,
            category=parsed.category,
            difficulty=parsed.difficulty,
            scope=parsed.scope or suite_file.scope,
            ignore=frozenset(suite_file.ignore),
            checks=parsed.checks,
        )
        if task.id and task.id in places:
            raise UsageError(f"{row.place}: the id '{task.id}' is taken by {places[task.id]}", "give it another id")
        task_id = task.id or _free_id(task.prompt_sha[:12], places)
        places[task_id] = row.place
        tasks.append(replace(task, id=task_id))
    return tasks


def _free_id(wanted: str, taken: Mapping[str, str]) -> str:
    """Two rows may ask the same with different answers: the later ones get a number behind the hash."""
    task_id, number = wanted, 1
    while task_id in taken:
        number += 1
        task_id = f"{wanted}-{number}"
    return task_id


def _mapped(row: RawRow, columns: Columns) -> dict[str, JsonValue]:
    """Rename the suite's columns; where the suite names any, others that mean nothing to the harness are left out."""
    # `input` first: a suite whose prompts stand in a column of that name has no other
    names = {columns.input: "input", columns.prompt: "prompt", columns.reference: "reference"}
    for column in (columns.prompt, columns.reference):
        if not has_column(row.values, column):
            raise UsageError(
                f"{row.place}: there is no column '{column}'",
                f"it has {', '.join(map(str, row.values))}; name the columns under `columns:` in suite.yaml",
            )
    if not columns.model_fields_set:
        return own_fields(row.values, row.place)
    wanted = {
        name: column_value(row.values, column)
        for column, name in names.items()
        if column and has_column(row.values, column)
    }
    others = {key: row.values[key] for key in OTHER_COLUMNS if key in row.values}
    return foreign_fields({**others, **wanted})


def _expand(location: SuiteLocation, patterns: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in patterns:
        found = sorted(location.folder.glob(pattern))
        if not found:
            raise UsageError(f"{location.file}: no data file matches '{pattern}'", f"below {location.folder}")
        paths += found
    return paths


def _download(hub: HubData, name: str) -> DataFile:
    from datasets import load_dataset

    try:
        with without_retry_warnings():
            rows = load_dataset(hub.path, revision=hub.revision, split=hub.split)
    except Exception as error:  # the hub client raises many kinds; all of them mean "no data"
        raise refusal(error, hub.path, data_set=True) or HarnessError(
            f"the data set {hub.path} could not be loaded from the hub: {reason(error)}",
            f"with a copy on disk: --data {name}=FILE (JSONL, JSON, CSV or Parquet)",
        ) from error
    plain, notes = plain_rows((f"{hub.path}, row {number}", row) for number, row in enumerate(rows))
    return DataFile(plain, tuple(notes))
