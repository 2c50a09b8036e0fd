"""What travels with the harness (its suites and profiles), and what lies in the working folder beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that holds a suite or a profile; its name is the folder's."""

    folder: Path
    shadows: bool = False
    """Whether it lies in the working folder, and another one of that name travels with the harness."""

    def taken(self) -> str:
        """Return a line that says which of the two is taken; "" where there is one."""
        return f"that of {self.folder} is taken, not the one of that name that is built in" if self.shadows else ""


def builtin_folder(name: str) -> Path | None:
    """Return the folder `tasks` or `baselines` that travels with the harness; None where this copy has none.

    In a wheel it lies inside the package, in a checkout beside it.
    """
    packed, checkout = _PACKAGE / "builtin" / name, _PACKAGE.parent
    if packed.is_dir():
        return packed
    beside = checkout / name
    # `tasks` beside a package that was merely copied somewhere is somebody else's
    return beside if (checkout / "pyproject.toml").is_file() and beside.is_dir() else None


def find_all(own: Path, file: str, *, alone: bool = False) -> dict[str, Found]:
    """Return, by name, each folder with `file` below `own` and below the built-in folder of that name.

    Args:
        own: The folder in which one's own lie; they come first.
        file: What makes a folder one: `suite.yaml`, `profile.yaml`.
        alone: Leave the built-in ones out.
    """
    mine = {path.parent.name: path.parent for path in own.glob(f"*/{file}")}
    shipped = None if alone else builtin_folder(own.name)
    theirs = {path.parent.name: path.parent for path in shipped.glob(f"*/{file}")} if shipped else {}
    found = {name: Found(folder) for name, folder in theirs.items()}
    for name, folder in mine.items():
        found[name] = Found(folder, name in theirs and not _alike(folder, theirs[name]))
    return dict(sorted(found.items()))


def _alike(one: Path, other: Path) -> bool:
    """Whether two folders are the same, or hold the same files."""
    return one.resolve() == other.resolve() or _files(one) == _files(other)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
