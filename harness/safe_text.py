"""Makes what models, files and users wrote harmless: in a terminal, in a script element, in markup, in a table."""

from __future__ import annotations

import json
import math
import re

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


def script_json(value: object) -> str:
    """Return JSON that may stand inside a script element: ASCII only, with `<`, `>` and `&` as escapes.

    Numbers that JSON does not know (NaN, infinities) become null.
    """
    text = json.dumps(_finite(value), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: object) -> object:
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
    # the character by its number: \textquotedbl is not there in LaTeX's own font encoding, and babel makes " a command
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "'": r"{'}",  # so that two of them stay two
    "−": "$-$",
    "Δ": r"$\Delta$",
    "★": r"$\star$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\to$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "\u202f": r"\,",
    "\u00a0": "~",
    "…": r"\ldots{}",
}
_LATEX_KNOWS = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßŒœŠšŽžČčŘřĚěŁłŃńŐőŰűŞşĞğ¡¿§©–—‘’“”·"
)
"""Letters and signs beyond ASCII that pdfLaTeX has in its own font encoding, without any package."""

LATEX_PREAMBLE = (
    "% \\harnesschar shows a letter as far as the engine has it: XeLaTeX and LuaLaTeX where the font does, pdfLaTeX "
    "its number\n"
    '\\providecommand{\\harnesschar}[2]{\\ifdefined\\Umathcode\\iffontchar\\font"#2 #1\\else[U+#2]\\penalty0\\fi'
    "\\else[U+#2]\\penalty0\\fi}"
)
"""Defines what `latex` uses for letters that not every LaTeX can set; to stand once before its text."""


def latex(value: object) -> str:
    """Return `value` as one line of LaTeX text in which no character commands anything, and none stops a compilation.

    Letters beyond what every LaTeX can set go through the command that `LATEX_PREAMBLE` defines.
    """
    return "".join(_latex_letter(character) for character in one_line(value))


def _latex_letter(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii() or character in _LATEX_KNOWS:
        return character
    return rf"\harnesschar{{{character}}}{{{ord(character):04X}}}"


_BREAK = "\u200b"
_MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]()#+\-!|~:@$])")
_REFERENCES = re.compile(
    r"""
    (?P<sign>[@#!%$&~^](?=[\w"]))           # @name, #12, GitLab's !12, %12, $12, &12, ~label
    | (?P<scheme>[a-z][a-z0-9+.-]*:(?=//))  # https://
    | (?P<www>\bwww(?=\.))
    | (?P<domain>(?<=\w)\.(?=[^\W\d_]))     # example.com
    | (?P<key>\b[a-z]{2,}-(?=\d))           # GH-12, and the tickets of other trackers
    | (?P<emoji>:(?=[+\w-]+:))              # :name:
    | (?P<commit>\b[0-9a-f]{7,}\b)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_HEX_PIECE = 6
"""Shorter than what a forge takes for a commit, which is seven digits."""


def markdown(value: object) -> str:
    """Return `value` as one line of Markdown table text: no links, no markup, no HTML, no further cell, no mention.

    A forge looks for @names, #numbers, commits and addresses in the text after the Markdown is resolved, where a
    backslash is gone; a space of no width in each of them is still there.
    """
    text = _REFERENCES.sub(_broken, one_line(value))
    text = _MARKDOWN_SIGNS.sub(r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace(_BREAK, "&#8203;")


def _broken(match: re.Match[str]) -> str:
    found = match[0]
    if match["commit"] is None:
        return found + _BREAK
    return _BREAK.join(found[start : start + _HEX_PIECE] for start in range(0, len(found), _HEX_PIECE))


EXCEL_CELL = 32_767
"""The most characters that a cell of Excel holds, in UTF-16 units; what is longer is broken apart or refused."""
_FORMULA = re.compile(r"[\s\x00-\x20\ufeff\u200b]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\x00]")
_NO_CSV = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def spreadsheet(value: object) -> object:
    """Return a CSV cell that a spreadsheet opens as the text it is.

    A text that it would take for a formula gets a leading apostrophe, characters that no sheet holds (NUL and other
    controls, halves of letters) become U+FFFD, and what is longer than Excel's cells is cut and ends in words that say
    so with its full length.
    """
    if not isinstance(value, str):
        return value
    text = _NO_CSV.sub("\ufffd", value)
    if _FORMULA.match(text):
        text = "'" + text
    if _units(text) <= EXCEL_CELL:
        return text
    cut = f" [cut here: {len(value)} characters, whole in samples.jsonl and in the Parquet export]"
    kept = text.encode("utf-16-le")[: 2 * (EXCEL_CELL - _units(cut))].decode("utf-16-le", "ignore")
    return kept + cut


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
