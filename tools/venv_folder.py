"""The folder of the virtual environment: where it is, whether it may be written, and how it is taken away again.

Nothing that was there before is ever removed: an environment is made in a path that does not exist, that is empty, or
that carries the marker of an earlier set-up, and of a marked folder only what an environment consists of is removed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

VARIABLE = "HARNESS_VENV"
MARKER = ".html-harness-venv"
STAMPS = (".harness-packages", ".harness-browser", ".harness-nu", ".harness-ready")
"""Notes of finished steps. Set-ups before the marker left these alone."""
PARTS = frozenset(
    {"bin", "include", "lib", "lib64", "share", "etc", "man", "Scripts", "Include", "Lib", "pyvenv.cfg", ".gitignore"}
    | {".lock"}  # of uv
    | {MARKER, *STAMPS}
)
"""What stands at the top of an environment that set-up made."""
_NAMED = 3


class FolderRefused(Exception):
    """The folder is somebody's own; the message is one line that says what to do."""


def venv_folder(root: Path) -> Path:
    """Return where the environment is, or is to be: what `HARNESS_VENV` names, links followed, else `root`/.venv.

    A variable that is empty or white space counts as unset, as in harness/storage/variables.py.

    Raises:
        SystemExit: it names the home of somebody whom this machine does not know; said on stderr in one line.
    """
    value = os.environ.get(VARIABLE, "")
    try:
        folder = Path(value).expanduser() if value.strip() else root / ".venv"
    except RuntimeError:
        sys.stderr.write(f"setup: {VARIABLE}={value} names a home folder that is not there: give the whole path\n")
        raise SystemExit(2) from None
    return Path(os.path.realpath(folder))


def venv_python(folder: Path) -> Path:
    """Return the path of an environment's Python."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_marked(folder: Path) -> bool:
    """Return whether set-up made what is in this folder."""
    return (folder / MARKER).is_file()


def may_use(folder: Path) -> bool:
    """Return whether packages may be installed into what is there: set-up made it, or has installed into it before."""
    return is_marked(folder) or (folder / STAMPS[0]).is_file()


def claim(folder: Path) -> None:
    """Mark a folder as set-up's own and leave nothing of an earlier, broken environment in it.

    Raises:
        FolderRefused: there is something that set-up did not make.
        OSError: the folder cannot be made or written.
    """
    if is_marked(folder):
        _remove_parts(folder)
    elif os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise FolderRefused(
            f"{folder} holds {_some(folder)}, which set-up did not make: "
            f"let {VARIABLE} name a path that does not exist yet, or empty this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # before anything else, so that a set-up that is killed meanwhile finds its own folder again
    (folder / MARKER).write_text("made by html-harness's tools/setup.py; `make clean` removes it\n", encoding="utf-8")


def remove(folder: Path) -> str:
    """Remove an environment that set-up made and return what was done, or "" where there is none.

    Files that somebody else put into it stay.

    Raises:
        FolderRefused: there is something there that set-up did not make.
    """
    if not os.path.lexists(folder):
        return ""
    if not is_marked(folder):
        raise FolderRefused(f"{folder} is not removed: set-up did not make it (it has no {MARKER})")
    _remove_parts(folder)
    (folder / MARKER).unlink()
    if any(folder.iterdir()):
        return f"removed the environment in {folder}; left there: {_some(folder)}"
    folder.rmdir()
    return f"removed {folder}"


def _remove_parts(folder: Path) -> None:
    for part in folder.iterdir():
        if part.name not in PARTS or part.name == MARKER:
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink()


def _some(folder: Path) -> str:
    if not folder.is_dir():
        return "a file"
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
