"""`compare`: two models, task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError

_GATE = "As a gate"


def compare(
    left: Annotated[str, typer.Argument(metavar="RUN[:MODEL]", help="A run or a frozen summary.")],
    right: Annotated[
        str | None,
        typer.Argument(metavar="RUN[:MODEL]", help="Left out: within one run, the pair of its verdict."),
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary.")] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Keep the scores of LEFT under baselines/scores/ instead.")
    ] = False,
    gate: Annotated[
        bool, typer.Option("--gate", rich_help_panel=_GATE, help="Exit with 100 when a rule does not hold.")
    ] = False,
    rules: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_GATE,
            help="Rules of the gate, or a file of them. Default: no primary metric is worse.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(rich_help_panel=_GATE, help="Hold the gate and write it as JUnit XML.")
    ] = None,
) -> None:
    """Compare two models task by task, within a run or across runs."""
    from harness.compare.command import Asked, run_compare_command, run_freeze_command

    if freeze:
        if gate or right is not None or any(option is not None for option in (rules, junit, markdown)):
            raise UsageError("--freeze keeps the scores of one run and compares nothing", "leave the other words out")
        typer.echo(f"written to {run_freeze_command(left)}")
        return
    code = run_compare_command(
        left,
        right,
        # a file of a gate that was not held would be green with nothing in it
        Asked((rules or "") if gate or rules is not None or junit is not None else None, junit, markdown),
        say=typer.echo,
    )
    raise typer.Exit(code)
