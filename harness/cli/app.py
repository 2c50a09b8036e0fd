"""The commands, put together: each has a module of its own."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli import cache, profiles, suites
from harness.cli.audit import audit, judge
from harness.cli.compare import compare
from harness.cli.doctor import doctor
from harness.cli.generate import generate
from harness.cli.options import LOOK, MACHINE, MEASURE, MODELS_AND_SUITES, program
from harness.cli.plan import plan
from harness.cli.report import report
from harness.cli.run import run
from harness.cli.score import score
from harness.cli.setup import setup
from harness.cli.start import first_steps
from harness.cli.train import train
from harness.cli.vote import vote
from harness.errors import Interrupted

_RESUMABLE = ("run", "train", "score", "audit", "judge", "report", "suites", "setup")
"""Commands that keep what they have done, so that the same words take it up."""


class _Commands(TyperGroup):
    """The commands; Ctrl-C in one of them is said, where typer would end without a word."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer hides its own base class
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(ctx.invoked_subcommand in _RESUMABLE) from None


app = typer.Typer(
    name="harness",
    cls=_Commands,
    help="Settles whether a fine-tuned model really writes better HTML.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# by the panel of the help: what a person wants to do
app.command(rich_help_panel=MEASURE)(run)
app.command(rich_help_panel=MEASURE)(score)
app.command(rich_help_panel=MEASURE)(audit)
app.command(rich_help_panel=LOOK)(report)
app.command(rich_help_panel=LOOK)(compare)
app.command(rich_help_panel=LOOK)(vote)
app.command(rich_help_panel=MODELS_AND_SUITES)(train)
app.command(rich_help_panel=MODELS_AND_SUITES)(plan)
app.command(rich_help_panel=MODELS_AND_SUITES)(generate)
app.command(rich_help_panel=MACHINE)(setup)
app.command(rich_help_panel=MACHINE)(doctor)
app.command(hidden=True)(judge)
app.add_typer(suites.app, name="suites", rich_help_panel=MODELS_AND_SUITES)
app.add_typer(profiles.app, name="profiles", rich_help_panel=MODELS_AND_SUITES)
app.add_typer(cache.app, name="cache", rich_help_panel=MACHINE)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"harness {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(first_steps(program(context)))
