"""`audit`: any HTML files, by the page scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PagesArgument = Annotated[
    # one that cannot be read gets its line beside the others' measures, so it is no error of usage
    list[Path], typer.Argument(help="HTML files, or folders of them.", readable=False)
]
_JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def audit(pages: _PagesArgument, as_json: _JsonOption = False) -> None:
    """Measure any HTML files with the page scorers; no model is needed."""
    from harness.scoring.pages import audit_files

    raise typer.Exit(audit_files(pages, typer.echo, as_json))


def judge(pages: _PagesArgument, as_json: _JsonOption = False) -> None:
    """Do what `audit` does, under its name of before."""
    typer.echo("`judge` is now called `audit`; the old name goes with the next version", err=True)
    audit(pages, as_json)
