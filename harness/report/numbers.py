"""How numbers are written: one way for the terminal, the page, the exports."""

from __future__ import annotations

from typing import Literal

from harness.runs.record import Interval
from harness.types import Scale

MINUS = "−"
Way = Literal["better", "worse", "open"]
"""What the interval of a difference says; "open" where it holds zero or is absent."""


def factor(scale: Scale) -> float:
    """100 for metrics between 0 and 1, which are shown in percent; 1 for those that already run to 100."""
    return 1.0 if scale == "percent" else 100.0


def mean(value: float | None, scale: Scale) -> str:
    """A mean in percent or points, one decimal; an en dash where nothing was measured."""
    return "–" if value is None else f"{value * factor(scale):.1f}".replace("-", MINUS)


def signed(value: float | None, scale: Scale) -> str:
    """A difference with its sign, one decimal, in percentage points or points."""
    if value is None:
        return "–"
    text = f"{value * factor(scale):+.1f}"
    return ("0.0" if float(text) == 0 else text).replace("-", MINUS)


def interval(estimate: Interval | None, scale: Scale, *, sign: bool = False) -> str:
    """A 95 % interval as "low to high"; empty where there is none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    write = signed if sign else mean
    return f"{write(estimate.low, scale)} to {write(estimate.high, scale)}"


def p_value(value: float | None) -> str:
    """A p-value as papers write it: three decimals, never 0."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def direction(estimate: Interval, nothing: float = 0.0) -> Way:
    """What an interval says against `nothing`: 0 for a difference, 0.5 for a share that a coin would give."""
    if estimate.low is None or estimate.high is None or estimate.low <= nothing <= estimate.high:
        return "open"
    return "better" if estimate.low > nothing else "worse"


def seconds(value: float | None) -> str:
    """A duration for reading: 0.4 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(value: float | None) -> str:
    """Bytes for reading, in binary units."""
    if value is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit in ("B", "KiB", "MiB") else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands; a decimal below 100 keeps one place."""
    if value is None:
        return "–"
    return f"{value:,.0f}".replace(",", "\u202f") if value >= 100 or value == int(value) else f"{value:.1f}"
