"""Writes where a user says, and nowhere over a file that the harness did not make.

One rule for every file whose place a user names, and for the pages and exports of runs: it is written where nothing
stands, and where what stands there is the harness' own, that is, it carries the mark of its format or is byte for byte
what the harness wrote there last. Folders keep a record of what was put into them, and everything else in them stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.errors import HarnessError, UsageError, cannot_write
from harness.storage.atomic import write_atomically
from harness.storage.cache import cache_folder, content_key, file_sha256

FOLDER_RECORD = ".html-harness.json"
"""Stands in a folder that a user named: what the harness put there, each file with its SHA-256."""
GENERATOR = "html-harness"
_HEAD_BYTES = 4096
"""A mark stands at the head of a file: further down it may be something that a page quotes."""
_NAMED = 3

Mark = re.Pattern[bytes] | Callable[[Path], bool]
"""What says that a file is of the harness' making: a pattern found in its head, or a test of the file."""


def is_ours(path: Path, mark: Mark | None = None) -> bool:
    """Return whether the harness made this file: by its mark, or because it wrote exactly these bytes there last."""
    try:
        if isinstance(mark, re.Pattern):
            with path.open("rb") as stream:
                if mark.search(stream.read(_HEAD_BYTES)):
                    return True
        elif mark is not None and mark(path):
            return True
        return _note(path).read_text(encoding="utf-8") == file_sha256(path)
    except (OSError, HarnessError):
        return False


def check_output(path: Path, mark: Mark | None = None) -> None:
    """Refuse a place for a file that cannot or must not be written; called before the work that fills it.

    Raises:
        UsageError: a folder, or a file that the harness did not make, stands there.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder", "name a file")
    if path.is_file() and not is_ours(path, mark):
        raise UsageError(
            f"{path} is there already and is not the harness' own, so it is not overwritten",
            "name another file, or remove it first",
        )


def write_output(path: Path, content: str | bytes, mark: Mark | None = None) -> None:
    """Write a file whole or not at all, with the folders that lead to it; links are followed, devices written to.

    Raises:
        UsageError: as `check_output`.
        HarnessError: the disk does not take it.
    """
    check_output(path, mark)
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    try:
        place = path.resolve()
        if path.exists() and not path.is_file():  # a pipe, or /dev/stdout: nothing to put another file in place of
            with path.open("wb") as stream:
                stream.write(data)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, data)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
        raise cannot_write(path, error if isinstance(error, OSError) else OSError(str(error))) from error
    if mark is None:
        with contextlib.suppress(OSError, HarnessError):  # without the note the next call asks for another name
            write_atomically(_note(path), file_sha256(place))


def _note(path: Path) -> Path:
    return cache_folder("written") / content_key(str(path.resolve()))


def check_folder(folder: Path) -> None:
    """Refuse a folder to which the harness must not write; called before the work that fills it.

    Raises:
        UsageError: it is a file, or it holds files and none of them came from the harness.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is there already and is no folder", "name another one")
    held = sorted(path.name for path in folder.iterdir())
    if held and _record(folder) is None:
        more = f" and {len(held) - _NAMED} more" if len(held) > _NAMED else ""
        raise UsageError(
            f"{folder} holds {', '.join(held[:_NAMED])}{more}, which the harness did not put there",
            "name a folder that is new or empty",
        )


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files are put into `folder` when the block ends well.

    What the harness put there before is replaced or removed; what somebody else put there or changed stays.

    Raises:
        UsageError: as `check_folder`, or a file that would be replaced was changed or is somebody else's.
    """
    check_folder(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(6)}"
    temporary.mkdir()
    try:
        yield temporary
        new = {name: [file_sha256(path)] for name, path in _files(temporary).items()}
        old = _record(folder) or {}
        for name in sorted(new.keys() | old.keys()):
            path = folder / name
            if os.path.lexists(path) and not _unchanged(path, old.get(name, [])) and name in new:
                raise UsageError(f"{path} was changed or is not the harness' own", "move it, or name another folder")
        folder.mkdir(exist_ok=True)
        # both, until all are in place: a call that is killed in between finds each file to be its own
        _write_record(folder, {name: old.get(name, []) + new.get(name, []) for name in old.keys() | new.keys()})
        for name in old.keys() - new.keys():
            if _unchanged(folder / name, old[name]):
                (folder / name).unlink()
        for name in new:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).replace(folder / name)
        _write_record(folder, new)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def rewrite_output(folder: Path, name: str, content: str) -> None:
    """Write one of the harness' own files in a folder that `output_folder` filled anew."""
    write_atomically(folder / name, content)
    _write_record(folder, (_record(folder) or {}) | {name: [file_sha256(folder / name)]})


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _unchanged(path: Path, sums: list[str]) -> bool:
    return path.is_file() and not path.is_symlink() and file_sha256(path) in sums


def _record(folder: Path) -> dict[str, list[str]] | None:
    """Return what the harness put there; None where it says nothing, and for paths that lead out of the folder."""
    try:
        content = json.loads((folder / FOLDER_RECORD).read_text(encoding="utf-8"))
        if content["generator"] != GENERATOR:
            return None
        return {str(name): list(sums) for name, sums in content["files"].items() if not _leads_out(str(name))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _leads_out(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _write_record(folder: Path, files: dict[str, list[str]]) -> None:
    content = {"generator": GENERATOR, "files": dict(sorted(files.items()))}
    write_atomically(folder / FOLDER_RECORD, json.dumps(content, indent=1) + "\n")
