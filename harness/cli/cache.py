"""`cache list` and `cache prune`: what lies in the cache folder, and making room there."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import KindsOption, words
from harness.errors import HarnessError, UsageError, cannot_write, did_you_mean
from harness.storage.cache import cache_folder
from harness.storage.cache_inventory import KINDS, Entry, Kind, entries, not_ours, remove

_LONGEST_SHOWN = 24
_DAYS = {"h": 1 / 24, "d": 1, "w": 7}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}

app = typer.Typer(help="Show what lies in the cache, and free it.", no_args_is_help=True)


@app.command("list")
def list_cache(kind: KindsOption = None) -> None:
    """List converted weights, adapters, answers, renderings and the rest: size, age, and what each belongs to."""
    console = Console()
    root = cache_folder()
    found = list(entries(root, _kinds(words(kind, "--kind"))))
    if found:
        console.print(_table(found))
    size = _size(sum(entry.bytes for entry in found))
    console.print(Text(f"{size} in {root}"), soft_wrap=True)
    foreign = not_ours(root)
    if foreign:
        console.print(f"{foreign} more things there are not the harness' own, and are left alone")


@app.command("prune")
def prune_cache(
    kind: KindsOption = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only what was written longer ago, such as 30d, 12h or 4w."),
    ] = None,
    larger_than: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Only what takes more, such as 500MB.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove cached things; what is needed again is made again. Files that are not the harness' own stay."""
    console = Console()
    kinds = words(kind, "--kind")
    if not kinds and older_than is None and larger_than is None:
        raise UsageError(
            "nothing says what is to be removed", "--kind renders, --older-than 30d or --larger-than 500MB; or several"
        )
    age = _number(older_than, _DAYS, "--older-than", "30d") * 86_400 if older_than is not None else None
    least = _number(larger_than, _BYTES, "--larger-than", "500MB") if larger_than is not None else None
    now = time.time()
    chosen = [
        entry
        for entry in entries(cache_folder(), _kinds(kinds))
        if (age is None or now - entry.written > age) and (least is None or entry.bytes > least)
    ]
    if not chosen:
        console.print("there is nothing of that kind, age and size")
        return
    console.print(_table(chosen))
    size = _size(sum(entry.bytes for entry in chosen))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{size} would be removed", "add --yes")
        if not _ask(f"remove these {size}?"):
            console.print("nothing was removed")
            return
    kept = 0
    for entry in chosen:
        try:
            kept += not remove(entry)
        except OSError as error:
            raise cannot_write(entry.path, error) from error
    console.print(f"removed {len(chosen) - kept} of {len(chosen)}" + (", others are being made" if kept else ""))


def _table(found: Sequence[Entry]) -> Table:
    table = Table("kind", "entry", "size", "written", "belongs to", box=None, pad_edge=False)
    now = time.time()
    for kind in KINDS:
        own = [entry for entry in found if entry.kind == kind]
        if kind.about is None and own:
            newest, oldest = (_age(now - pick(entry.written for entry in own)) for pick in (max, min))
            written = newest if newest == oldest else f"{newest} to {oldest}"
            size = _size(sum(entry.bytes for entry in own))
            table.add_row(kind.name, f"{len(own)} files", size, written, kind.what)
        elif own:
            for entry in sorted(own, key=lambda one: -one.bytes):
                name = entry.path.name if len(entry.path.name) <= _LONGEST_SHOWN else f"{entry.path.name[:12]}…"
                row = (kind.name, name, _size(entry.bytes), _age(now - entry.written), entry.about)
                table.add_row(*(Text("".join(c if c.isprintable() else " " for c in cell)) for cell in row))
    return table


def _kinds(names: Sequence[str]) -> list[Kind]:
    known = {kind.name: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no kind '{name}' of cached things", did_you_mean(name, known))
    return [known[name] for name in names] if names else list(KINDS)


def _number(words: str, units: dict[str, float] | dict[str, int], option: str, example: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]?)i?b?", words.strip().lower())
    if found is None or found[2] not in units:
        raise UsageError(f"{option} {words} is no such number", f"for example {example}")
    return float(found[1]) * units[found[2]]


def _size(count: int) -> str:
    for unit, size in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now"


def _ask(question: str) -> bool:
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise HarnessError("nobody answered", "add --yes") from None
