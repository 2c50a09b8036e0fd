"""The HTML inside a completion: cut out by fixed rules, never repaired.

What comes first decides. HTML at the very start is a page as it stands (`raw`); a Markdown code block before any
HTML is a page in a fence (`fenced`); HTML after or before prose is a page to be cut free (`wrapped`); no HTML is
no page (`none`). A page ends at the first real `</html>` (one in a script, a comment or an attribute is none).
"""

from __future__ import annotations

import re
from itertools import islice

import turbohtml

from harness.types import Page, Scope

# Possessive, for a model that repeats itself writes what a backtracking pattern would try in quadratically many ways.
_FENCE = re.compile(r"^[ \t]*+(?P<mark>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+.-]*+)[^\n`]*+\n", re.MULTILINE)
_INLINE_FENCE = re.compile(r"(?P<mark>```)[ \t]*+(?P<language>html?|HTML)?[ \t]*+(?=<)")
_DOCUMENT_START = re.compile(r"<!doctype\b|<html\b", re.IGNORECASE)
_PAGE_START = re.compile(r"<(?:!doctype\b|!--|\?xml\b|[a-z][^\s<>/`]*(?=[\s/>]|\Z))", re.IGNORECASE)
_TAG = re.compile(r"<([a-z][^\s<>/`]*)(?=[\s/>]|\Z)", re.IGNORECASE)
_END_TAG = re.compile(r"</([a-z][^\s<>/`]*)", re.IGNORECASE)
_HTML_END = re.compile(r"</html[^<>]*>", re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t]*\r?\n")
_THOUGHTS = re.compile(r"\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_HTML_LANGUAGES = frozenset({"html", "htm", "html5", "xhtml"})
_NEWLINE = re.compile(r"\r\n|\r|\n")
_UNFINISHED = frozenset({"length", "loop", "error"})


def extract(completion: str, finish_reason: str | None = None, scope: Scope = "document") -> Page:
    """Return the page inside `completion`, byte for byte as the model wrote it but for white space around it.

    `finish_reason` says how the completion ended: one that was cut off is never cut further at its end, and its page
    counts as truncated unless it is visibly complete. The same arguments always give the same page.
    """
    unfinished = finish_reason in _UNFINISHED
    thoughts = _THOUGHTS.match(completion)
    offset = thoughts.end() if thoughts else 0
    text = completion[offset:]

    fence, start = _first_fence(text), _page_start(text)
    if fence is not None and (start is None or fence.start() <= start):
        return _fenced(text, fence, unfinished)
    if start is None:
        return Page("", "none", truncated=unfinished)
    end, closed = _page_end(text, start, unfinished, scope)
    html = text[start:end].strip()
    alone = offset == 0 and not text[:start].strip() and not text[end:].strip()
    return Page(html, "raw" if alone else "wrapped", truncated=unfinished and not closed)


def _first_fence(text: str) -> re.Match[str] | None:
    """The opening of the code block that holds the page: labelled HTML, else the first with a tag."""
    fallback = None
    position = 0
    while (match := _FENCE.search(text, position)) is not None:
        close = _fence_close(text, match)
        language = match["language"].lower()
        begins_with_tag = _PAGE_START.match(text[match.end() : match.end() + 4000].lstrip())
        if language in _HTML_LANGUAGES:
            return match
        if fallback is None and begins_with_tag:
            fallback = match
        if close is None:
            break
        position = close[1]
    return fallback or _INLINE_FENCE.search(text)


def _fence_close(text: str, opening: re.Match[str]) -> tuple[int, int] | None:
    """Where the code block's content ends and where its closing fence ends; None for a fence that never closes."""
    mark = re.escape(opening["mark"])
    close = re.compile(rf"^[ \t]*{mark}[ \t]*\r?$", re.MULTILINE).search(text, opening.end())
    if close is None:  # "</html>```" on one line
        close = re.compile(mark).search(text, opening.end())
    return (close.start(), close.end()) if close else None


def _fenced(text: str, opening: re.Match[str], unfinished: bool) -> Page:
    close = _fence_close(text, opening)
    html = text[opening.end() : close[0] if close else len(text)].strip()
    if not html:
        return Page("", "none", truncated=unfinished)
    complete = close is not None or (not unfinished and _HTML_END.search(html) is not None)
    return Page(html, "fenced", truncated=not complete)


def _page_start(text: str) -> int | None:
    """Where the HTML begins: at once, else at a doctype or `<html`, else at the first tag that is no mere mention."""
    leading = len(text) - len(text.lstrip("\ufeff \t\r\n\f"))
    if _PAGE_START.match(text, leading):
        return leading
    document = next((m.start() for m in _DOCUMENT_START.finditer(text) if not _in_backticks(text, m.start())), None)
    if document is not None:
        return document
    last_end = {end[1].lower(): end.start() for end in _END_TAG.finditer(text)}
    seen = 0  # the line is known up to here, and not to be blank if a tag stands in it
    for tag in _TAG.finditer(text):
        position = tag.start()
        newline = text.rfind("\n", seen, position)
        begins_line = (newline >= 0 or seen == 0) and not text[newline + 1 : position].strip()
        seen = position + 1
        if _in_backticks(text, position):
            continue
        if begins_line or last_end.get(tag[1].lower(), -1) > position:
            return position
    return None


def _in_backticks(text: str, position: int) -> bool:
    return position > 0 and text[position - 1] == "`"


def _page_end(text: str, start: int, unfinished: bool, scope: Scope) -> tuple[int, bool]:
    """Where the HTML ends, and whether that end is certain."""
    end = _document_end(text, start)
    if end is not None:
        return end, True
    if unfinished:
        return len(text), False
    last_tag = text.rfind(">", start) + 1
    if last_tag <= start:
        return len(text), False
    # Prose after a page without </html> can only be told by the blank line (or the closing fence) before it.
    tail = text[last_tag:]
    separated = _BLANK_LINE.match(tail) or re.match(r"\s*```", tail)
    return (last_tag, scope == "fragment") if separated else (len(text), scope == "fragment")


def _document_end(text: str, start: int) -> int | None:
    """The end of the first `</html>` that the tokenizer of the HTML standard takes for an end tag."""
    if _HTML_END.search(text, start) is None:
        return None
    html = text[start:]
    for token in turbohtml.tokenize(html):
        if token.type is turbohtml.TokenType.END_TAG and token.tag == "html":
            line_start = 0
            if token.line > 1:
                newline = next(islice(_NEWLINE.finditer(html), token.line - 2, None))
                line_start = newline.end()
            return start + html.index(">", line_start + token.col) + 1
    return None
