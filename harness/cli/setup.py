"""`setup`: what a package cannot bring along."""

from __future__ import annotations

from typing import Annotated

import typer


def setup(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of what is there already.")] = False,
    checker: Annotated[
        bool, typer.Option("--checker/--no-checker", help="Fetch the Nu Html Checker too; conformance needs it.")
    ] = True,
) -> None:
    """Fetch what the installation left out: a browser, the Nu Html Checker, the embedded model."""
    from harness.setup.machine import set_up, steps

    set_up(steps(checker=checker), lambda line: typer.echo(f"setup: {line}"), quiet=quiet)
