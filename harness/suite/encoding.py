"""Turns the bytes of a data file into text: UTF-8, UTF-16 and UTF-32, else Windows-1252 where it can be that."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from harness.errors import UsageError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 4096
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_WORD = re.compile(r"\w*[^\x00-\x7f]\w*")


def read_text(path: Path) -> tuple[str, str]:
    """Return the text of a file without its byte order mark, and a note where it had to be converted (else "").

    A file that is not Unicode is taken for Windows-1252 only where it can be that: every byte is assigned, non-ASCII
    bytes stand alone or in pairs as in Western words, and none of them form UTF-8 (a damaged UTF-8 file has many).

    Raises:
        UsageError: the file is of another encoding or damaged; the message names the line.
    """
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _utf16_without_mark(content)
    if encoding is not None:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            raise _not_utf8(path, content, error.start) from None
        return text, "" if encoding == "utf-8-sig" else f"{path.name}: {encoding[:6].upper()}, converted"
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        if not _can_be_western(content):
            raise _not_utf8(path, content, error.start) from None
    text = content.decode("cp1252")
    words = list(dict.fromkeys(_WORD.findall(text)))[:3]
    return text, f"{path.name}: not UTF-8; read as Windows-1252, with words such as {', '.join(words)}"


def _utf16_without_mark(content: bytes) -> str | None:
    """Every other byte of mostly ASCII text is zero."""
    sample = content[:_SAMPLE]
    if len(sample) < 4 or len(content) % 2:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if 10 * odd > 4 * len(sample) and even == 0:
        return "utf-16-le"
    return "utf-16-be" if 10 * even > 4 * len(sample) and odd == 0 else None


def _can_be_western(content: bytes) -> bool:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return False
    if re.search(rb"[\x00-\x08\x0e-\x1f]", content):
        return False
    runs = _HIGH_RUN.findall(content)
    if any(_is_utf8(run) for run in runs):
        return False
    return 4 * sum(len(run) > 2 for run in runs) <= len(runs)


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(path: Path, content: bytes, position: int) -> UsageError:
    line = content.count(b"\n", 0, position) + 1
    return UsageError(f"{path} is not UTF-8 text (line {line})", "save it as UTF-8")
