"""Reads an answer from its beginning and tells its parts apart: thoughts, prose, code blocks, HTML in the open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.answer.code import HTML_LANGUAGES, language_of
from harness.answer.marks import (
    ANY_TAG,
    BARE_ANALYSIS,
    BARE_FINAL,
    BRACKET,
    BRACKETS,
    CDATA,
    ECHOES,
    NEXT_TURN,
    SPECIAL_TOKEN,
    TEXT_BEGINS,
    TEXT_ENDS,
    THOUGHTS,
    WRAPPERS,
    token_role,
)
from harness.answer.markup import RAW_TEXT, Markup
from harness.answer.mentions import Mentions, behind_tags, line_start
from harness.answer.regions import BLANK, PAGE_FOLLOWS, Region, html_block, open_page, other_block

_EVENT = re.compile(r"<|`+|~{3,}|\[/?THINK\]|\u25c1", re.IGNORECASE)
_LABEL = re.compile(r"[ \t]*+([^\s`<]*+)([^\n`<]*+)(?:\n|\Z)")
_SHORT_LABEL = re.compile(r"[ \t]*+([\w.+-]*+)[ \t]*+(?=<)")
_SAID = re.compile(r"[^\ufeff\s]")
_CDATA = re.compile(rf"\s*{re.escape(CDATA)}\s*")
_SPAN_LIMIT = 500
"""Longest code span within a line, in characters."""


@dataclass
class AnswerReader:
    """An answer that is read once, by `read`.

    `final`: the text is all there; else it goes on, and what cannot be known yet is left open.
    `cut`: it was cut off, so nothing in it is held to be prose for lack of an end.
    """

    text: str
    final: bool = True
    cut: bool = False
    regions: list[Region] = field(default_factory=list)
    ended: bool = False
    """An end token stands in the text: what follows it is no answer any more."""
    closed_at: int | None = None
    """Behind a `</html>` on a line of its own whose page the prompt began."""
    began: int = 0
    """Where the answer proper begins, behind thoughts and an echo of the prompt."""
    _wrappers: set[str] = field(default_factory=set)
    _first: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.markup = Markup(self.text, self.final)
        self.mentions = Mentions(self.markup)

    def read(self) -> AnswerReader:
        """Find all regions."""
        position = self._before()
        while position is not None:
            event = _EVENT.search(self.text, position)
            if event is None:
                break
            mark, start = event[0], event.start()
            turn = self.markup.next(NEXT_TURN, self.regions[0].end) if self.regions else None
            if turn is not None and turn.start() < start:
                self.ended = True
                break
            if mark[0] in "`~":
                position = self._marks(start, event.end())
            elif mark == "<":
                position = self._angle(start)
            else:
                position = self._bracket(start)
        return self

    # -- what stands before the answer proper

    def _before(self) -> int | None:
        text = self.text
        if BARE_ANALYSIS.match(text):
            final = text.find(BARE_FINAL)
            return self._restart(final + len(BARE_FINAL)) if final >= 0 else (0 if self.final else None)
        for opening, answer in ECHOES:
            if opening.match(text):
                heading = answer.search(text)
                if heading is not None:
                    return self._restart(heading.end())
                return 0 if self.final else None
        return 0

    def _restart(self, position: int) -> int:
        """What was read so far is no answer: a thought, or the prompt again."""
        self.regions.clear()
        self.closed_at = None
        self._wrappers.clear()
        self.began = position
        return position

    def _fresh(self, position: int) -> bool:
        """Whether nothing but white space and marks stands before `position`."""
        if self._first is None or self._first[0] != self.began:
            match = _SAID.search(self.text, self.began)
            self._first = (self.began, match.start() if match else len(self.text))
        return not self.regions and position <= self._first[1]

    def _skip(self, start: int, end: int) -> int:
        """Pass over a mark that is no prose."""
        if self._fresh(start):
            self.began = end
        return end

    # -- code blocks and code spans

    def _marks(self, start: int, end: int) -> int | None:
        text, run = self.text, end - start
        if run >= 3:
            line = line_start(self.text, start)
            label = _LABEL.match(text, end)
            glued = _SHORT_LABEL.match(text, end)
            if glued is not None and (line is not None or text[start] == "`"):
                return self._block(start, end, glued[1], glued.end())
            if label is not None and (line is not None or (text[start] == "`" and not label[2].strip())):
                return self._block(start, end, label[1] + label[2], label.end())
        if text[start] == "`":
            newline = text.find("\n", end, end + _SPAN_LIMIT)
            close = re.compile(rf"(?<!`)`{{{run}}}(?!`)").search(
                text, end, newline if newline >= 0 else min(len(text), end + _SPAN_LIMIT)
            ) if run <= 16 else None  # fmt: skip
            if close is not None:
                return close.end()
        return end

    def _block(self, start: int, mark_end: int, info: str, body: int) -> int | None:
        language = language_of(info)
        char, run = self.text[start], min(mark_end - start, 16)
        if language in ("markdown", "md", "mdx"):
            return body  # its own code blocks are those of the answer
        content = self.text[body : body + 4000].lstrip(BLANK)
        markup = ANY_TAG.match(content) is not None or content[:4] == "<!--" or content[:2] in ("<!", "<?")
        if language in HTML_LANGUAGES or markup:
            region = html_block(self.markup, body, char, run)
        else:
            region = other_block(self.markup, body, char, run)
        region.language = language
        if region.thought:
            return self._restart(region.resume)
        self.regions.append(region)
        self.ended = self.ended or region.cut
        return None if region.cut else region.resume

    # -- tags, tokens, thoughts

    def _bracket(self, start: int) -> int | None:
        mark = BRACKET.match(self.text, start)
        if mark is None:
            return start + 1
        close = BRACKETS.get(mark[0].upper() if mark[0][0] == "[" else mark[0])
        if close is None:
            return self._thought_ends(start, mark.end())
        return self._thought(start, mark.end(), re.escape(close))

    def _angle(self, start: int) -> int | None:
        text = self.text
        bracket = BRACKET.match(text, start)
        if bracket is not None:
            return self._bracket(start)
        token = SPECIAL_TOKEN.match(text, start)
        if token is not None:
            return self._token(start, token)
        if text.startswith(("<!", "<?"), start):
            return self._declaration(start)
        begins = TEXT_BEGINS.match(text, start)
        if begins is not None and self._fresh(start):
            return self._skip(start, begins.end())
        tag = ANY_TAG.match(text, start)
        if tag is None:
            return start + 1
        name = tag[2].lower()
        if tag[1]:
            return self._end_tag(start, name)
        if name in TEXT_ENDS:
            return self._end(start, tag.end())
        piece = self.markup.tag(start)
        end = piece.end if piece else None
        if name in THOUGHTS and end is not None:
            mention = not self._fresh(start) and not behind_tags(text, start)
            if not mention or self.markup.end_tag(name, end) is not None:
                return self._thought(start, end, rf"</{re.escape(name)}\s*>")
            return end
        if end is not None and name != "html":
            cdata = _CDATA.match(text, end)
            following = text[cdata.end() if cdata else end : end + 400].lstrip()
            wrapper = name.partition("=")[0]
            wraps = wrapper in WRAPPERS or re.match(r"<!doctype\b|<html\b", following, re.IGNORECASE) is not None
            wraps = wraps or (cdata is not None and name not in RAW_TEXT)
            sentence = name == "s" and self._fresh(start) and (wraps or following.startswith(("```", "<think")))
            if (wraps and name not in ("head", "body")) or sentence:
                self._wrappers.add(wrapper)
                return self._skip(start, end)
        if not self.mentions.begins_a_page(start, end, name, fresh=self._fresh(start), cut=self.cut):
            return end or start + 1
        return self._page(start)

    def _declaration(self, start: int) -> int | None:
        if self.text.startswith("<!--", start) or self.text.startswith("<?", start):
            if self._fresh(start):
                return self._page(start)
            match = self.markup.next("--!?>", start) if self.text.startswith("<!--", start) else None
            return match.end() if match else start + 2
        if self.text.startswith(CDATA, start):
            return self._skip(start, start + len(CDATA))
        if re.compile(r"<!doctype\b", re.IGNORECASE).match(self.text, start) and (
            self._fresh(start) or self.mentions.document(start, "!doctype")
        ):
            return self._page(start)
        return start + 2

    def _end_tag(self, start: int, name: str) -> int | None:
        end = self.text.find(">", start, start + 200) + 1 or start + 2
        if name in THOUGHTS:
            return self._thought_ends(start, end)
        if name == "s":
            return self._end(start, end)
        if name == "html" and not self.regions and self.closed_at is None and behind_tags(self.text, start):
            self.closed_at = end
        return self._skip(start, end)

    def _thought(self, start: int, end: int, close: str) -> int | None:
        position = end
        while (match := self.markup.next(close, position)) is not None:
            if self.text[match.start() - 1] != "`" or self.text[match.end() : match.end() + 1] != "`":
                return self._skip(start, match.end()) if self._fresh(start) else match.end()
            position = match.end()
        return None

    def _thought_ends(self, start: int, end: int) -> int:
        """An end without a beginning, which the prompt holds: all before it was thought."""
        if not self.regions or self.markup.next(PAGE_FOLLOWS, end) is not None:
            return self._restart(end)
        return end

    def _token(self, start: int, token: re.Match[str]) -> int | None:
        role = token_role(self.text, token)
        if role == "channel":
            name = re.compile(r"\s*(\w+)").match(self.text, token.end())
            if name is not None and name[1].lower().startswith("final"):
                message = self.text.find("<|message|>", token.end(), token.end() + 200)
                return self._restart(message + 11 if message >= 0 else name.end())
            return self._thought(start, token.end(), r"<\|(?:end|channel|start)\|>|<channel\|>")
        if role == "think":
            return self._thought(start, token.end(), r"<[|\uff5c][^\s<>|]*(?:end|stop|/|suffix)[^\s<>|]*[|\uff5c]>")
        if role == "unthink":
            return self._thought_ends(start, token.end())
        if role in ("end", "user"):
            return self._end(start, token.end())
        return self._skip(start, token.end())

    def _end(self, start: int, end: int) -> int | None:
        """An end token ends the answer, unless nothing was said before it."""
        if self._fresh(start):
            return self._skip(start, end)
        self.ended = True
        return None

    # -- HTML in the open

    def _page(self, start: int) -> int | None:
        region = open_page(self.markup, start, frozenset(self._wrappers), cut=self.cut)
        if region.thought:
            return self._restart(region.resume)
        region.alone = self._fresh(start)
        self.regions.append(region)
        if region.cut:
            self.ended = True
            return None
        return region.resume
