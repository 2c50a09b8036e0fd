"""Guesses what foreign data hold: which column is the prompt, and what the references are like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError

PROMPTS = ("prompt", "instruction", "instructions", "question", "query", "request", "userprompt")
VAGUE_PROMPTS = ("task", "user", "human", "title", "text", "description")
"""Names of prompts that as often hold something else, such as who asked: a column of longer prose comes before them."""
INPUTS = ("input", "context", "given", "before", "page")
REFERENCES = (
    "reference",
    "output",
    "response",
    "completion",
    "chosen",
    "html",
    "answer",
    "solution",
    "target",
    "assistant",
    "code",
)
_OTHERS = ("id", "category", "difficulty", "checks", "scope", "rejected", "system", "source", "url", "split", "model")
"""What a column of such a name holds is not what is asked, whatever it looks like."""

_TAG = re.compile(r"<[a-zA-Z!][^<>]*>")
_IDENTIFIER = re.compile(r"[!-;=-~]{1,80}")
"""One word of ASCII: an id, a date, a number, an address. A page has tags, scripts without spaces other letters."""
_SAMPLE = 200
"""Rows looked at, spread over the file."""
_MUCH_LONGER = 2.0


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]], place: str) -> dict[str, str]:
    """Return the columns of `prompt`, `reference` and, where there is one, `input` ("": a column is only called so).

    Values come before names: the reference is a column whose values are HTML where there is one, and no column of ids
    is taken for prompt or input. Among columns that do, names decide; where they say nothing, the prompt is the column
    of prose that is left, or of several one that is twice as long as each other.

    Raises:
        UsageError: prompt or reference cannot be told.
    """
    names = [name for name in names if isinstance(name, str)]
    texts = [name for name in names if not rows or any(_is_text(row.get(name)) for row in rows)]
    values = {name: _values(name, rows) for name in texts}
    reference = _reference(texts, values)
    others = [name for name in texts if name != reference and not _mostly(_IDENTIFIER.fullmatch, values[name])]
    prompt = _prompt(others, values) or _named([name for name in texts if name != reference], PROMPTS)
    given = _named([name for name in others if name != prompt], INPUTS)
    for what, column in (("prompt", prompt), ("reference answer", reference)):
        if column is None:
            raise UsageError(
                f"{place}: no column can be taken for the {what}; it has {', '.join(names) or 'none'}",
                "call two of them 'prompt' and 'reference'",
            )
    assert prompt is not None and reference is not None
    if given is None and "input" not in (prompt, reference) and any(row.get("input") for row in rows):
        given = ""  # such as ids: not to be taken for a page because of its name
    return {"prompt": prompt, **({"input": given} if given is not None else {}), "reference": reference}


def guess_form(references: Sequence[str]) -> tuple[str, list[str]]:
    """Return `scope`, and what to `ignore` because most of the references lack it too."""
    references = [text for text in references if text.strip()]
    documents = [text for text in references if re.search(r"<(?:!doctype|html|head|body)\b", text, re.IGNORECASE)]
    if 2 * len(documents) < len(references):
        return "fragment", []
    marks = {"missing-doctype": r"<!doctype", "missing-title": r"<title\b"}
    lacking = {
        fault: sum(re.search(mark, text, re.IGNORECASE) is None for text in documents) for fault, mark in marks.items()
    }
    return "document", [fault for fault, count in lacking.items() if 2 * count > len(documents)]


def _reference(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> str | None:
    """The column of HTML: the one named so, else the one that holds most; without any, the text that is named so."""
    pages = [name for name in names if _mostly(_TAG.search, values[name])]
    unnamed = [name for name in pages if _plain(name) not in (*PROMPTS, *INPUTS, *_OTHERS)]
    return (
        _named(pages, REFERENCES)
        or max(unnamed, key=lambda name: _mean_length(values[name]), default=None)
        or _named([name for name in names if not _mostly(_IDENTIFIER.fullmatch, values[name])], REFERENCES)
        or _named(pages, INPUTS)
    )


def _prompt(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> str | None:
    """The column named so, unless the name is vague and another one holds much longer prose."""
    if named := _named(names, PROMPTS):
        return named
    left = [name for name in names if _plain(name) not in (*INPUTS, *_OTHERS)]
    prose = [name for name in left if not _mostly(_TAG.search, values[name])] or left
    lengths = sorted((_mean_length(values[name]), -index, name) for index, name in enumerate(prose))
    if len(prose) == 1 or (len(prose) > 1 and lengths[-1][0] > _MUCH_LONGER * lengths[-2][0]):
        return lengths[-1][2]
    return _named(prose, VAGUE_PROMPTS) or (None if prose else _named(names, INPUTS))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _values(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [row[name].strip() for row in rows if _is_text(row.get(name))]
    return found[:: max(1, len(found) // _SAMPLE)]


def _mostly(is_so: Any, values: Sequence[str]) -> bool:
    return 2 * sum(is_so(value) is not None for value in values) > len(values)


def _mean_length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / len(values) if values else 0.0


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_plain = {_plain(name): name for name in reversed(names)}
    return next((by_plain[word] for word in wanted if word in by_plain), None)
