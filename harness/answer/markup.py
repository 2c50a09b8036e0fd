"""HTML in a text, tag by tag: what stands in a comment, in raw text or in an attribute is passed over.

Follows the tokenizer of the HTML standard, but for what never ends: there the standard takes all the rest of the text,
and a reader sees that an end was forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from harness.answer.marks import SPECIAL_TOKEN, words

_EVENT = re.compile(r"<|`{3,}|~{3,}")
_VALUE = r"\"[^\"]*+\"|'[^']*+'|[^\s>\"'][^\s>]*+"
_ATTRIBUTE = rf"(?:=[^\s/>=]*+|[^\s/>=]++)(?:\s*+=\s*+(?:{_VALUE})?+)?+"
_TAG = re.compile(rf"</?([a-zA-Z][^\s/>]*+)(?:[\s/]++|{_ATTRIBUTE})*+>")
_NAME = re.compile(r"</?([a-zA-Z][^\s/>]{0,100})")
RAW_TEXT = words("script style textarea title iframe noembed noframes xmp")
"""Elements whose content holds no tags."""
_FOREIGN = frozenset({"svg", "math"})


@dataclass(frozen=True, slots=True)
class Piece:
    """A tag, a run of three or more fence characters in the text, a special token, or a comment."""

    kind: Literal["start", "end", "fence", "token", "comment"]
    start: int
    end: int
    name: str = ""
    """Of a tag, in lower case; `!doctype` for a doctype."""


@dataclass
class Markup:
    """A text that holds HTML. `final`: nothing follows it, so what is still open was never closed."""

    text: str
    final: bool
    runs_out: bool = False
    """Something was read to the end of the text and found unclosed: it is not looked for a second time."""
    _found: dict[str, tuple[int, re.Match[str] | None]] = field(default_factory=dict)
    """By pattern the place of the last search and what it found: nothing is searched twice in hostile texts."""
    _quotes_close: bool = True

    def next(self, pattern: str, position: int) -> re.Match[str] | None:
        """Return the first match of a pattern, in any case, from `position` on."""
        since, match = self._found.get(pattern, (len(self.text) + 1, None))
        if since <= position and (match is None or position <= match.start()):
            return match
        match = re.compile(pattern, re.IGNORECASE).search(self.text, position)
        self._found[pattern] = (position, match)
        return match

    def end_tag(self, name: str, position: int) -> int | None:
        """Return where the next end tag of that name begins, whatever it stands in."""
        match = self.next(rf"</{name}(?=[\s/>])", position)
        return match.start() if match else None

    def pieces(self, position: int) -> Iterator[Piece]:
        """Yield the pieces from `position` on; a text that goes on yields nothing behind what is still open."""
        text, foreign = self.text, 0
        while (event := _EVENT.search(text, position)) is not None:
            start = event.start()
            if event[0] != "<":
                yield Piece("fence", start, event.end())
                position = event.end()
                continue
            second = text[start + 1 : start + 2]
            if second in ("!", "?"):
                end = self._declaration(start, foreign > 0)
                if end is None:
                    if not self.final:
                        return
                    position = self._forgotten(start + 2)
                    continue
                doctype = text[start + 1 : start + 9].lower() == "!doctype"
                yield Piece("start" if doctype else "comment", start, end, "!doctype" if doctype else "")
                position = end
                continue
            if (token := SPECIAL_TOKEN.match(text, start)) is not None:
                yield Piece("token", start, token.end())
                position = token.end()
                continue
            if _NAME.match(text, start) is None:
                bogus = self.next(">", start) if second == "/" else None  # `</ x>` is a comment to the standard
                position = bogus.end() if bogus is not None else start + 1
                continue
            tag = self.tag(start)
            if tag is None:
                if not self.final:
                    return
                position = start + 1
                continue
            yield tag
            position = tag.end
            closed_itself = text[tag.end - 2] == "/"
            if tag.name in _FOREIGN and not closed_itself:
                foreign = max(0, foreign - 1) if tag.kind == "end" else foreign + 1
            elif tag.name in RAW_TEXT and tag.kind == "start" and not (foreign and closed_itself):
                behind = self._raw_text(tag.name, tag.end)
                if behind is None:
                    return
                position = behind

    def tag(self, start: int) -> Piece | None:
        """Return the tag that begins at `start`; None where it has no end."""
        kind: Literal["start", "end"] = "end" if self.text.startswith("</", start) else "start"
        if self._quotes_close:
            match = _TAG.match(self.text, start)
            if match is not None:
                return Piece(kind, start, match.end(), match[1].lower())
            self._quotes_close = False  # from here on, for all that follows would end the same way
        if not self.final:
            return None
        end, name = self.next(">", start), _NAME.match(self.text, start)
        return Piece(kind, start, end.end(), name[1].lower()) if end and name else None

    def _declaration(self, start: int, foreign: bool) -> int | None:
        """The end of a comment, a CDATA section, a doctype or a processing instruction."""
        text = self.text
        if text.startswith("<!--", start):
            short = next((mark for mark in ("<!-->", "<!--->") if text.startswith(mark, start)), None)
            if short is not None:
                return start + len(short)
            match = self.next("--!?>", start + 4)
        elif foreign and text.startswith("<![CDATA[", start):
            match = self.next("]]>", start)
        else:
            match = self.next(">", start)
        return match.end() if match else None

    def _raw_text(self, name: str, position: int) -> int | None:
        """Where an element's raw text ends; None where that cannot be known yet."""
        end = self.end_tag(name, position)
        if name == "title":
            left_open = self.next(r"</?head\b|<body\b", position)
            if left_open is not None and (end is None or left_open.start() < end):
                return position
        if end is None:
            return self._forgotten(position) if self.final else None
        return self._escaped_script(position, end) if name == "script" else end

    def _escaped_script(self, position: int, end: int) -> int:
        """The end of a script in which `<!-- <script>` hides an end tag (the standard's double escaped state)."""
        while True:
            comment = self.text.find("<!--", position, end)
            if comment < 0 or self.text.rfind("-->", comment, end) >= 0:
                return end
            hidden = self.next(r"<script[\s/>]", comment)
            following = self.end_tag("script", end + 1)
            if hidden is None or hidden.start() > end or following is None:
                return end
            position, end = end, following

    def _forgotten(self, position: int) -> int:
        """Where a page goes on behind something that never closes: at the last `</html>`, else at once."""
        last = self._found.get("last")
        if last is None:
            *_, match = [None, *re.finditer("</html", self.text, re.IGNORECASE)]
            last = self._found["last"] = (0, match)
        return last[1].start() if last[1] is not None and position <= last[1].start() else position
