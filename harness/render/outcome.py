"""One word for what became of a page, from what was seen of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.render.excuse import ScriptError, own_errors
from harness.render.settings import MAX_ELEMENTS, MAX_HTML_BYTES
from harness.types import Outcome

PAINTED_MINIMUM = 24 / (1280 * 800)
"""Less of a viewport is no picture but a caret: the frame of an empty check box has 48 pixels."""

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
    errors: list[ScriptError] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(resource type, URL) of what the closed room refused."""
    html: str = ""
    """The document as it was served: where an error points to."""
    text: str = ""
    painted: float | None = None
    """What is painted anywhere on the page, as a share of one viewport."""
    measured: bool = False


def classify_outcome(facts: Facts) -> tuple[Outcome, str]:
    """Return the first outcome that applies, in the order of `harness.types.Outcome`, and what it rests on."""
    if facts.crash:
        return "crash", facts.crash
    if facts.timeout:
        return "timeout", facts.timeout
    if facts.too_large:
        return "too-large", facts.too_large
    if facts.left_for:
        return "navigated-away", f"to {facts.left_for}"
    own = own_errors(facts.errors, facts.refused, facts.html)
    if own:
        return "script-error", own[0].text
    if not facts.measured:
        return "unscored", "the page was not measured"
    if not facts.text and (facts.painted is None or facts.painted < PAINTED_MINIMUM):
        return "blank", "no visible text and nothing painted"
    if facts.refused:
        return "blocked-resource", facts.refused[0][1]
    return "ok", ""
