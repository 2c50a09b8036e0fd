"""Parse errors of tree construction, as html5lib finds them, without those that today's standard no longer knows.

html5lib follows a standard older than `<template>` and the customizable `<select>`. Its tokenizer's errors are left
out, since turbohtml reports those by the current standard (`--` within a comment and `&b=` within a link are no errors
any more); of its tree construction errors, `EXEMPTIONS` names what is valid today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import html5lib
import turbohtml
from html5lib.constants import E as ERROR_TEXTS
from html5lib.constants import tokenTypes

from harness.metrics.wrap import FIRST_TAG
from harness.types import Message

EXEMPTIONS = {
    "template": "html5lib does not know <template>: its contents are parsed apart, by the rules of their first tag",
    "select": "html5lib drops everything but options: hr, button, div and text elements in <select> are valid",
    "dialog, search": "html5lib treats them as unknown: they follow the rules of the block elements",
    "tokenizer": "html5lib's tokenizer errors predate the standard's present list: turbohtml reports them",
}
"""Known false alarms of html5lib on valid modern HTML, and what is done about each."""

_SELECT_CODES = frozenset({"unexpected-start-tag-in-select", "unexpected-end-tag-in-select"})
_SELECT_CONTENT = frozenset(
    {
        *(
            "hr",
            "button",
            "selectedcontent",
            "div",
            "span",
            "img",
            "svg",
            "path",
            "p",
            "b",
            "i",
            "em",
            "strong",
            "small",
        ),
        *("noscript", "legend", "script", "template"),
    }
)
_SAME_RULES = {"dialog": "dir", "search": "center"}
"""Block elements that html5lib does not know, and obsolete ones that follow the same rules of parsing."""

_TEMPLATE_CONTEXT = {
    "tr": "tbody",
    "td": "tr",
    "th": "tr",
    "tbody": "table",
    "thead": "table",
    "tfoot": "table",
    "caption": "table",
    "colgroup": "table",
    "col": "colgroup",
}
_TEXT_IN_TABLE = "unexpected-char-implies-table-voodoo"
_WHITE_SPACE = " \t\n\f\r"
_NOT_NEWLINE = re.compile(r"[^\n]")
_KEPT_MESSAGES = 50
_READ_ERRORS = 1000


def tree_errors(html: str, ignore_doctype: bool = False) -> list[Message]:
    """Return the first 50 tree construction errors of a whole document, with line (from 1) and column.

    Time is quadratic in nesting and unbounded for hostile input: call it through `harness.metrics.parser_pool`.
    """
    html = html.replace("\r\n", "\n").replace("\r", "\n")
    templates = _templates(html)
    messages = _messages(_blank(html, [whole for whole, _ in templates], 0, len(html)), None, 0, 0)
    for (_, (start, end)), (whole, _) in zip(templates, templates, strict=True):
        first = FIRST_TAG.match(html, start, end)
        container = _TEMPLATE_CONTEXT.get(first[1].lower(), "div") if first else "div"
        inside = [other for other, _ in templates if whole[0] < other[0] and other[1] <= end]
        line_start = html.rfind("\n", 0, start) + 1
        messages += _messages(
            _blank(html, inside, start, end), container, html.count("\n", 0, start), start - line_start
        )
    if ignore_doctype:
        messages = [message for message in messages if not message.code.startswith("expected-doctype-but-got")]
    return sorted(messages, key=lambda message: (message.line or 0, message.column or 0))[:_KEPT_MESSAGES]


class _Tokenizer(html5lib._tokenizer.HTMLTokenizer):  # type: ignore[misc]
    """html5lib's tokenizer without its errors."""

    def __iter__(self) -> Iterator[dict[str, object]]:
        for token in super().__iter__():
            if token["type"] == tokenTypes["ParseError"]:
                continue
            if token.get("name") in _SAME_RULES:
                token["name"] = _SAME_RULES[token["name"]]
            yield token


class _Parser(html5lib.HTMLParser):  # type: ignore[misc]
    """html5lib's tree construction over `_Tokenizer`."""

    def mainLoop(self) -> None:
        _tell_text_in_tables(self)
        # html5lib makes the tokenizer by itself and talks to it directly, so it is refined in place.
        self.tokenizer.__class__ = _Tokenizer
        super().mainLoop()


def _tell_text_in_tables(parser: _Parser) -> None:
    """Make text between the cells of a table an error, as the standard's insertion mode "in table text" has it.

    html5lib moves it in front of the table without a word.
    """
    phase = parser.phases["inTableText"]
    base = type(phase)
    places: list[tuple[int, int]] = []

    def characters(self: object, token: dict[str, str]) -> None:
        if not places and token["data"].strip(_WHITE_SPACE + "\0"):
            places.append(parser.tokenizer.stream.position())
        base.processCharacters(self, token)

    def flush(self: object) -> None:
        parser.errors += [(place, _TEXT_IN_TABLE, {}) for place in places]
        places.clear()
        base.flushCharacters(self)

    phase.__class__ = type(
        "InTableText", (base,), {"__slots__": (), "processCharacters": characters, "flushCharacters": flush}
    )


def _templates(html: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Of every closed `<template>`: where the element lies in `html`, and where its contents do."""
    if "<template" not in html.lower():
        return []
    document = turbohtml.parse(html, source_locations=True, allow_declarative_shadow_roots=False)
    found = []
    for element in document.find_all("template"):
        place = element.source_location
        if place is not None and place.start_tag is not None and place.end_tag is not None:
            opening, closing = place.start_tag, place.end_tag
            found.append(
                ((opening.start_offset, closing.end_offset), (opening.end_offset, closing.start_offset)),
            )
    return found


def _blank(html: str, spans: list[tuple[int, int]], start: int, end: int) -> str:
    """`html[start:end]` with spaces in place of `spans`, so that all positions stay."""
    parts, position = [], start
    for a, b in sorted(spans):
        if a >= position:
            parts += [html[position:a], _NOT_NEWLINE.sub(" ", html[a:b])]
            position = b
    return "".join([*parts, html[position:end]])


def _messages(html: str, container: str | None, lines_before: int, columns_before: int) -> list[Message]:
    parser = _Parser()
    if container is None:
        parser.parse(html)
    else:
        parser.parseFragment(html, container=container)
    messages = []
    for (line, column), code, variables in parser.errors[:_READ_ERRORS]:
        if code in _SELECT_CODES and variables.get("name") in _SELECT_CONTENT:
            continue
        shift = columns_before if line == 1 else 0
        messages.append(Message("html5lib", _text(code, variables), line + lines_before, column + shift, code))
    return messages


def _text(code: str, variables: Mapping[str, object]) -> str:
    if code == _TEXT_IN_TABLE:
        return "Text stands in a table outside its cells; it is moved in front of the table."
    names = {rule: name for name, rule in _SAME_RULES.items()}
    try:
        return str(ERROR_TEXTS[code] % {key: names.get(str(value), value) for key, value in variables.items()})
    except (KeyError, TypeError, ValueError):
        return code.replace("-", " ")
