"""How numbers are written: one way for the terminal, the page, the exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.runs.read import as_dict, number

MINUS = "−"


def factor(scale: str) -> float:
    """100 for metrics between 0 and 1, which are shown in percent; 1 for those that already run to 100."""
    return 1.0 if scale == "percent" else 100.0


def mean(value: object, scale: str) -> str:
    """A mean in percent or points, one decimal; an en dash where nothing was measured."""
    found = number(value)
    return "–" if found is None else f"{found * factor(scale):.1f}".replace("-", MINUS)


def signed(value: object, scale: str) -> str:
    """A difference with its sign, one decimal, in percentage points or points."""
    found = number(value)
    if found is None:
        return "–"
    text = f"{found * factor(scale):+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", MINUS)


def interval(estimate: Mapping[str, Any], scale: str, *, sign: bool = False) -> str:
    """A 95 % interval as "low to high"; empty where there is none."""
    low, high = number(estimate.get("low")), number(estimate.get("high"))
    if low is None or high is None:
        return ""
    write = signed if sign else mean
    return f"{write(low, scale)} to {write(high, scale)}"


def p_value(value: object) -> str:
    """A p-value as papers write it: three decimals, never 0."""
    found = number(value)
    if found is None:
        return "–"
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def direction(estimate: object) -> str:
    """What the interval of a difference says: "better", "worse", or "open" where it holds zero or is absent."""
    facts = as_dict(estimate)
    low, high = number(facts.get("low")), number(facts.get("high"))
    if low is None or high is None or low <= 0 <= high:
        return "open"
    return "better" if low > 0 else "worse"


def seconds(value: object) -> str:
    """A duration for reading: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min."""
    found = number(value)
    if found is None:
        return "–"
    if found < 10:
        return f"{found:.1f} s"
    whole = round(found)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(value: object) -> str:
    """Bytes for reading, in binary units."""
    found = number(value)
    if found is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if found < 1024:
            return f"{found:.0f} {unit}" if unit in ("B", "KiB", "MiB") else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.1f} TiB"


def count(value: object) -> str:
    """A whole number with thin spaces between thousands; a decimal below 100 keeps one place."""
    found = number(value)
    if found is None:
        return "–"
    return f"{found:,.0f}".replace(",", "\u202f") if found >= 100 or found == int(found) else f"{found:.1f}"
