"""`vote`: people judge pairs of pages blindly."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import RunArgument, words
from harness.errors import UsageError


def vote(
    run: RunArgument,
    pair: Annotated[
        str | None,
        typer.Option(metavar="MODEL,MODEL", help="The two models. Default: the run's first comparison."),
    ] = None,
    voter: Annotated[str, typer.Option(help="Who votes, where several people do: each judges every pair.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0,
) -> None:
    """Judge pairs of pages blindly in the browser.

    Ctrl-C ends it; the report then shows how people and metrics agree.
    """
    from rich.console import Console

    from harness.cli.report import find_run_folder
    from harness.report import write_report
    from harness.runs.pairs import Pair
    from harness.vote import make_server, serve_votes, write_agreement

    models = words(pair, "--pair")
    if pair is not None and len(models) != 2:
        raise UsageError("--pair takes two models", "for example --pair base,tuned")
    console = Console()
    folder = find_run_folder(run)
    count = serve_votes(
        make_server(folder, port, pair=Pair(*models) if models else None, voter=voter),
        # A wrapped address cannot be clicked or copied.
        say=lambda line: console.print(str(line), markup=False, highlight=False, soft_wrap=True),
    )
    console.print(f"{count} votes kept", highlight=False)
    if write_agreement(folder):
        page = write_report(folder)
        console.print(f"The report shows them: {page}", markup=False, highlight=False, soft_wrap=True)
