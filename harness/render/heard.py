"""What a page said and asked for while it lived, as much of it as is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from harness.render.excuse import ScriptError
from harness.render.settings import MAX_ERRORS, MAX_EVENTS

LINE = 300
"""Characters that are kept of an error or a URL."""
_MOST_REFUSED = 100


@dataclass(slots=True)
class Heard:
    """What a page said and asked for while it lived."""

    errors: list[ScriptError] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    left_for: str = ""
    """Where the page tried to go, or empty."""
    flood: str = ""
    """What the page sent more of than anyone can read, or empty."""
    _counts: Counter[str] = field(default_factory=Counter)

    def count(self, what: str) -> bool:
        """Count an event of the kind `what`; whether it is the one with which a flood begins."""
        self._counts[what] += 1
        if self._counts[what] <= MAX_EVENTS or self.flood:
            return False
        self.flood = f"more than {MAX_EVENTS} {what}"
        return True

    def fail(self, error: ScriptError) -> None:
        """Keep an uncaught error, unless its text is there already or there are enough."""
        error = replace(error, text=error.text[:LINE])
        if len(self.errors) < MAX_ERRORS and all(error.text != other.text for other in self.errors):
            self.errors.append(error)

    def say(self, text: str) -> None:
        """Keep an error of the console."""
        _keep(self.console_errors, text)

    def refuse(self, url: str, kind: str) -> None:
        """Keep the URL of a refused request; `kind` is the lower-case resource type of the DevTools protocol."""
        if url.endswith("/favicon.ico"):
            return
        _keep(self.blocked, url)
        if len(self.refused) < _MOST_REFUSED and (kind, url[:LINE]) not in self.refused:
            self.refused.append((kind, url[:LINE]))


def _keep(lines: list[str], line: str) -> None:
    """Append `line`, shortened, unless it is there already or there are enough."""
    line = line[:LINE]
    if len(lines) < MAX_ERRORS and line not in lines:
        lines.append(line)
