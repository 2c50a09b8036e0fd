"""A folder of pairs as data: NAME.md or NAME.txt asks, NAME.html answers; NAME.input.html is a page to be changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.suite.encoding import read_text
from harness.suite.fields import identifier

_PROMPTS = (".md", ".markdown", ".txt")
_PAGES = (".html", ".htm")
_INPUT = ".input"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    """The path below the folder, without an ending: `forms/login`."""
    prompt: Path
    reference: Path
    input: Path | None


def read_pairs(folder: Path) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """Return (place, row) of every pair in a folder and its subfolders, in the order of their names; and notes.

    The name is the id, the folder below `folder` the category. What has no partner is left out, which a note says.

    Raises:
        UsageError: there are no pairs, two files that ask or answer under one name, or one that is no text.
    """
    pairs, left_out = _pairs(folder)
    if not pairs:
        raise UsageError(f"{folder} holds no pairs", "NAME.md or NAME.txt with the prompt beside NAME.html")
    notes: list[str] = []
    rows = []
    for pair in pairs:
        row = {"id": identifier(pair.name.replace("/", "-")) or "", "prompt": _read(pair.prompt, notes)}
        if pair.input is not None:
            row["input"] = _read(pair.input, notes)
        row["reference"] = _read(pair.reference, notes)
        if "/" in pair.name:
            row["category"] = pair.name.rpartition("/")[0]
        rows.append((str(pair.prompt), row))
    if left_out:
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        notes.append(f"without a partner, so left out: {', '.join(left_out[:_SHOWN])}{more}")
    return rows, notes


def pair_files(folder: Path) -> list[Path]:
    """Return the files of all pairs in a folder, in order.

    Raises:
        UsageError: two files ask or answer under one name.
    """
    return [
        file for pair in _pairs(folder)[0] for file in (pair.prompt, pair.reference, pair.input) if file is not None
    ]


def _pairs(folder: Path) -> tuple[list[_Pair], list[str]]:
    """The pairs by name, and the files that have no partner."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    prompts = _by_name(folder, [path for path in files if path.suffix.lower() in _PROMPTS])
    pages = _by_name(folder, [path for path in files if path.suffix.lower() in _PAGES])
    pairs = [
        _Pair(name, prompts[name], pages[name], pages.get(name + _INPUT)) for name in sorted(prompts.keys() & pages)
    ]
    used = {file for pair in pairs for file in (pair.prompt, pair.reference, pair.input)}
    left_out = [path for path in (*prompts.values(), *pages.values()) if path not in used]
    return pairs, [path.relative_to(folder).as_posix() for path in left_out]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _by_name(folder: Path, files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UsageError(f"{file} and {found[name].name} have one name", "rename or remove one")
        found[name] = file
    return found


def _read(path: Path, notes: list[str]) -> str:
    text, note = read_text(path)
    notes += [note] if note else []
    return text.strip()
