"""The command line's own parser, without the work: what a command shown somewhere would be asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.main import get_command

from harness.cli.app import app


def parse(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the command (`suites check` is one) and its parameters' values.

    Raises:
        typer.BadParameter (or a kin): there is no such command or option, or a value is none of its.
        UsageError: a value's own parser refuses it.
    """
    found: list[tuple[str, dict[str, Any]]] = []

    def instead_of_the_work(name: str, command: Any) -> None:
        for word, inner in getattr(command, "commands", {}).items():
            instead_of_the_work(f"{name} {word}".lstrip(), inner)
        if not hasattr(command, "commands"):
            command.callback = lambda **values: found.append((name, values))

    tree = get_command(app)  # a new one each time
    instead_of_the_work("", tree)
    tree.main(list(words), prog_name="harness", standalone_mode=False)
    (one,) = found
    return one
