"""The page in an answer: which of its parts is the page, where it begins and where it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.answer.code import HTML_LANGUAGES, code_kind
from harness.answer.marks import ANY_TAG, BRACKETS, CDATA
from harness.answer.markup import Markup
from harness.answer.reader import AnswerReader
from harness.answer.regions import BLANK, Region, is_document, open_page

_HEAD_ONLY = re.compile(
    r"(?:\s*+(?:<(?:link|meta|base)\b[^>]*+>|<!--(?:(?!-->).)*+-->|<(style|title)\b[^>]*+>(?:(?!</\1).)*+</\1\s*+>))++\s*+",
    re.IGNORECASE | re.DOTALL,
)
_INNER_DOCUMENT = r"(?:(?m:^)[ \t]*|[\"'(`])<(?:!doctype\s+html\b|html\b)"
_CODE_SPAN = re.compile(r"\s*+`(<[^`]*+)`\s*+")
"""An answer that is one code span and nothing else."""
_DOCUMENT = 3.0
_SCRIPTS = frozenset({"js", "javascript", "mjs", "ts", "typescript", "css", "scss", "sass", "less"})
"""HTML in a string of a script is no page; in a shell's or another language's text it is what is to be written."""
_RETURNED = re.compile(r"(?:\breturn\s*\(?|=>\s*\(?)\Z")
_LINE_WITH_TAG = re.compile(r"^[ \t]*<[a-z]", re.IGNORECASE | re.MULTILINE)
_JSON = re.compile(r"[{\[]\s*[\"{\[]|\"\s*<")
_JSON_BEHIND_PROSE = re.compile(r"[{\[]\s*(?:\"[^\"\n]{1,60}\"\s*:|[{\[]\s*\")")
_BEHIND_STRING = re.compile(r"\s*+(?:[,:}\]]|\Z)|[ \t]*+\r?\n")
_QUOTE = re.compile(r"\\.|\"", re.DOTALL)
_STRING_ENDS = re.compile(r"\"[\s}\])]*+\Z")
_QUOTED_LINE = re.compile(r"^[ \t]*> ?", re.MULTILINE)
_IN_QUOTE = re.compile(r"(?:^|\n)[ \t]*> ?\Z")
_STRING = re.compile(r"\"((?:[^\"\\]|\\.|\\\Z)*+)(\"|\Z)", re.DOTALL)
_LAST_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_THOUGHT_OPENED = re.compile(
    r"(?:<(?:think|thinking|thought|reasoning|seed:think)>|\[THINK\]|\u25c1think\u25b7|<\|channel\|>analysis<\|message\|>"
    r"|<\|(?:begin_of_thought|START_THINKING|think_start|inner_prefix)\|>|<\|channel>thought)\s*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer holds. `code` names what the answer is instead of a page, as `React`."""

    html: str = ""
    kind: Literal["raw", "fenced", "wrapped", "other", "none"] = "none"
    complete: bool = False
    """The page ends for certain: by its `</html>`, or by the end of the code block."""
    code: str = ""
    ended: bool = False
    """An end token stands in the answer."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    strength: float
    found: Found


def find_page(text: str, *, fragment: bool = False, cut: bool = False) -> Found:
    """Return the page in an answer, as the model wrote it but for white space around it.

    Args:
        text: The whole answer.
        fragment: A fragment was asked for: the first one counts, even where a document follows.
        cut: The answer was cut off: what its page ends with is the page's.
    """
    span = _CODE_SPAN.fullmatch(text)
    if span is not None:
        found = find_page(span[1], fragment=fragment, cut=cut)
        return replace(found, kind="wrapped") if found.html else found
    answer = AnswerReader(text, cut=cut).read()
    cut = cut and not answer.ended
    whole = text[answer.began :].strip(BLANK)
    candidates = [] if _JSON.match(whole) is None else list(_in_json(whole, fragment, cut))
    if not candidates and (start := _json_around(answer)) is not None:
        candidates = list(_in_json(text[start:], fragment, cut))
    outside = [one for region in answer.regions for one in _candidates(answer, region, fragment, cut)]
    # A document goes before the fragments in the strings of a JSON text beside it.
    candidates += [one for one in outside if one.strength >= _DOCUMENT] if candidates else outside
    pages = [one for one in candidates if not one.found.code]
    best = max((pages or candidates), key=lambda one: one.strength, default=None)
    return replace(best.found if best else Found(), ended=answer.ended)


def page_end(text: str, *, final: bool = True) -> int | None:
    """Return where the answer's page ends behind its `</html>`, which is where an answer ends; None without.

    Args:
        text: The answer, or what there is of it, with the thought that its prompt opened.
        final: Nothing follows. Else an end tag counts only if nothing that may follow can show that it is none.
    """
    answer = AnswerReader(text, final=final).read()
    ends = [answer.closed_at, *(region.html_end for region in answer.regions)]
    return next((end for end in ends if end is not None), None)


def thought_left_open(prompt: str) -> str:
    """Return the mark with which a prompt opens a thought at its end, as some chat templates do; "" without."""
    match = _THOUGHT_OPENED.search(prompt[-200:])
    return match[0] if match else ""


def thought_end(opened: str) -> str:
    """Return the mark that closes a thought which `thought_left_open` found; "" for none."""
    mark = opened.strip()
    if mark in BRACKETS:
        return BRACKETS[mark]
    if mark.startswith("<|channel"):
        return "<channel|>" if "|>" not in mark else "<|end|><|start|>assistant<|channel|>final<|message|>"
    for begins, ends in (("begin_", "end_"), ("START_", "END_"), ("_start", "_end"), ("prefix", "suffix")):
        if begins in mark:
            return mark.replace(begins, ends)
    return mark.replace("<", "</", 1)


def _candidates(answer: AnswerReader, region: Region, fragment: bool, cut: bool) -> Iterator[_Candidate]:
    text = answer.text
    html = text[region.start : region.end].strip(BLANK)
    before = text[max(0, region.start - 100) : region.start]
    quoted = region.kind == "fenced" or _IN_QUOTE.search(before) is not None
    lines = html.split("\n")[region.kind == "open" :] if quoted else []  # the first one's mark stands before it
    if lines and all(not line.strip() or line.lstrip(" \t")[:1] == ">" for line in lines):
        html = _QUOTED_LINE.sub("", html).strip(BLANK)
    if not html:
        return
    document = is_document(html)
    if region.kind == "open":
        before = before.rstrip(BLANK)
        if before.endswith(CDATA):
            html = html.removesuffix("]]>").rstrip(BLANK)
        elif before.endswith('"'):
            html = _STRING_ENDS.sub("", html).rstrip(BLANK)
        code = _code_around(text[max(answer.began, region.start - 4000) : region.start].rstrip(), html, document)
        alone = region.alone and answer.began == 0 and not text[: region.start].strip(BLANK)
        raw = alone and not text[region.end :].strip(BLANK)
        found = Found(html, "raw" if raw else "wrapped", region.html_end is not None, code)
        yield _Candidate(_strength(html, document, 2.5 if region.alone else 2.0, fragment), found)
        return
    language = region.language
    if language == "json" or (not language and _JSON.match(html)):
        yield from _in_json(html, fragment, cut)
        return
    complete = region.closed or region.html_end is not None
    begins = html[:1] == "<" and (ANY_TAG.match(html) is not None or html[1:2] in ("!", "?"))
    code = code_kind(html, language, document=document)
    if code:
        yield _Candidate(0.5, Found(code=code))
    elif language in HTML_LANGUAGES or begins:
        labelled = 2.5 if language in HTML_LANGUAGES else 2.2
        yield _Candidate(_strength(html, document, labelled, fragment), Found(html, "fenced", complete))
    else:
        inner = _inner(html, language)
        if inner is not None:
            yield _Candidate(1.5, replace(inner, complete=inner.complete or region.closed))


def _strength(html: str, document: bool, otherwise: float, fragment: bool) -> float:
    """How much a part of an answer is the page: a document most, what belongs into a head least."""
    if document:
        return otherwise if fragment else _DOCUMENT
    return 1.0 if _HEAD_ONLY.fullmatch(html[:20_000]) is not None else otherwise


def _inner(code: str, language: str) -> Found | None:
    """The page within code of another language, as in a heredoc or a long string."""
    if language in _SCRIPTS:
        return None
    markup = Markup(code, final=True)
    start = markup.next(_INNER_DOCUMENT, 0)
    if start is not None:
        region = open_page(markup, start.end() - len(start[0].lstrip(" \t\"'(`\n")), frozenset(), cut=False)
        if region.html_end is not None:
            return Found(code[region.start : region.end].strip(BLANK), "wrapped", True)
    if language in ("", "text", "txt", "plaintext", "plain", "markup", "xml", "svg", "code"):
        line = _LINE_WITH_TAG.search(code)
        if line is not None:
            return Found(code[line.start() :].strip(BLANK), "wrapped")
    return None


def _code_around(before: str, html: str, document: bool) -> str:
    """What HTML in the open is where it stands within a component's code."""
    if _RETURNED.search(before[-40:]) is not None:
        return code_kind(before.lstrip() + html, "", document=False) or "React"
    return code_kind(html, "", document=document)


def _json_around(answer: AnswerReader) -> int | None:
    """Where a JSON text begins, behind prose or a mark, in a string of which the first HTML in the open stands."""
    first = answer.regions[0] if answer.regions else None
    if first is None or first.kind != "open":
        return None
    json_text = _JSON_BEHIND_PROSE.search(answer.text, answer.began, first.start)
    if json_text is None:
        return None
    quotes = _QUOTE.findall(answer.text[json_text.start() : first.start])
    return json_text.start() if quotes.count('"') % 2 else None


def _in_json(text: str, fragment: bool, cut: bool) -> Iterator[_Candidate]:
    """The pages in the strings of a JSON text."""
    for number, match in enumerate(_STRING.finditer(text)):
        if number > 2000:
            return
        if "<" not in match[1] or _BEHIND_STRING.match(text, match.end()) is None:
            continue
        inside = _LAST_ESCAPE.sub("", match[1]) if not match[2] else match[1]
        try:
            value = json.loads(f'"{inside}"', strict=False)
        except ValueError:
            continue
        if not value.lstrip().startswith(("<", "```")):
            continue
        found = find_page(value, fragment=fragment, cut=cut and not match[2])
        if found.html:
            strength = _strength(found.html, is_document(found.html), 2.0, fragment)
            yield _Candidate(strength, replace(found, kind="wrapped", complete=found.complete or bool(match[2])))
