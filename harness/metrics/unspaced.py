"""Text in scripts that put no spaces between words (scriptio continua): its characters count, where words count else.

Han, Kana, Bopomofo, Thai, Lao, Khmer, Myanmar and their relatives (Unicode's line-breaking class SA). Each run of such
a script is cut by itself, so that a mixed text keeps the words of its other scripts. A character is a grapheme cluster
(UAX #29): a letter with its vowel signs and tone marks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import regex

_LETTER = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\u30FC\uFF70\u3105-\u312F\u31A0-\u31BF"  # the length mark has no script; Bopomofo
    r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Line_Break=SA}]"
)
_INVISIBLE = r"\u200B-\u200D\u2060\uFEFF"
"""Zero-width characters; in Khmer, Lao and Thai some writers mark words by them and others do not."""
_RUN = regex.compile(rf"({_LETTER}(?:{_LETTER}|\p{{M}}|[{_INVISIBLE}])*)")
_ANY = regex.compile(_LETTER)
_HIDDEN = regex.compile(f"[{_INVISIBLE}]")
_CLUSTER = regex.compile(r"\X")


def tokens(text: str, words: Callable[[str], list[str]]) -> list[str]:
    """Return the characters of runs in scripts without spaces, and what `words` makes of the text between them.

    Text of other scripts is left to `words` as a whole. Canonically equal characters (NFC) become equal.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not has_unspaced(text):
        return words(text)
    found: list[str] = []
    for index, part in enumerate(_RUN.split(text)):
        found += characters(part) if index % 2 else words(part)
    return found


def has_unspaced(text: str) -> bool:
    """Return whether any character of the text is of a script without spaces."""
    return not text.isascii() and _ANY.search(text) is not None


def characters(run: str) -> list[str]:
    """Return the grapheme clusters of a run in NFC, zero-width characters left out."""
    visible: list[str] = _CLUSTER.findall(unicodedata.normalize("NFC", _HIDDEN.sub("", run)))
    return visible
