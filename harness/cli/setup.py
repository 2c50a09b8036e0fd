"""`setup`: what a package cannot bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def setup(
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of what is there already.")] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Fetch a browser too; rendering needs it.")
    ] = True,
    checker: Annotated[
        bool, typer.Option("--checker/--no-checker", help="Fetch the Nu Html Checker too; conformance needs it.")
    ] = True,
    found: Annotated[
        Path | None, typer.Option(hidden=True, help="Write the files that are there into this one, a line each.")
    ] = None,
) -> None:
    """Fetch what the installation left out: a browser, the Nu Html Checker, the embedded model."""
    from harness.setup.machine import found_files, set_up, steps

    set_up(steps(browser=browser, checker=checker), lambda line: typer.echo(f"setup: {line}"), quiet=quiet)
    if found is not None:
        found.write_text("".join(f"{path}\n" for path in found_files()), encoding="utf-8")
