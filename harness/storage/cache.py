"""The user's cache folder, content hashes of files, and atomic writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from pathlib import Path

import platformdirs

from harness.errors import HarnessError
from harness.storage.atomic import write_atomically
from harness.storage.variables import folder_variable

_NAME = "html-harness"
TAG_FILE = "CACHEDIR.TAG"
_TAG = f"Signature: 8a477f597d28d172789f06886806bc55\n# The cache of {_NAME}; it may be removed as a whole.\n"
PARTS = frozenset(
    {"adapters", "compiled", "completions", "hashes", "nu", "packaged", "proofs", "rates"}
    | {"received", "renders", "weights", "written"}
)
"""The folders in a cache. One that holds nothing else is a cache, though it may have been restored without its tag."""
_PARTS_BEFORE_TAGS = ("hashes", "completions", "renders")
"""A folder that holds one of these is a cache from before caches were tagged, whatever else lies there."""


def cache_folder(*parts: str) -> Path:
    """Return the folder `parts` inside the cache, made if need be: `HARNESS_CACHE`, else the user's cache folder.

    Where `HARNESS_CACHE` names a folder that somebody uses for something else, the cache is a folder of its own in it.

    Raises:
        HarnessError: the folder cannot be made or written.
    """
    named = folder_variable("HARNESS_CACHE")
    base = _user_cache() if named is None else named if _is_cache(named) else named / _NAME
    folder = base.joinpath(*parts)
    try:
        base.mkdir(parents=True, exist_ok=True)
        _tag(base)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(
            f"the cache folder {folder} cannot be made: {error.strerror}", "set HARNESS_CACHE to another folder"
        ) from error
    return folder


def _user_cache() -> Path:
    """Return the user's cache folder as the platform has it; on a Mac the one of before where only that is there."""
    try:
        found = platformdirs.user_cache_path(_NAME, appauthor=False, opinion=False)
    except RuntimeError:  # so newer platformdirs; older ones leave the tilde in
        found = Path("~")
    if found.parts[0] == "~":  # a user whom the machine does not know, as in a container, has no home
        raise HarnessError("this user has no home folder for the cache", "set HARNESS_CACHE to a folder")
    if sys.platform == "darwin" and not found.is_dir():
        before = Path.home() / ".cache" / _NAME
        return before if before.is_dir() else found
    return found


def _is_cache(folder: Path) -> bool:
    """Whether a folder is the harness' cache, or may become it because nothing is in it."""
    tag = folder / TAG_FILE
    try:
        if tag.is_file():
            content = tag.read_text(encoding="utf-8", errors="replace")
            return not content or _NAME in content  # it is empty while another process writes it
        held = list(folder.iterdir())
        return all(path.name in PARTS and path.is_dir() for path in held) or any(
            (folder / part).is_dir() for part in _PARTS_BEFORE_TAGS
        )
    except OSError:  # not there yet, or no folder, which shows when it is made
        return True


def _tag(folder: Path) -> None:
    """Mark a folder as a cache, as the Cache Directory Tagging Specification has it: backups leave it out."""
    with contextlib.suppress(OSError), (folder / TAG_FILE).open("x", encoding="utf-8") as stream:
        stream.write(_TAG)


def content_key(content: object) -> str:
    """Return the SHA-256 of `content` as canonical JSON: equal content has an equal key, whatever it is called."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Return the SHA-256 of a large file, which is read once as long as it stays the same.

    Hashing many gigabytes takes long, so the hash is kept in the cache under the file's path, size and times of change:
    that of the content can be set back by whoever copies another over it, that of the inode cannot.
    """
    status = path.stat()
    known_by = [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    note = cache_folder("hashes") / content_key(known_by)
    if note.exists():
        return note.read_text()
    found = file_sha256(path)
    write_atomically(note, found)
    return found


def files_sha256(paths: list[Path]) -> str:
    """Return one SHA-256 over several files' contents, in order of name."""
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        digest.update(remembered_sha256(path).encode())
    return digest.hexdigest()
