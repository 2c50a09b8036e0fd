"""Makes what models, files and users wrote harmless: in a terminal, in a script element, in markup, in a table."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# C0 and C1 controls (ESC and CSI among them), bidirectional overrides and isolates, zero-width characters, line and
# paragraph separators, lone surrogates, tags: what moves a cursor, hides text or turns its order around.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SPACE = re.compile(r"\s+")


def one_line(value: object, limit: int = 0) -> str:
    """Return `value` as one line of visible text without control, bidirectional or zero-width characters.

    White space runs become one space; with `limit` > 0 the text is cut to that many characters, "..." included.
    """
    text = _UNSEEN.sub("", _SPACE.sub(" ", str(value))).strip()
    if limit and len(text) > limit:
        return text[: max(0, limit - 3)].rstrip() + "..."
    return text


def encodable(text: str, encoding: str) -> str:
    """Return `text` with what `encoding` cannot hold replaced, so that an old console prints it instead of failing."""
    return text.encode(encoding, "replace").decode(encoding, "replace")


def script_json(value: Any) -> str:
    """Return JSON that may stand inside a script element: ASCII only, with `<`, `>` and `&` as escapes.

    Numbers that JSON does not know (NaN, infinities) become null.
    """
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def latex(value: object) -> str:
    """Return `value` as one line of LaTeX text in which no character commands anything."""
    return "".join(_LATEX.get(character, character) for character in one_line(value))


def markdown(value: object) -> str:
    """Return `value` as one line of Markdown table text: no links, no markup, no HTML, no further cell."""
    text = re.sub(r"([\\`*_{}\[\]()#+\-!|~:@$])", r"\\\1", one_line(value))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def spreadsheet(value: object) -> object:
    """Return a CSV cell that no spreadsheet takes for a formula: such texts get a leading apostrophe."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return value
