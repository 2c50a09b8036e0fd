"""`suites list`, `suites check` and `suites new`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import DataOption, SplitOption, program
from harness.errors import EXIT_DONE, EXIT_FAILED, HarnessError, UsageError

if TYPE_CHECKING:
    from harness.scoring.suite_findings import SuiteCheck
    from harness.types import Suite

_SHOWN_LETTERS = 80
"""Of a sample row."""

app = typer.Typer(help="List, check and make task suites.", no_args_is_help=True)


@app.command("list")
def list_suites() -> None:
    """List the suites, built in or under tasks/; none is downloaded for it."""
    from harness.cli.print_findings import print_line
    from harness.suite.load import find_suites, load_suite, load_suite_file
    from harness.suite.schema import DEFAULT_SPLIT, FixedSplit

    table = Table("suite", "title", "train", "held out", "licence", box=None, pad_edge=False)
    for location in find_suites():
        file = load_suite_file(location)
        if file.hub is not None:
            train, held_out = "on the hub", file.hub.path
            fixed = file.split if isinstance(file.split, FixedSplit) else file.splits.get(DEFAULT_SPLIT)
            if isinstance(fixed, FixedSplit):
                train, held_out = str(fixed.train_rows), str(fixed.of_rows - fixed.train_rows)
        else:
            suite = load_suite(location)
            train, held_out = str(len(suite.train)), str(len(suite.held_out))
        table.add_row(location.name, file.title, train, held_out, file.license)
    if not table.row_count:
        raise HarnessError("there are no suites", "`html-harness suites new NAME` makes one")
    console = Console()
    console.print(table)
    for location in find_suites():
        if location.taken:
            print_line(console, f"{location.name}: {location.taken}")


@app.command("check")
def check_suites(
    suite: Annotated[
        str | None,
        typer.Argument(metavar="[SUITE]", help="A name or folder. Default: all whose rows are on this disk."),
    ] = None,
    data: DataOption = None,
    split: SplitOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test the metrics on so many tasks; the rest is checked of all.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the findings to this file.")] = None,
) -> None:
    """Check references, checks, split and metrics of a suite; exit with 1 when there are tasks to fix."""
    from harness.cli.print_findings import print_check, print_line
    from harness.pipeline.data_option import check_data_option, parse_data_options
    from harness.progress import ProgressReporter
    from harness.scoring.suite_check import check_suite
    from harness.storage.outputs import check_output, write_output
    from harness.suite.load import find_suite, find_suites, load_suite, load_suite_file
    from harness.suite.split_option import check_split_option, chosen_split

    if json_file is not None:
        check_output(json_file, _is_findings)
    console = Console()
    given = parse_data_options(data or [])
    locations = [find_suite(suite)] if suite else find_suites()
    if not locations:
        raise HarnessError("there are no suites", "`html-harness suites new NAME` makes one")
    files = check_data_option(given, locations)
    check_split_option(split or (), locations)
    found: dict[str, SuiteCheck] = {}
    for location in locations:
        rows = files.get(location.folder.resolve())
        if suite is None and rows is None and load_suite_file(location).hub is not None:
            console.print(Text(f"{location.name}: its rows are on the hub, so it is only checked when named\n"))
            continue
        loaded = load_suite(location, rows, chosen_split(location, split or ()))
        console.print(Text(f"{location.name}: {len(loaded.train)} training and {len(loaded.held_out)} held-out tasks"))
        for note in loaded.notes:
            print_line(console, f"note: {note}")
        found[location.name] = check_suite(loaded, ProgressReporter(console), limit)
        print_check(found[location.name], console)
        for line in _lowered(loaded):
            print_line(console, line)
    if json_file is not None:
        content = json.dumps({name: check.as_dict() for name, check in found.items()}, indent=1) + "\n"
        write_output(json_file, content, _is_findings)
        console.print(Text(f"written to {json_file}"))
    raise typer.Exit(EXIT_DONE if all(check.sound for check in found.values()) else EXIT_FAILED)


def _lowered(suite: Suite) -> list[str]:
    """Profiles that name the suite and lower the limit of new tokens below what its references ask for."""
    from harness.model.profile import load_profile, profile_names
    from harness.model.reach import answer_limit, estimated_tokens, reach

    tasks, free = [*suite.train, *suite.held_out], answer_limit(suite, estimated_tokens)
    found = []
    for name in profile_names():
        file = load_profile(name).file
        if file.max_new_tokens and file.max_new_tokens < free and suite.name in file.suites:
            lowered = reach(file.max_new_tokens, tasks, estimated_tokens, estimated=True)
            found.append(f"profile {name} lowers it: {lowered}")
    return found


def _is_findings(path: Path) -> bool:
    """Whether a file holds the findings of such a check."""
    from harness.storage.json_file import read_object

    try:
        entries = list(read_object(path).values())
    except UsageError:
        return False
    return bool(entries) and all(
        isinstance(entry, dict) and {"schema", "tiers"} < entry.keys() and {"to_fix", "mend"} & entry.keys()
        for entry in entries
    )


@app.command("new")
def new_suite(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The suite's name; a folder of that name is made.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE|FOLDER|HUB-ID",
            help="JSONL, JSON, CSV, TSV (any delimiter), Parquet, Arrow, Feather or YAML, a folder of NAME.md and "
            "NAME.html, or a data set's id on the hub.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--to", help="Where the suite's folder is made.")] = Path("tasks"),
    columns: Annotated[
        str | None,
        typer.Option(help="Columns not to be guessed, such as prompt=question,reference=answer.html,input=."),
    ] = None,
    held_out_only: Annotated[
        bool, typer.Option("--held-out-only", help="Make a benchmark, of which nothing is learnt.")
    ] = False,
) -> None:
    """Write a commented suite.yaml, from a data file with its columns guessed, or with two tasks to begin from."""
    from harness.cli.print_findings import print_line
    from harness.suite.columns import told_columns
    from harness.suite.load import TASKS_FOLDER
    from harness.suite.new import make_suite

    made = make_suite(name, source, folder, told_columns(columns) if columns else None, held_out_only=held_out_only)
    console = Console()
    for file in made.files:
        print_line(console, f"written: {file}")
    for what, column in made.columns.items():
        example = made.sample.get(what, "")
        shown = f', for example "{example[:_SHOWN_LETTERS]}{"…" * (len(example) > _SHOWN_LETTERS)}"' if example else ""
        print_line(console, f"  {what}: column '{column}'{shown}" if column else f"  {what}: none")
    for note in made.notes:
        print_line(console, f"note: {note}")
    word = name if folder == TASKS_FOLDER else str(folder / name)
    print_line(console, f"next: {program(context)} suites check {word}")
    print_line(console, f"then: {program(context)} run --suites {word}")
