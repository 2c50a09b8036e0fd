"""The report: reads a run's files, writes the page people look at, the terminal's answer and the exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.runs.run import Run

__all__ = ["export", "print_interim", "print_report", "write_index", "write_report"]


def write_report(run_dir: Path, *, single_file: bool = False) -> Path:
    """Write `index.html` into a run's folder and return its path.

    Args:
        run_dir: `reports/<run>/`, with the files of docs/files.md.
        single_file: hold the pictures inside the page, so that it can be mailed: written as `<run>.html` beside
            `index.html`, which stays as it is.

    Raises:
        UsageError: the folder holds no run.
        HarnessError: one of its files is damaged.
    """
    from harness.report.page import write

    return write(run_dir, single_file=single_file)


def write_index(reports_dir: Path) -> Path | None:
    """Write `index.html` over all runs in `reports_dir`, newest first, and return its path.

    None where a page that is no list of runs stands there: it is somebody's own, and stays.
    A folder whose manifest cannot be read is listed as damaged, not left out in silence.
    """
    from harness.report.overview import write

    return write(reports_dir)


def print_report(run_dir: Path, console: Console | None = None) -> None:
    """Print a run's answer: verdict first, then the table, the worst losses and where the page lies.

    Raises as `write_report`.
    """
    from harness.report.terminal import show

    show(run_dir, console)


def print_interim(run: Run, suite: str, missing: str, console: Console) -> None:
    """Print the table of a suite while its run goes on; nothing of it is written anywhere.

    Args:
        run: What there is so far, in memory.
        suite: The suite's name.
        missing: The models that are still to come, in words.
        console: Where to print.
    """
    from harness.report.terminal import show_interim

    show_interim(run, suite, missing, console)


def export(run_dir: Path, formats: Sequence[str], out: Path | None = None) -> list[Path]:
    """Write a run for other programs: any of csv, parquet, latex, markdown, model-card.

    Args:
        run_dir: `reports/<run>/`.
        formats: names of formats.
        out: the folder to write to; by default `exports/` in the run's folder.

    Returns:
        The files written, in the order of `formats`.

    Raises:
        UsageError: there is no such format or no such run.
    """
    from harness.report.exports import write

    return write(run_dir, formats, out)
