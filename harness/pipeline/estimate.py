"""How long a run takes here: by what work of the same kind took on this machine before, else by a short measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from harness.pipeline.ahead import Work
from harness.progress.schedule import Schedule, Step
from harness.runs.environment import hardware
from harness.storage.rates import Rates

_REST = "the rest"
_LISTED = ("training", "answers", "pages", "answers and pages", _REST)
_CACHED = ("training", "answers")
"""Parts of which it is said where all of it is there already."""
_HOURS_FROM = 7200.0
"""Seconds from which on hours are said."""


@dataclass(frozen=True)
class Estimate:
    """What a run has to do, and the pace of this machine.

    Args:
        work: What is to be done.
        rates: What such work took here.
    """

    work: Sequence[Work]
    rates: Rates

    def seconds(self, work: Work) -> float | None:
        """Return how long a piece of work takes; None where that is not known."""
        if not work.units:
            return 0.0
        found = (self.rates.seconds(kind, work.units) for kind in work.kinds)
        seconds = next((seconds for seconds in found if seconds is not None), None)
        return work.effort.seconds() if seconds is None and work.effort is not None else seconds

    def _is_rough(self, work: Work) -> bool:
        """Whether it was never measured itself, so that something like it stands for it."""
        return work.units > 0 and work.part != _REST and self.rates.seconds(work.kinds[0], work.units) is None

    def schedule(self) -> Schedule:
        """Return the steps of the run; what each of them takes is remembered for the next time."""
        return Schedule(
            [
                Step(one.part, one.stage, one.units, partial(self.seconds, one), partial(self._remember, one))
                for one in self.work
                if one.units
            ]
        )

    def _remember(self, work: Work, units: float, seconds: float) -> None:
        for kind in dict.fromkeys(work.kinds):
            self.rates.remember(kind, units, seconds)

    def __str__(self) -> str:
        """The line that a run begins with: "about 7 minutes here: training 1½, answers 3, pages 1½"."""
        by_part = {part: [one for one in self.work if one.part == part] for part in _LISTED}
        times = {part: _total([self.seconds(one) for one in work]) for part, work in by_part.items() if work}
        cached = [part for part in times if part in _CACHED and not any(one.units for one in by_part[part])]
        unknown = [part for part, seconds in times.items() if seconds is None and part != _REST]
        known = sum(seconds or 0.0 for seconds in times.values())
        if unknown and (known < 60 or {*times} <= {*unknown, *cached, _REST}):
            return "first run of this kind here: the time left shows once its stages are measured"
        said = [f"{' and '.join(cached)} cached"] if cached else []
        for part, seconds in times.items():
            amount = halves(seconds or 0.0, hours=known >= _HOURS_FROM)
            if part not in (*cached, *unknown) and amount != "0" and known >= 60:
                said.append(f"{part} {amount}")
        said += [f"{' and '.join(unknown)} unknown"] if unknown else []
        rough = any(map(self._is_rough, self.work))
        how = "at least" if unknown else "roughly" if rough else "about"
        about = f"{how} {in_words(max(60, known))}" if known >= 60 or rough else "under a minute"
        return f"{about} here{': ' if said else ''}{', '.join(said)}"


def estimate(work: Sequence[Work]) -> Estimate:
    """Return how long work takes on this machine."""
    machine = hardware()
    return Estimate(work, Rates({"cpu": machine.cpu, "cores": machine.cores, "gpu": machine.gpu}))


def in_words(seconds: float) -> str:
    """Return a time as people say it, in halves of minutes or hours: "1 minute", "2½ minutes", "3 hours"."""
    hours = seconds >= _HOURS_FROM
    amount = halves(seconds, hours=hours)
    return f"{amount} {'hour' if hours else 'minute'}{'' if amount in ('½', '1') else 's'}"


def halves(seconds: float, *, hours: bool = False) -> str:
    """Return minutes, or hours, in halves below ten and whole from there on: "0", "½", "1½", "12"."""
    amount = seconds / (3600 if hours else 60)
    if amount >= 9.75:
        return str(round(amount))
    whole, half = divmod(int(2 * amount + 0.5), 2)
    return f"{whole or ''}{'½' if half else ''}" or "0"


def _total(seconds: Sequence[float | None]) -> float | None:
    return None if None in seconds else sum(one or 0.0 for one in seconds)
