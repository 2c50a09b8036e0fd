"""Where a code block or HTML in the open ends."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from harness.answer.marks import NEXT_TURN, SPECIAL_TOKEN, TEXT_ENDS, THOUGHTS, token_role, words
from harness.answer.markup import Markup, Piece

BLANK = "\ufeff \t\r\n\f"
OPTIONAL_END = words("p li dt dd td th tr thead tbody tfoot option optgroup caption colgroup head")
VOID = words("!doctype area base br col embed hr img input link meta source track wbr")
_BLOCKS = words("""address article aside blockquote body details div dl fieldset figure footer form h1 h2 h3 h4 h5 h6
    header main nav ol p pre script section select style svg table textarea ul""")
PAGE_FOLLOWS = r"(?m:^)[ \t]*(?:```|~~~)|```[\w-]*[ \t]*\n|<!doctype\b|<html\b"
_DOCUMENT = re.compile(
    r"\s*+(?:(?:<!--(?:(?!-->).)*+-->|<\?[^>]*+>)\s*+)*+<(?:!doctype\b|html\b)", re.IGNORECASE | re.DOTALL
)
_NEW_LINE_OF_TEXT = re.compile(r"[ \t]*\r?\n\s*+(?=[^\s<`~])")
_NEXT_TURN = re.compile(rf"\s*{NEXT_TURN}", re.IGNORECASE)
_END_TOKEN = re.compile(r"<(?:/s|[|\uff5c][^\s<>]{1,40}|end_of_turn|eos)>")
_PAGE_BEGINS = r"(?:```|~~~)[ \t]*\w|<!doctype\b|<html\b"
_BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")
_PROSE_LINE = re.compile(r"[^<>\n]*[\w:.!]\s*\Z")
_UNKNOWN = 1 << 60


@dataclass
class Region:
    """A code block's content, or HTML in the open."""

    kind: Literal["fenced", "open"]
    start: int
    end: int
    resume: int
    """Where the answer goes on behind it."""
    closed: bool = False
    """A closing fence is there."""
    html_end: int | None = None
    """Behind the first real `</html>`."""
    language: str = ""
    cut: bool = False
    """It ends at an end token."""
    thought: bool = False
    """It stood in a thought, which ends at `resume`."""
    alone: bool = False
    """Nothing but white space and marks stands before it."""


def is_document(text: str, start: int = 0) -> bool:
    """Whether a doctype or `<html>` comes first at `start`, but for white space and comments."""
    return _DOCUMENT.match(text, start) is not None


class _Walk:
    """What code blocks and HTML in the open have in common: samples of code, end tokens, thoughts."""

    def __init__(self, markup: Markup) -> None:
        self.markup, self.text = markup, markup.text
        self.sample_until = 0
        self.thoughts: dict[str, int] = {}
        self.struck = 0
        """Open `<s>` elements: their end tag looks like an end token."""

    def in_sample(self, piece: Piece) -> bool:
        return piece.start < self.sample_until

    def ends(self, piece: Piece) -> Literal["", "cut", "thought"]:
        """Whether the answer, or the thought around this HTML, ends at a piece."""
        name = piece.name
        if piece.kind == "start":
            if name in ("pre", "code") and not self.in_sample(piece):
                end = self.markup.end_tag(name, piece.end)
                self.sample_until = end if end is not None else (self.sample_until if self.markup.final else _UNKNOWN)
            elif name == "s":
                self.struck += 1
            elif name in THOUGHTS:
                self.thoughts[name] = self.thoughts.get(name, 0) + 1
            return "cut" if name in TEXT_ENDS and not self.in_sample(piece) else ""
        if piece.kind == "end":
            if name == "s":
                self.struck -= 1
                if self.struck < 0:
                    self.struck = 0
                    return "cut"
            if name in THOUGHTS and not self.in_sample(piece):
                self.thoughts[name] = self.thoughts.get(name, 0) - 1
                if self.thoughts[name] < 0 and self.markup.next(_PAGE_BEGINS, piece.end) is not None:
                    return "thought"
        if piece.kind == "token" and not self.in_sample(piece):
            token = SPECIAL_TOKEN.match(self.text, piece.start)
            role = token_role(self.text, token) if token else ""
            if role in ("end", "user"):
                return "cut"
            if role == "unthink" and self.markup.next(_PAGE_BEGINS, piece.end) is not None:
                return "thought"
        return ""

    def own_line(self, piece: Piece, body: int) -> int | None:
        """Where the line of a fence begins, if nothing stands before it there."""
        line = max(self.text.rfind("\n", max(0, piece.start - 100), piece.start) + 1, body)
        if piece.start - line >= 100:  # not even read: a page may be one line of megabytes
            return None
        return line if not self.text[line : piece.start].strip(" \t>") else None

    def rest_of_line(self, piece: Piece) -> str:
        newline = self.text.find("\n", piece.end, piece.end + 200)
        rest = self.text[piece.end : newline if newline >= 0 else piece.end + 200].strip()
        return "" if _END_TOKEN.match(rest) else rest

    def behind_a_tag(self, piece: Piece) -> bool:
        return self.text[max(0, piece.start - 200) : piece.start].rstrip()[-1:] == ">"


def html_block(markup: Markup, body: int, char: str, run: int) -> Region:
    """Return the code block of HTML whose content begins at `body`; its fence is `run` times `char`.

    A fence within `<pre>`, a script or a comment is the page's own, as is a pair of fences of which one has a label.
    """
    walk, text = _Walk(markup), markup.text
    html_end: int | None = None
    nested, first_nested = 0, None
    for piece in markup.pieces(body):
        if piece.kind == "fence":
            if walk.in_sample(piece) or text[piece.start] != char:
                continue
            line, rest = walk.own_line(piece, body), walk.rest_of_line(piece)
            if line is None:
                if piece.end - piece.start >= run and walk.behind_a_tag(piece):
                    return Region("fenced", body, piece.start, piece.end, True, html_end)
            elif not rest and nested:
                nested -= 1
            elif not rest and piece.end - piece.start >= run:
                return Region("fenced", body, line, piece.end, True, html_end)
            elif rest and html_end is not None:
                return Region("fenced", body, html_end, line, False, html_end)
            elif rest and markup.runs_out:
                return Region("fenced", body, line, line)
            elif rest:
                nested += 1
                first_nested = line if first_nested is None else first_nested
            continue
        how = walk.ends(piece)
        if how:
            end = piece.start if html_end is None else html_end
            return Region("fenced", body, end, piece.end, False, html_end, cut=how == "cut", thought=how == "thought")
        if piece.kind == "end" and piece.name == "html" and html_end is None:
            html_end = piece.end
    markup.runs_out = markup.runs_out or html_end is None
    end = (
        html_end if html_end is not None else (first_nested if first_nested is not None and markup.final else len(text))
    )
    return Region("fenced", body, end, end, False, html_end)


def other_block(markup: Markup, body: int, char: str, run: int) -> Region:
    """Return a code block of something else: it ends at the first fence without a label."""
    match = markup.next(rf"(?m:^[ \t>]*{char}{{{run},}}[ \t]*(?:<[/|\uff5ce][^\s<>]{{1,40}}>[^\n]*)?\r?$)", body)
    if match is None:
        return Region("fenced", body, len(markup.text), len(markup.text))
    return Region("fenced", body, match.start(), match.end(), True)


def open_page(markup: Markup, start: int, wrappers: frozenset[str], *, cut: bool) -> Region:
    """Return the HTML in the open that begins at `start`: to its `</html>`, or to where the answer goes on without it.

    Without `</html>` it ends at a wrapper's end tag, an end token, a code block, a sentence behind the last block, or
    with the text. `cut`: the answer was cut off, so what it ends with is the page's.
    """
    walk, text, document = _Walk(markup), markup.text, is_document(markup.text, start)
    first_fence: int | None = None
    depth, prose, last = 0, None, start
    within: Counter[str] = Counter()  # elements of the page's own that are called as a wrapper is
    for piece in markup.pieces(start):
        if piece.kind == "fence":
            line = walk.own_line(piece, start)
            if walk.in_sample(piece) or (line is None and not walk.behind_a_tag(piece)):
                continue
            where = line if line is not None else piece.start
            if not document or markup.runs_out:
                return Region("open", start, _trimmed(text, last, where, prose, cut=False), where)
            first_fence = where if first_fence is None else first_fence
            continue
        how = walk.ends(piece)
        if how:
            end = first_fence if first_fence is not None else piece.start
            return Region("open", start, end, piece.end, cut=how == "cut", thought=how == "thought")
        if piece.kind == "comment":
            continue
        if piece.kind == "end":
            if piece.name == "html":
                return Region("open", start, piece.end, piece.end, html_end=piece.end)
            if within[piece.name]:
                within[piece.name] -= 1
            elif piece.name in wrappers:
                return Region("open", start, first_fence if first_fence is not None else piece.start, piece.end)
        own_line = walk.own_line(piece, start)
        new = piece.start > start and (piece.name == "!doctype" or (piece.name == "html" and not document))
        if new and piece.kind == "start" and own_line is not None and _behind_prose(text, start, own_line):
            return Region("open", start, _trimmed(text, last, own_line, prose, cut=False), own_line)
        if own_line is not None and prose is not None:
            prose = None  # HTML goes on
        last = piece.end
        if piece.kind == "start" and piece.name not in VOID | OPTIONAL_END and text[piece.end - 2] != "/":
            depth += 1
            within[piece.name] += piece.name in wrappers
        elif piece.kind == "end":
            depth = 0 if piece.name == "body" else max(0, depth - (piece.name not in OPTIONAL_END))
            if depth == 0 and prose is None and piece.name in _BLOCKS and _NEW_LINE_OF_TEXT.match(text, piece.end):
                prose = piece.end
                if not document and _NEXT_TURN.match(text, piece.end) is not None:
                    return Region("open", start, prose, prose)
    markup.runs_out = True
    if first_fence is not None and markup.final:
        return Region("open", start, _trimmed(text, min(last, first_fence), first_fence, prose, cut), first_fence)
    return Region("open", start, _trimmed(text, last, len(text), prose, cut), len(text))


def _behind_prose(text: str, start: int, line: int) -> bool:
    """Whether a sentence stands on the line before."""
    before = text[max(start, line - 300) : line].rstrip()
    return _PROSE_LINE.match(before[before.rfind("\n") + 1 :]) is not None


def _trimmed(text: str, last: int, end: int, prose: int | None, cut: bool) -> int:
    """The end of a page without `</html>`, less the prose behind it."""
    if cut:
        return end
    if prose is not None and prose < end:
        return prose
    blank = _BLANK_LINE.match(text[last : min(end, last + 1000)])
    return last if blank or not text[last:end].strip(BLANK) else end
