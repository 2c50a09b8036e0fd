"""`report` and `vote`: what can be done with a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.errors import UsageError, did_you_mean
from harness.pipeline.merge_shards import merge_shards
from harness.report import export, print_report, write_index, write_report
from harness.runs.folder import REPORTS_FOLDER, is_run_folder


def report_run(name: str, *, single_file: bool, formats: Sequence[str]) -> None:
    """Write the report of a run again, print its answer and write its exports; shards of a run are put together first.

    Raises:
        UsageError: there is no such run or format, or its shards do not make one run.
    """
    from harness.vote import write_agreement

    folder = merge_shards(name) or find_run_folder(name)
    write_agreement(folder)
    written = [write_report(folder)]
    if single_file:
        written = [write_report(folder, single_file=True)]
    written += export(folder, formats) if formats else []
    write_index(folder.parent)
    console = Console()
    print_report(folder, console)
    for path in written:
        console.print(f"written to {path}", markup=False, highlight=False, soft_wrap=True)


def vote_on_run(name: str, *, pair: Sequence[str] | None, port: int, voter: str = "") -> None:
    """Serve the blind voting page of a run until Ctrl-C, then put what the votes say into its report.

    Without `pair` the run's first comparison is voted on. A model's name stands for all its trainings.

    Raises:
        UsageError: there is no such run, or the pair is not two models.
    """
    from harness.runs.pairs import Pair
    from harness.vote import serve_votes, write_agreement

    if pair is not None and len(pair) != 2:
        raise UsageError("--pair takes two models", "for example --pair base,tuned")
    console = Console()
    folder = find_run_folder(name)
    count = serve_votes(
        folder,
        port,
        pair=Pair(*pair) if pair else None,
        voter=voter,
        # A wrapped address cannot be clicked or copied.
        say=lambda line: console.print(str(line), markup=False, highlight=False, soft_wrap=True),
    )
    console.print(f"{count} votes kept", highlight=False)
    if write_agreement(folder):
        page = write_report(folder)
        console.print(f"The report shows them: {page}", markup=False, highlight=False, soft_wrap=True)


def find_run_folder(name: str, reports: Path = REPORTS_FOLDER) -> Path:
    """Return the folder of a run given by its name or path.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    for folder in (reports / name, Path(name)):
        if is_run_folder(folder):
            return folder
    known = [file.parent.name for file in reports.glob("*/manifest.json") if is_run_folder(file.parent)]
    raise UsageError(f"there is no run '{name}'", did_you_mean(name, known))
