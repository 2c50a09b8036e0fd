"""The command line. Each command imports what it needs when it runs, so that `--help` appears at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

import typer

from harness.cli.app import app
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, HarnessError, Interrupted, how_to_fix
from harness.processes import is_first_to_fail, is_main_process
from harness.storage.variables import variable

_MisusedError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""What typer raises for any mistake in words and options; it has no public name of its own."""


def main() -> None:
    """Run the command line and exit; a user's mistake is one line on stderr and never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a code page without some letter must not end a run
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    for name in ("COLUMNS", "LINES"):  # of a terminal that does not know its size; rich would print nothing
        value = variable(name)
        if value is None or not value.strip().isdigit() or int(value) == 0:
            os.environ.pop(name, None)
    _quiet_libraries()
    # the room for keys and values is one large block: it must not fail at what loading left in pieces
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    try:
        sys.exit(app(standalone_mode=False))
    except _MisusedError as error:
        _say_misuse(error)
        sys.exit(EXIT_USAGE)
    except HarnessError as error:
        if is_first_to_fail():
            print(f"error: {_one_line(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (Interrupted, KeyboardInterrupt) as stop:
        if is_main_process():
            print(str(stop) or "stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno is None:
            raise
        hint = how_to_fix(error)
        print(f"error: {_one_line(str(error))}{f' ({hint})' if hint else ''}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _say_misuse(error: typer.BadParameter) -> None:
    message = error.format_message().replace("Value error, ", "").strip()
    if message and is_first_to_fail():  # none where a group of commands stands alone: its help has been printed
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        print(f"error: {_one_line(message)}{hint}", file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _quiet_libraries() -> None:
    """Progress bars and advice of libraries would tear the harness' own progress apart."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    # bitsandbytes warns at import that an optional speed-up could not be fetched from a hub
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
