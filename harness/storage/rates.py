"""How fast kinds of work go on this machine, remembered from run to run in the cache."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.storage.atomic import write_atomically
from harness.storage.cache import cache_folder, content_key
from harness.storage.lock import one_at_a_time

_FADING = 0.5
"""What was measured before counts half beside the newest, for machine and code change, and a tiny run says little."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Work that was done and what it took, older measurements with less weight."""

    units: float
    seconds: float


_RATES = TypeAdapter(dict[str, Rate])


class Rates:
    """The rates of one machine by kind of work; a file that cannot be read counts as none.

    Args:
        machine: What decides how fast it is, such as its processor: the cache may be shared with other machines.
    """

    def __init__(self, machine: Mapping[str, object]) -> None:
        self.path: Path = cache_folder("rates") / f"{content_key(machine)[:32]}.json"
        self._known = self._read()

    def seconds(self, kind: str, units: float) -> float | None:
        """Return how many seconds so much of a kind of work takes; None where none of it was measured."""
        rate = self._known.get(kind)
        return None if rate is None else units * rate.seconds / rate.units

    def remember(self, kind: str, units: float, seconds: float) -> None:
        """Remember what so much of a kind of work took; a full or read-only disk forgets it and stops nothing."""
        if units <= 0:
            return
        with contextlib.suppress(OSError), one_at_a_time(self.path.with_name(f"{self.path.name}.lock")):
            self._known = self._read()
            old = self._known.get(kind, Rate(0.0, 0.0))
            self._known[kind] = Rate(_FADING * old.units + units, _FADING * old.seconds + seconds)
            write_atomically(
                self.path, json.dumps({name: asdict(rate) for name, rate in self._known.items()}, indent=1)
            )

    def _read(self) -> dict[str, Rate]:
        try:
            found = _RATES.validate_json(self.path.read_bytes())
        except (OSError, ValidationError):
            return {}
        return {kind: rate for kind, rate in found.items() if rate.units > 0 and rate.seconds >= 0}
