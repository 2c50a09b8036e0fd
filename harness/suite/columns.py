"""Guesses what foreign data hold: which column is the prompt, and what the references are like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError

PROMPTS = ("prompt", "instruction", "instructions", "question", "query", "request", "task", "user", "title")
INPUTS = ("input", "context", "given", "before", "page")
REFERENCES = (
    "reference",
    "output",
    "response",
    "completion",
    "html",
    "answer",
    "solution",
    "target",
    "assistant",
    "code",
)

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_SAMPLE = 200
"""Rows read; a column's nature shows in the first few."""


def guess_columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]], place: str) -> dict[str, str]:
    """Return the columns of `prompt`, `reference` and, where there is one, `input`.

    Names decide; where they say nothing, the reference is the column with most HTML, and the prompt the one text
    column that is left.

    Raises:
        UsageError: prompt or reference cannot be told.
    """
    rows = rows[:_SAMPLE]
    texts = [name for name in names if not rows or any(isinstance(row.get(name), str) for row in rows)]
    reference = _named(texts, REFERENCES) or _most_html(texts, rows)
    others = [name for name in texts if name != reference]
    prompt = _named(others, PROMPTS)
    given = _named([name for name in others if name != prompt], INPUTS)
    if prompt is None:
        left = [name for name in others if name != given and not _known(name)]
        prompt = left[0] if len(left) == 1 else None
    for what, column in (("prompt", prompt), ("reference answer", reference)):
        if column is None:
            raise UsageError(
                f"{place}: no column can be taken for the {what}; it has {', '.join(names) or 'none'}",
                "call two of them 'prompt' and 'reference'",
            )
    assert prompt is not None and reference is not None
    return {"prompt": prompt, **({"input": given} if given else {}), "reference": reference}


def guess_form(references: Sequence[str]) -> tuple[str, list[str]]:
    """Return `scope`, and what to `ignore` because most of the references lack it too."""
    documents = [text for text in references if re.search(r"<(?:!doctype|html|head|body)\b", text, re.IGNORECASE)]
    if 2 * len(documents) < len(references):
        return "fragment", []
    marks = {"missing-doctype": r"<!doctype", "missing-title": r"<title\b"}
    lacking = {
        fault: sum(re.search(mark, text, re.IGNORECASE) is None for text in documents) for fault, mark in marks.items()
    }
    return "document", [fault for fault, count in lacking.items() if 2 * count > len(documents)]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_plain = {_plain(name): name for name in reversed(names)}
    return next((by_plain[word] for word in wanted if word in by_plain), None)


def _known(name: str) -> bool:
    return name in ("id", "category", "difficulty", "checks", "scope")


def _most_html(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    shares = {name: sum(bool(_TAG.search(str(row.get(name) or ""))) for row in rows) for name in names}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and 2 * shares[best] > len(rows) else None
