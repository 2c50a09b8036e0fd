"""The document around a fragment: what it cannot stand without, so that nothing of ours is held against its author.

A fragment is parsed where it would stand: table rows in a table, options in a select, shapes in an SVG image, and
metadata at its beginning in a head. Parsers and similarity measures (`bare`), the Nu Html Checker and the browser
(`wrap`) all get the same surroundings; the latter two with what a conforming document needs besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.types import Scope

# Atomic and possessive: a row of comments could be read in exponentially many ways.
_COMMENTS = r"\s*+(?:(?><!--.*?-->)\s*+)*+"
FIRST_TAG = re.compile(rf"{_COMMENTS}<([a-z][a-z0-9-]*)", re.IGNORECASE | re.DOTALL)
"""The first tag's name, after white space and comments."""
_DOCUMENT = re.compile(rf"{_COMMENTS}<(?:!doctype|html|frameset)\b", re.IGNORECASE | re.DOTALL)
_ATTRIBUTES = r"""\b(?>[^>"']++|"[^"]*+"|'[^']*+')*+>"""
_METADATA = re.compile(
    rf"(?:{_COMMENTS}<(?:(?:meta|link|base){_ATTRIBUTES}|(?P<raw>title|style){_ATTRIBUTES}(?>.*?</(?P=raw)\s*+>)))++",
    re.IGNORECASE | re.DOTALL,
)
"""Elements at a fragment's beginning that a parser puts into the head. Scripts stay with what they work on."""
_TITLE = re.compile(r"<title\b", re.IGNORECASE)
_CELL = re.compile(r"<t[dh]\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Context:
    """Where a fragment stands."""

    path: tuple[str, ...]
    """The elements around it, outermost first."""
    before: str = ""
    """The same with what conformance asks for beside them; empty where nothing is."""
    after: str = ""


def _in(*path: str) -> _Context:
    return _Context(path)


_DRAWING = '<svg width="100%" height="600">'
_CONTEXTS: dict[str, _Context] = {
    "tr caption colgroup col thead tbody tfoot": _in("table"),
    "td th": _in("table", "tbody", "tr"),
    "li": _in("ul"),
    "dt": _in("dl"),
    "dd": _Context(("dl",), "<dl><dt hidden>Term</dt>", "</dl>"),
    "option optgroup": _Context(("select",), '<select aria-label="Choice">', "</select>"),
    "legend": _in("fieldset"),
    "summary": _Context(("details",), "<details open>", "</details>"),
    "figcaption": _in("figure"),
    "rt rp rb rtc": _Context(("ruby",), "<ruby>\u5b57", "</ruby>"),
    "source track": _Context(("video",), "<video controls>", "</video>"),
    "area": _Context(("map",), '<map name="map">', "</map>"),
    "param": _Context(("object",), '<object data="#" title="Object">', "</object>"),
    (
        "circle clippath defs ellipse filter foreignobject g line lineargradient marker mask path pattern polygon "
        "polyline radialgradient rect symbol text use view animate animatemotion animatetransform set"
    ): _Context(("svg",), _DRAWING, "</svg>"),
    "tspan textpath": _Context(("svg", "text"), f'{_DRAWING}<text y="20">', "</text></svg>"),
    "stop": _Context(("svg", "lineargradient"), f"{_DRAWING}<linearGradient>", "</linearGradient></svg>"),
    (
        "feblend fecolormatrix fecomponenttransfer fecomposite feconvolvematrix fediffuselighting fedisplacementmap "
        "fedropshadow feflood fegaussianblur feimage femerge femorphology feoffset fespecularlighting fetile "
        "feturbulence"
    ): _Context(("svg", "filter"), f"{_DRAWING}<filter>", "</filter></svg>"),
    (
        "mi mn mo ms mtext mrow mfrac msqrt mroot mstyle merror mpadded mphantom msub msup msubsup munder mover "
        "munderover mmultiscripts mtable mspace semantics"
    ): _in("math"),
    "mtr": _in("math", "mtable"),
    "mtd": _in("math", "mtable", "mtr"),
}
_CONTEXT_OF = {name: context for names, context in _CONTEXTS.items() for name in names.split()}
_NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
_PICTURE = _Context(("picture",), "<picture>", f'<img alt="" src="{_NO_PICTURE}"></picture>')
_SOURCE_OF_A_PICTURE = re.compile(rf"{_COMMENTS}<source\b[^>]*\bsrcset\b", re.IGNORECASE | re.DOTALL)
FOREIGN = frozenset({"svg", "math"})
"""Contexts whose elements are not HTML's own."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A document to check."""

    html: str
    offset: int = 0
    """Lines put before the author's first."""
    path: tuple[str, ...] = ()
    """The elements that stand around the author's, outermost first, beside html, head and body."""
    own: bool = True
    """Whether the author wrote the document."""
    cells: bool = True
    """Whether the author wrote table cells."""

    def excuses(self, error: str) -> bool:
        """Whether an error that Nu tells is of our making: what a fragment lacks because it is one."""
        if self.own:
            return False
        return "missing a required instance of child element \u201ctitle\u201d" in error or (
            not self.cells and "established by element" in error
        )


def wrap(html: str, scope: Scope) -> Wrapped:
    """Return the document for the Nu Html Checker and the browser.

    A document is returned as it is, and so is a fragment that the author wrote as one.
    """
    return _wrap(html, scope, filled=True)


def bare(html: str, scope: Scope) -> Wrapped:
    """Return the document for parsers: `wrap` without text, titles and attributes of ours, and equal in its lines."""
    return _wrap(html, scope, filled=False)


def as_document(html: str, scope: Scope) -> tuple[str, int]:
    """Return `wrap`'s document and how many lines were put before the author's first."""
    wrapped = wrap(html, scope)
    return wrapped.html, wrapped.offset


def _wrap(html: str, scope: Scope, filled: bool) -> Wrapped:
    if scope == "document" or _DOCUMENT.match(html):
        return Wrapped(html)
    start = '<!DOCTYPE html><html lang="en">' if filled else "<!DOCTYPE html><html>"
    name = _first_name(html)
    if name == "head":
        return Wrapped(f"{start}\n{html}\n</html>", 1, own=False)
    if name == "body":
        title = "<head><title>Fragment</title></head>" if filled else ""
        return Wrapped(f"{start}{title}\n{html}\n</html>", 1, own=False)
    metadata = _METADATA.match(html)
    head, rest = (metadata[0], html[metadata.end() :]) if metadata else ("", html)
    context = _context(rest)
    before = "".join(f"<{element}>" for element in context.path)
    after = "".join(f"</{element}>" for element in reversed(context.path))
    if filled and context.before:
        before, after = context.before, context.after
    title = "<title>Fragment</title>" if filled and not _TITLE.search(head) else ""
    # Whatever comes first of the author's begins the second line.
    between = f"\n{head}</head><body>{before}" if head else f"</head><body>{before}\n"
    document = f"{start}<head>{title}{between}{rest}\n{after}</body></html>"
    return Wrapped(document, 1, context.path, own=False, cells=bool(_CELL.search(html)))


def _first_name(html: str) -> str:
    first = FIRST_TAG.match(html)
    return first[1].lower() if first else ""


def _context(html: str) -> _Context:
    if _SOURCE_OF_A_PICTURE.match(html):
        return _PICTURE
    return _CONTEXT_OF.get(_first_name(html), _Context(()))
