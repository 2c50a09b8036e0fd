"""Guesses what foreign data hold: which column is the prompt, and what the references are like."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from harness.errors import UsageError, did_you_mean

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

_REJECTED = frozenset({"rejected", "reject", "dispreferred", "loser", "worse", "worst", "bad", "wrong", "negative"})
_GIVEN = frozenset({"before", "original", "old", "initial", "input", "given", "source", "broken"})
"""Words in the names of columns that hold an answer nobody wants; that hold the page to be changed."""
_ANSWERS = frozenset(REFERENCES) - {"html", "code"}
"""Words in the names of columns that hold answers: an `original_response` in the prompt would give the answer away."""

_TAG = re.compile(r"<[a-zA-Z!][^<>]*>")
_PAGE = re.compile(r"\s*(?:```\w*\s*)?<[a-zA-Z!]|.*</\w+\s*>.*</\w+\s*>", re.DOTALL)
"""HTML, with words around it or without; a request may name a tag or two."""
_IDENTIFIER = re.compile(r"[!-;=-~]{1,80}")
"""One word of ASCII: an id, a date, a number, an address. A page has tags, scripts without spaces other letters."""
_SAMPLE = 200
"""Rows looked at, spread over the file."""
_MUCH_LONGER = 2.0

FIELDS = ("prompt", "input", "reference")
"""What a column can be taken for."""


def guess_columns(
    names: Sequence[str],
    rows: Sequence[Mapping[str, JsonValue]],
    place: str,
    told: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the columns of `prompt`, `reference` and, where there is one, `input` ("": a column is only called so).

    Values come before names: the reference is a column whose values are HTML where there is one, and no column of ids
    is taken for prompt or input. Among columns that do, names decide; where they say nothing, the prompt is the column
    of prose that is left, or of several one that is twice as long as each other. Where every row has one prompt, such
    as "Write HTML", the prose that is left is the input.

    Args:
        names: The columns.
        rows: Their values; of none, names alone decide.
        place: Whose columns they are, for messages.
        told: Columns that are not to be guessed, by `prompt`, `input` (may be "") or `reference`.

    Raises:
        UsageError: prompt or reference cannot be told.
    """
    found = dict(told or {})
    left = [name for name in names if name not in found.values()]
    texts = [name for name in left if not rows or any(_is_text(row.get(name)) for row in rows)]
    values = {name: _values(name, rows) for name in texts}
    if "reference" not in found and (reference := _reference(texts, values)):
        found["reference"] = reference
    texts = [name for name in texts if name != found.get("reference")]
    others = [name for name in texts if not _mostly(_IDENTIFIER.fullmatch, values[name])]
    if "prompt" not in found and (prompt := _prompt(others, values) or _named(texts, PROMPTS)):
        found["prompt"] = prompt
    for what, column in (("prompt", "prompt"), ("reference answer", "reference")):
        if column not in found:
            raise UsageError(
                f"{place}: no column can be taken for the {what}; it has {', '.join(names) or 'none'}",
                f"name it: --columns {column}=COLUMN",
            )
    if "input" not in found:
        given = _input([name for name in others if name != found["prompt"]], values, found["prompt"], rows)
        if given is not None:
            found["input"] = given
        elif "input" not in found.values() and any(row.get("input") for row in rows):
            found["input"] = ""  # such as ids: not to be taken for a page because of its name
    return {what: found[what] for what in FIELDS if what in found}


def told_columns(text: str) -> dict[str, str]:
    """Return the columns that `prompt=COLUMN,reference=COLUMN,input=COLUMN` names, each of which may be left out.

    Raises:
        UsageError: it has another form.
    """
    found: dict[str, str] = {}
    for word in re.split(r",(?=\s*\w+\s*=)", text):
        what, equals, column = (part.strip() for part in word.partition("="))
        if not equals:
            raise UsageError(
                f"--columns {text} is not NAME=COLUMN", "for example prompt=question,reference=answer.html"
            )
        if what not in FIELDS:
            raise UsageError(f"--columns: a task has no '{what}'", did_you_mean(what, FIELDS))
        if not column and what != "input":
            raise UsageError(f"--columns: no column is named for {what}", "only input= may be empty")
        found[what] = column
    return found


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
    """The column of HTML: the one named so, else the one that holds most; without any, the text that is named so.

    HTML that is named as something else is taken unless a column of prose each is named as request and as answer;
    answers that were rejected never are, and the page to be changed only where there is no other.
    """
    names = [name for name in names if not _REJECTED & _words(name)]
    pages = [name for name in names if _mostly(_PAGE.match, values[name])]
    prose = [name for name in names if name not in pages and not _mostly(_IDENTIFIER.fullmatch, values[name])]
    tagged = pages or [name for name in prose if _mostly(_TAG.search, values[name])]
    unnamed = [name for name in tagged if not _is_named(name, (*PROMPTS, *INPUTS, *_OTHERS))]
    changed = [name for name in unnamed if not _GIVEN & _words(name)]
    if found := _named(tagged, REFERENCES) or _longest(changed or unnamed, values):
        return found
    answered = _named(prose, REFERENCES)
    if not pages or (answered and any(_is_named(name, (*PROMPTS, *VAGUE_PROMPTS)) for name in prose)):
        return answered or _named(tagged, INPUTS)
    return _longest(pages, values)


def _prompt(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> str | None:
    """The column named so, unless the name is vague and another one holds much longer prose."""
    if named := _named(names, PROMPTS):
        return named
    left = [name for name in names if not _is_named(name, (*INPUTS, *_OTHERS))]
    prose = [name for name in left if not _mostly(_PAGE.match, values[name])] or left
    return _outstanding(prose, values) or _named(prose, VAGUE_PROMPTS) or (None if prose else _named(names, INPUTS))


def _input(
    names: Sequence[str], values: Mapping[str, Sequence[str]], prompt: str, rows: Sequence[Mapping[str, JsonValue]]
) -> str | None:
    """The column named so, of pages also in part; where all rows have one prompt, the prose that tells them apart."""
    if named := _named(names, INPUTS):
        return named
    given = [name for name in names if _GIVEN & _words(name) and not _ANSWERS & _words(name)]
    pages = [name for name in given if _mostly(_PAGE.match, values[name])]
    if len(pages) == 1:
        return pages[0]
    if len(rows) < 2 or len({str(row.get(prompt)) for row in rows}) > 1:
        return None
    left = [name for name in names if not _is_named(name, _OTHERS) and len(set(values[name])) > 1]
    return _outstanding(left, values) or _named(left, VAGUE_PROMPTS)


def _outstanding(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> str | None:
    """The only column, or the one whose texts are much longer than those of each other."""
    lengths = sorted((_mean_length(values[name]), -index, name) for index, name in enumerate(names))
    if len(lengths) == 1 or (len(lengths) > 1 and lengths[-1][0] > _MUCH_LONGER * lengths[-2][0]):
        return lengths[-1][2]
    return None


def _longest(names: Sequence[str], values: Mapping[str, Sequence[str]]) -> str | None:
    return max(names, key=lambda name: _mean_length(values[name]), default=None)


def _is_text(value: JsonValue) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _values(name: str, rows: Sequence[Mapping[str, JsonValue]]) -> list[str]:
    found = [text.strip() for row in rows if isinstance(text := row.get(name), str) and text.strip()]
    return found[:: max(1, len(found) // _SAMPLE)]


def _mostly(is_so: Callable[[str], re.Match[str] | None], values: Sequence[str]) -> bool:
    return 2 * sum(is_so(value) is not None for value in values) > len(values)


def _mean_length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / len(values) if values else 0.0


def _words(name: str) -> set[str]:
    """The words of a column's name: of `answerRejected_2`, answer and rejected."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of the wanted words that is a column's name, or the last part of its path."""
    by_part = {_plain(name.rpartition(".")[2]): name for name in reversed(names)}
    by_plain = by_part | {_plain(name): name for name in reversed(names)}
    return next((by_plain[word] for word in wanted if word in by_plain), None)


def _is_named(name: str, words: Sequence[str]) -> bool:
    return any(_plain(part) in words for part in (name, *name.split(".")))
