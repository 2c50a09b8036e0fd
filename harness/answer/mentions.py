"""Whether a start tag outside of code blocks begins a page, or is only spoken of: `use the <table> element`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.answer.markup import Markup
from harness.answer.regions import OPTIONAL_END, VOID

_BEFORE_BLOCK = re.compile(r"[ \t]*(?:(?:[-*+>]|\d{1,9}[.)])[ \t]*)*")
_CONNECTIVE = re.compile(r"\s*(?:and|or|to|through|with|,|/|-|\u2013|\u2014|\.\.\.|\u2026)\s*", re.IGNORECASE)
_PAIRED = re.compile(r"^[ \t]*(?:```|~~~)|<(/?)([a-z][^\s<>/`]*)", re.IGNORECASE | re.MULTILINE)
_TAGS = re.compile(r"<[^<>]*>")
_SENTENCE = re.compile(r"[ \t]+[A-Za-z]")


def line_start(text: str, position: int) -> int | None:
    """Return where the line of `position` begins, if nothing but white space and list marks precede it there."""
    line = text.rfind("\n", max(0, position - 200), position) + 1
    if line == 0 and position > 200:
        return None
    before = _BEFORE_BLOCK.match(text, line, position)
    return line if before is not None and before.end() == position else None


def behind_tags(text: str, position: int) -> bool:
    """Return whether nothing but tags and white space stands before `position` in its line."""
    line = max(text.rfind("\n", max(0, position - 200), position) + 1, position - 200, 0)
    return not _TAGS.sub("", text[line:position]).strip()


@dataclass
class Mentions:
    """Tells the tags of one answer."""

    markup: Markup
    _pairs: set[int] | None = None

    def begins_a_page(self, start: int, end: int | None, name: str, *, fresh: bool, cut: bool) -> bool:
        """Return whether a start tag begins a page.

        Args:
            start: Where it begins.
            end: Where it ends, None where it does not.
            name: In lower case.
            fresh: Nothing is said before it.
            cut: The answer was cut off, so that an end tag may be missing for that.
        """
        if fresh:
            return True
        if name == "html":
            return self.document(start, name)
        begins_line = line_start(self.markup.text, start) is not None
        if end is None:
            return begins_line and cut
        if not begins_line:
            return self._paired(start) and not self._listed(end)
        said = _SENTENCE.match(self.markup.text, end) is not None
        return self._paired(start) or name in OPTIONAL_END or name in VOID or name == "body" or cut or not said

    def document(self, start: int, name: str) -> bool:
        """Return whether a doctype or `<html>` begins a document: something of HTML follows it, and no sentence."""
        text = self.markup.text
        tag = self.markup.next(">", start) if name == "!doctype" else self.markup.tag(start)
        if tag is None:
            return False
        end = tag.end() if isinstance(tag, re.Match) else tag.end
        following = text[end : end + 2000].lstrip(" \t\r\n\f>")  # also in a block quote
        if not following or following[0] in "<{":
            return not following.startswith("</")
        return line_start(text, start) is not None and name == "html" and self._paired(start)

    def _listed(self, end: int) -> bool:
        """Whether start and end tag are named beside each other, as in `<b> and </b>`."""
        following = self.markup.text.find("<", end, end + 20)
        return following >= 0 and _CONNECTIVE.fullmatch(self.markup.text, end, following) is not None

    def _paired(self, start: int) -> bool:
        """Whether an end tag closes the element that begins at `start`, before the next code block."""
        if self._pairs is None:
            self._pairs = set()
            waiting: dict[str, list[int]] = {}
            for match in _PAIRED.finditer(self.markup.text):
                if match[2] is None:
                    waiting.clear()
                elif not match[1]:
                    waiting.setdefault(match[2].lower(), []).append(match.start())
                elif waiting.get(match[2].lower()):
                    self._pairs.add(waiting[match[2].lower()].pop())
        return start in self._pairs
