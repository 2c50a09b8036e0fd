"""The hub client's manners, and its faults in one line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Literal

from harness.errors import HarnessError, UsageError

_LOG_IN = "log in: `hf auth login`"


@contextlib.contextmanager
def without_retry_warnings() -> Iterator[None]:
    """Keep the hub client's five retries, two lines of warning each, from the user inside the block."""
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)


def refusal(error: BaseException, path: str, *, data_set: bool = False) -> HarnessError | None:
    """Return the line for what the hub does not give: gated, private, not there; None where it gave no answer.

    Args:
        error: What the hub's client, or `datasets` on top of it, raised.
        path: What was asked for, `owner/name`.
        data_set: Whether that is a data set, else a model's weights.
    """
    from huggingface_hub import constants

    what, are, their, they_are = (
        ("the data set", "is", "its", "it is") if data_set else ("the weights", "are", "their", "they are")
    )
    kind = _kind(error)
    if kind == "gated":
        page = f"{constants.ENDPOINT}/{'datasets/' if data_set else ''}{path}"
        return HarnessError(f"{what} {path} {are} gated on the hub", f"accept {their} terms at {page}, then {_LOG_IN}")
    if kind == "revision":
        return UsageError(f"{what} {path} {are} not on the hub in that revision", "look at `revision`")
    if kind == "missing":
        return UsageError(
            f"the hub has no {what.removeprefix('the ')} {path}", f"check the name; if {they_are} private, {_LOG_IN}"
        )
    return None


def _kind(error: BaseException | None) -> Literal["gated", "revision", "missing"] | None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    while error is not None:
        if isinstance(error, GatedRepoError):  # before the next kind, which it is one of
            return "gated"
        if isinstance(error, RevisionNotFoundError):
            return "revision"
        if isinstance(error, RepositoryNotFoundError):
            return "missing"
        if type(error).__name__ == "DatasetNotFoundError" and error.__cause__ is None:  # raised `from None`
            text = str(error)
            return "gated" if "gated dataset" in text else "revision" if text.startswith("Revision") else "missing"
        error = error.__cause__ or error.__context__
    return None


def reason(error: BaseException) -> str:
    """Return the first line of what the hub's client said, at most 120 letters."""
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:120]
