"""A conforming document around a fragment, so that a `<form>` is not punished for a missing doctype."""

from __future__ import annotations

import re

from harness.types import Scope

_HEAD = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Fragment</title>'
# Atomic and possessive: a row of comments could be read in exponentially many ways.
_COMMENTS = r"\s*+(?:(?><!--.*?-->)\s*+)*+"
_DOCUMENT_TAG = re.compile(rf"{_COMMENTS}<(?:!doctype|html|head|body|frameset)\b", re.IGNORECASE | re.DOTALL)
FIRST_TAG = re.compile(rf"{_COMMENTS}<([a-z][a-z0-9-]*)", re.IGNORECASE | re.DOTALL)
"""The first tag's name, after white space and comments."""
_AROUND: dict[str, tuple[str, str]] = {
    "tr": ("<table><tbody>", "</tbody></table>"),
    "td": ("<table><tbody><tr>", "</tr></tbody></table>"),
    "li": ("<ul>", "</ul>"),
    "option": ("<label>Choice <select>", "</select></label>"),
    "dt": ("<dl>", "</dl>"),
    "col": ("<table><colgroup>", "</colgroup></table>"),
    "thead": ("<table>", "</table>"),
    "legend": ("<fieldset>", "</fieldset>"),
    "summary": ("<details>", "</details>"),
    "figcaption": ("<figure>", "</figure>"),
}
for _same, _as in {"th": "td", "optgroup": "option", "dd": "dt"}.items():
    _AROUND[_same] = _AROUND[_as]
for _same in ("tbody", "tfoot", "caption", "colgroup"):
    _AROUND[_same] = _AROUND["thead"]
_METADATA = frozenset({"meta", "link", "base", "title"})


def as_document(html: str, scope: Scope) -> tuple[str, int]:
    """Return a document to check and how many lines were put before the author's first.

    A document is returned as it is, and so is a fragment that the author wrote as one. The wrapper fits what the
    fragment begins with: table rows get a table, list items a list, metadata a head.
    """
    if scope == "document" or _DOCUMENT_TAG.match(html):
        return html, 0
    first = FIRST_TAG.match(html)
    name = first[1].lower() if first else ""
    if name in _METADATA:
        head = _HEAD.replace("<title>Fragment</title>", "") if re.search(r"<title\b", html, re.IGNORECASE) else _HEAD
        return f"{head}\n{html}\n</head><body><p>Body.</p></body></html>", 1
    before, after = _AROUND.get(name, ("", ""))
    return f"{_HEAD}</head><body>{before}\n{html}\n{after}</body></html>", 1
