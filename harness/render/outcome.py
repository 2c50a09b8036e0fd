"""One word for what became of a page, from what was seen of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.render.settings import MAX_ELEMENTS, MAX_HTML_BYTES
from harness.types import Outcome

# Fewer differing pixels than about 200 of a 1280 × 800 viewport are no picture: a stray border or a caret.
PAINTED_MINIMUM = 0.0002

# What an engine says when a name, a property or data is missing because its script or request was refused. A syntax
# error or an error that a page throws in its own words is never excused.
_CAUSED_BY_ABSENCE = re.compile(
    r"is not defined|undefined|null|is not a function|is not a constructor|Failed to fetch|NetworkError|Load failed|"
    r"dynamically imported module|network|Importing a module|Failed to execute 'importScripts'",
    re.IGNORECASE,
)


_MARK = re.compile(
    r"<!--|-->|<(?P<end>/?)(?P<raw>script|style|textarea|title|template|noscript)\b|<(?P<tag>[a-z])", re.IGNORECASE
)


def _start_tags(html: str) -> int:
    """Count start tags, but not what only looks like one in a comment or in an element that holds text."""
    count, inside = 0, ""
    for mark in _MARK.finditer(html):
        raw = (mark["raw"] or "").lower()
        if inside:
            if mark[0] == inside or (mark["end"] and raw == inside):
                inside = ""
        elif mark[0] == "<!--":
            inside = "-->"
        elif mark["tag"] or (raw and not mark["end"]):
            count += 1
            inside = raw
    return count


def oversize(html: str) -> str:
    """Say what makes a page `too-large` before it is opened, or nothing.

    Its layout can take longer than anyone waits, and how long depends on the machine; what its source holds does not.
    """
    if len(html) > MAX_HTML_BYTES:
        return f"{len(html)} characters"
    if html.count("<") > MAX_ELEMENTS:
        tags = _start_tags(html)
        if tags > MAX_ELEMENTS:
            return f"{tags} start tags"
    return ""


@dataclass(slots=True)
class Facts:
    """What was seen of a page; empty strings stand for "did not happen"."""

    crash: str = ""
    timeout: str = ""
    too_large: str = ""
    left_for: str = ""
    errors: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    code_blocked: bool = False
    text: str = ""
    painted: float | None = None
    measured: bool = False


def judge(facts: Facts) -> tuple[Outcome, str]:
    """Return the first outcome that applies, in the order of `harness.types.Outcome`, and what it rests on."""
    if facts.crash:
        return "crash", facts.crash
    if facts.timeout:
        return "timeout", facts.timeout
    if facts.too_large:
        return "too-large", facts.too_large
    if facts.left_for:
        return "navigated-away", f"to {facts.left_for}"
    own = [error for error in facts.errors if not (facts.code_blocked and _CAUSED_BY_ABSENCE.search(error))]
    if own:
        return "script-error", own[0]
    if not facts.measured:
        return "unscored", "the page was not measured"
    if not facts.text and (facts.painted is None or facts.painted < PAINTED_MINIMUM):
        return "blank", "no visible text and nothing painted"
    if facts.blocked:
        return "blocked-resource", facts.blocked[0]
    return "ok", ""
