"""Reads the attacking pages. `README.md` says how they are written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEAD = re.compile(r"<!-- attack: (?P<attack>.*?)\n\s+expect: (?P<expect>[a-z-]+) -->", re.DOTALL)
_REPEAT = re.compile(r"\{\{(\d+)\*(.+?)\}\}(?!\})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class HostilePage:
    name: str
    attack: str
    expect: str
    html: str

    def aimed_at(self, tcp: str, udp: str) -> str:
        """The page with its calls directed at listeners, as `host:port`."""
        return self.html.replace("{{tcp}}", tcp).replace("{{udp}}", udp)


def load() -> list[HostilePage]:
    pages = []
    for file in sorted((Path(__file__).parent / "pages").glob("*.html")):
        text = file.read_bytes().decode("utf-8", "replace")
        head = _HEAD.match(text)
        assert head is not None, f"{file.name} has no head that says its attack and the expected outcome"
        html = _REPEAT.sub(lambda found: found[2] * int(found[1]), text)
        pages.append(HostilePage(file.stem, head["attack"], head["expect"], html))
    return pages
