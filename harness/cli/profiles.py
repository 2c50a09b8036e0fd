"""`profiles list`, `profiles check` and `profiles new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import EXIT_DONE, EXIT_FAILED

app = typer.Typer(
    help="List, check and make profiles: which models there are, and how they are asked and trained.",
    no_args_is_help=True,
)


@app.command("list")
def list_profiles() -> None:
    """Show every profile with its weights and its models."""
    from rich.console import Console
    from rich.table import Table

    from harness.model.profile import load_profile, model_names, profile_names

    table = Table("profile", "title", "weights", "models", box=None, pad_edge=False)
    for name in profile_names():
        profile = load_profile(name)
        weights = "elsewhere" if profile.file.weights is None else str(profile.file.weights)
        table.add_row(name, profile.file.title, weights, ", ".join(model_names(profile)))
    Console().print(table)


@app.command("check")
def check_profiles(
    name: Annotated[str | None, typer.Argument(help="A profile's name; default: all of them.")] = None,
) -> None:
    """Check the files of profiles; nothing is fetched, no model is loaded."""
    from rich.console import Console

    from harness.model.profile import load_profile, profile_names
    from harness.model.profile_files import profile_faults
    from harness.train.settings import check_names

    console, sound = Console(), True
    for one in [name] if name is not None else profile_names():
        faults = profile_faults(load_profile(one), check_names)
        sound = sound and not faults
        for line in [f"{one}: {fault}" for fault in faults] or [f"{one}: nothing is wrong"]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_DONE if sound else EXIT_FAILED)


@app.command("new")
def new_profile(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the profile's folder under baselines/.")],
    weights: Annotated[
        str,
        typer.Option("--from", metavar="ID|FOLDER|FILE.gguf", help="A causal language model."),
    ],
    folder: Annotated[Path, typer.Option("--to", help="Where the profile's folder is made.")] = Path("baselines"),
) -> None:
    """Write what `--weights` makes of a model as files to edit."""
    from rich.console import Console

    from harness.cli.options import program
    from harness.model.profile_files import write_profile

    made = write_profile(name, weights, folder)
    Console().print(f"{made} is written; next: {program(context)} run --profile {name}", markup=False, highlight=False)
