"""Errors that a user can fix, and the exit codes of the command line."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_GATE = 100
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """A fault that stops the work and that one line explains.

    `message` says what is wrong, `hint` what to type or do instead. The command line prints both on one line
    and never a traceback; anything else that reaches the top is a bug.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(HarnessError):
    """The user asked for something that does not exist or does not fit together: exit code 2."""

    exit_code = EXIT_USAGE


class Interrupted(Exception):
    """The user pressed Ctrl-C. `goes_on`: the same command takes the work up where it was."""

    def __init__(self, goes_on: bool) -> None:
        super().__init__("stopped; the same command goes on from here" if goes_on else "stopped")


_MAKE_ROOM = "make room, then run the same command again: what is finished is kept"
_GIVE_PERMISSION = "give write permission, then run the same command again: what is finished is kept"
_MENDED_BY = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EFBIG: _MAKE_ROOM,
    errno.EACCES: _GIVE_PERMISSION,
    errno.EPERM: _GIVE_PERMISSION,
    errno.EROFS: _GIVE_PERMISSION,
}


def how_to_fix(error: OSError) -> str:
    """Return what to do about a disk that does not take what is written to it; "" for any other fault."""
    return _MENDED_BY.get(error.errno or 0, "")


def cannot_write(path: Path | str, error: OSError) -> HarnessError:
    """Return the one line that says which file could not be written, why, and what fixes it."""
    return HarnessError(f"{path} cannot be written: {error.strerror or error}", how_to_fix(error) or "check the path")


_LISTED = 30
"""At most so many words are listed: a folder may hold thousands of files."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest of `known`, or the list of all when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{near[0]}'?"
    if len(known) > _LISTED:
        return f"there is {', '.join(known[:_LISTED])} and {len(known) - _LISTED} more"
    return "there is " + (", ".join(known) if known else "none")
