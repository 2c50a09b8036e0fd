"""`report`: a finished run, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import RunArgument, words
from harness.errors import UsageError, did_you_mean


def report(
    run: RunArgument,
    single_file: Annotated[bool, typer.Option("--single-file", help="One file for mail, pictures inside.")] = False,
    export: Annotated[
        str | None,
        typer.Option(metavar="FORMAT,…", help="Also write csv, parquet, latex, markdown, model-card."),
    ] = None,
) -> None:
    """Write a run's report again, print its answer, and export its numbers.

    Shards of a run are put together first.
    """
    from rich.console import Console

    from harness.pipeline.merge_shards import merge_shards
    from harness.report import export as export_numbers
    from harness.report import print_report, write_index, write_report
    from harness.vote import write_agreement

    formats = words(export, "--export")
    folder = merge_shards(run) or find_run_folder(run)
    write_agreement(folder)
    written = [write_report(folder)]
    if single_file:
        written = [write_report(folder, single_file=True)]
    written += export_numbers(folder, formats) if formats else []
    write_index(folder.parent)
    console = Console()
    print_report(folder, console)
    for path in written:
        console.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)


def find_run_folder(name: str) -> Path:
    """Return the folder of a run given by its name or path.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    from harness.runs.folder import REPORTS_FOLDER, is_run_folder

    for folder in (REPORTS_FOLDER / name, Path(name)):
        if is_run_folder(folder):
            return folder
    known = [file.parent.name for file in REPORTS_FOLDER.glob("*/manifest.json") if is_run_folder(file.parent)]
    raise UsageError(f"there is no run '{name}'", did_you_mean(name, known))
