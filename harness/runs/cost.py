"""What a model's answers took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.types import Row


def answering_cost(rows: Iterable[Row], peak_memory_bytes: int | None) -> dict[str, Any]:
    """Return what one model's rows took; tokens a second are those of one process at a time."""
    timings = [row["timing"] for row in rows]
    seconds = sum(timing["generate_s"] for timing in timings)
    tokens = sum(timing["completion_tokens"] for timing in timings)
    return {
        "seconds": round(seconds, 3),
        "completion_tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1) if seconds else None,
        "peak_memory_bytes": peak_memory_bytes,
    }
