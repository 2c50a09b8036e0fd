"""Reads tables of text (CSV, TSV and their relatives), whose delimiter and quoting are found by trying."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

_USUAL = (",", ";", "\t", "|")
_SPACED_QUOTE = re.compile(r' +".*"', re.DOTALL)
ABSENT = frozenset({"nan", "null", "none", "<na>", "#n/a", "n/a"})
"""What stands, in lower case, in a cell without a value: as pandas, R, SQL and spreadsheets write them."""
_LARGEST_CELL = 2**31 - 1
"""Characters; the csv module's own limit, 131,072, is less than a page with pictures in it."""

Line = tuple[int, list[str]]
"""The number of the line on which a record ends, and its cells."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """A way of quoting cells."""

    quote: str | None = '"'
    """None: quotes mean nothing."""
    spaced: bool = False
    """A space may stand before a quote."""
    backslashes: bool = False
    """A quote within a cell has a backslash before it, instead of being doubled."""


def read_delimited(path: Path, text: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield (line number, row) of a table whose first line names the columns.

    The delimiter is that of a leading `sep=` line, else the one of comma, semicolon, tab and bar (then: any other sign
    of the header) and the quoting with which every line has as many cells as the header, and the header the most.
    Columns without a name (a spreadsheet's empty ones, a data frame's index) are left out; missing cells are None, and
    so are those that say `NaN`, `null`, `None` or `N/A`.

    Raises:
        UsageError: no delimiter fits, a quote is open, or the first line names no columns; the message names the line.
    """
    csv.field_size_limit(_LARGEST_CELL)
    if "\n" not in text:  # lines as an old Macintosh ended them
        text = text.replace("\r", "\n")
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r'"?sep=(.)"?\1*\s*?', first.rstrip("\r"), re.IGNORECASE)
    skipped = 1 if told else 0
    if told:
        text = rest
    header, *records = _records(path, text, told[1] if told else None, skipped) or [(0, [])]
    names = [name.strip() for name in header[1]]
    if any(re.search(r"<[a-zA-Z!]", name) for name in names):
        raise UsageError(f"{path}, line {header[0]} holds a page, not the names of the columns", "put them above it")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path} has two columns called '{twice}'", "rename one")
    for number, cells in records:
        if len(cells) > len(names):
            raise UsageError(
                f"{path}, line {number} has more cells than the header", "quote cells that hold the delimiter"
            )
        if not any(cells):  # what a spreadsheet writes below its last row
            continue
        present = [None if len(cell) < 9 and cell.strip().lower() in ABSENT else cell for cell in cells]
        padded = [*present, *[None] * (len(names) - len(cells))]
        yield number, {name: cell for name, cell in zip(names, padded, strict=True) if name}


def _records(path: Path, text: str, told: str | None, skipped: int) -> list[Line]:
    head = text.lstrip().partition("\n")[0]
    others = [
        sign for sign in dict.fromkeys(head) if not (sign.isalnum() or sign.isspace() or sign in "_-.\"'()[]{}<>/")
    ]
    for delimiters in ((told,),) if told else (_USUAL, tuple(sign for sign in others if sign not in _USUAL)):
        fitting: list[tuple[int, list[Line]]] = []
        for delimiter in (sign for sign in delimiters if sign in head):
            for dialect in _dialects(text, delimiter):
                records = _parsed(text, delimiter, dialect, skipped)
                width = len(records[0][1]) if records else 0
                plain = dialect == _Dialect()
                if plain and any(_SPACED_QUOTE.fullmatch(cell) for _, cells in records for cell in cells):
                    continue  # the quotes are meant as quotes
                if width > 1 and all(len(cells) == width for _, cells in records):
                    fitting.append((width, records))
                    break
        if fitting:
            return max(fitting, key=lambda found: found[0])[1]
    # nothing fits: the fault is told as one of the likeliest delimiter
    delimiter = told or max(_USUAL, key=lambda sign: (head.count(sign), sign == ","))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num + skipped, cells) for cells in reader if cells]
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num + skipped} is not valid CSV: {error}", "fix the quotes"
        ) from None


def _dialects(text: str, delimiter: str) -> Iterator[_Dialect]:
    """The ways of quoting cells that may be meant, the most usual first.

    Double quotes by RFC 4180, with a space before them, with a backslash within; single quotes where no cell begins
    with a double one; none at all in tables of tabs, as IANA's text/tab-separated-values has it.
    """
    yield _Dialect()
    yield _Dialect(spaced=True)
    if '\\"' in text:
        yield _Dialect(backslashes=True)
    begins = rf"(?m)(?:^|{re.escape(delimiter)})"
    if re.search(begins + "'", text) and not re.search(begins + '"', text):
        yield _Dialect(quote="'")
    if delimiter == "\t":
        yield _Dialect(quote=None)


def _parsed(text: str, delimiter: str, dialect: _Dialect, skipped: int) -> list[Line]:
    """Return all records, or none where the text is not of that dialect."""
    if dialect.backslashes:  # the csv module would not be strict about them
        text = re.sub(r'\\(["\\])', lambda found: '""' if found[1] == '"' else "\\", text)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        skipinitialspace=dialect.spaced,
        strict=True,
    )
    records: list[Line] = []
    try:
        for cells in reader:
            if not cells:
                continue
            records.append((reader.line_num + skipped, cells))
            if len(cells) > len(records[0][1]):
                return []
    except csv.Error:
        return []
    return records
