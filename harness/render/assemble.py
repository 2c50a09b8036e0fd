"""What was measured of one page, put together to its `Rendering`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.render import pixels
from harness.render.excuse import ScriptError
from harness.render.outcome import Facts, classify_outcome
from harness.render.settings import DESKTOP_WIDTH, MAX_ERRORS, PHONE_WIDTH
from harness.types import Block, Rendering

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

    def fail(self, error: ScriptError) -> None:
        """Keep an uncaught error, unless its text is there already or there are enough."""
        error = replace(error, text=error.text[:LINE])
        if len(self.errors) < MAX_ERRORS and all(error.text != other.text for other in self.errors):
            self.errors.append(error)

    def refuse(self, url: str, kind: str) -> None:
        """Keep the URL of a refused request; `kind` is the lower-case resource type of the DevTools protocol."""
        keep(self.blocked, url)
        if len(self.refused) < _MOST_REFUSED and (kind, url[:LINE]) not in self.refused:
            self.refused.append((kind, url[:LINE]))


def keep(lines: list[str], line: str) -> None:
    """Append `line`, shortened, unless it is there already or there are enough."""
    line = line[:LINE]
    if len(lines) < MAX_ERRORS and line not in lines:
        lines.append(line)


def assemble(
    heard: Heard,
    facts: Facts,
    html: str,
    parts: Mapping[str, Any],
    pictures: Mapping[str, pixels.Picture],
    axe_failed: str = "",
) -> Rendering:
    """Return the rendering of the page `html`.

    `parts` holds the results of `measure.js` by screen, and `accessibility`.
    """
    desktop = parts.get("desktop", {})
    text = " ".join(desktop.get("text", "").split())
    painted = pictures["desktop"].painted_share if "desktop" in pictures else None
    facts.errors, facts.refused, facts.html = heard.errors, heard.refused, html
    facts.text, facts.painted = text, pictures["desktop"].drawn if "desktop" in pictures else None
    facts.measured = bool(desktop)
    outcome, detail = classify_outcome(facts)
    return Rendering(
        outcome=outcome,
        detail=detail or axe_failed,
        visible_text=text,
        visible_characters=len(text),
        painted_share=painted,
        errors=tuple(error.text for error in heard.errors),
        console_errors=tuple(heard.console_errors),
        blocked=tuple(heard.blocked),
        overflow={
            str(width): int(parts[name]["overflow"])
            for name, width in (("desktop", DESKTOP_WIDTH), ("phone", PHONE_WIDTH))
            if name in parts
        },
        text_faults={k: int(v) for k, v in desktop.get("faults", {}).items()},
        accessibility=parts.get("accessibility"),
        dom_hash=hashlib.sha256(desktop["html"].encode("utf-8", "replace")).hexdigest() if "html" in desktop else "",
        screenshots={name: picture.file for name, picture in pictures.items()},
        blocks=tuple(Block(*block) for block in desktop["blocks"]) if "blocks" in desktop else None,
    )
