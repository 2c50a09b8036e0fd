"""What a model's answers took."""

from __future__ import annotations

from collections.abc import Iterable

from harness.runs.manifest import Cost, Price
from harness.runs.samples import SampleRecord


def answering_cost(rows: Iterable[SampleRecord], peak_memory_bytes: int | None, price: Price | None = None) -> Cost:
    """Return what one model's rows took; tokens a second are those of one process at a time."""
    timings = [row.timing for row in rows]
    seconds = sum(timing.generate_s for timing in timings)
    tokens = sum(timing.completion_tokens for timing in timings)
    return Cost(
        seconds=round(seconds, 3),
        completion_tokens=tokens,
        tokens_per_second=round(tokens / seconds, 1) if seconds else None,
        peak_memory_bytes=peak_memory_bytes,
        price=price,
    )
