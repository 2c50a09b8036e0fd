"""Whole files and folders or none, and a full disk said in one line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.errors import cannot_write, how_to_fix

_FULL_BYTES = 1 << 20
"""Less room than this on a disk to which a write has failed is why it failed."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader, or a run after a crash, never sees half of it."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    temporary = _beside(path)
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)  # a failed write names no file, a failed open the temporary one
        raise


@contextlib.contextmanager
def disk_faults_named(folder: Path) -> Iterator[None]:
    """Turn a library's failed write below `folder` into the one line that says what fixes it.

    Raises:
        HarnessError: the disk is full or not writable; everything else passes as it is.
    """
    try:
        yield
    except OSError as error:
        if not how_to_fix(error):
            raise
        raise cannot_write(error.filename or folder, error) from error
    except Exception as error:
        number = _error_number(str(error), folder)
        if number is None:
            raise
        raise cannot_write(folder, OSError(number, os.strerror(number))) from error


def _error_number(words: str, folder: Path) -> int | None:
    """Rust's writers (safetensors, tokenizers) say the system's error in words, torch's says only that it failed."""
    if found := re.search(r"\(os error (\d+)\)", words):
        return int(found[1]) if how_to_fix(OSError(int(found[1]), "")) else None
    failed = "inline_container" in words or "PytorchStreamWriter" in words
    return errno.ENOSPC if failed and shutil.disk_usage(folder).free < _FULL_BYTES else None


@contextlib.contextmanager
def finished_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends well, and vanishes when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(folder)
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _beside(path: Path) -> Path:
    """Return a free name in the same folder. Unlike tempfile's, what is made there can be read by whom umask allows."""
    return path.parent / f".{path.name}.{secrets.token_hex(6)}"
