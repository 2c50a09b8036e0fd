"""How fast a server may be asked: so many requests a minute, and none while it wants to be left alone."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class Pace:
    """Lets one request through at a time, `per_minute` of them; None is as many as come."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0
        self._gate = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until the next request may go out; they go in the order in which they came."""
        async with self._gate:
            while (wait := self._free_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._free_at = time.monotonic() + self._interval

    def hold(self, seconds: float) -> None:
        """Let nothing through for so many seconds."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or a date (RFC 9110, 10.2.3); None without."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
