"""Progress of long stages: live bars on a terminal, a line at begin and end in a CI log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console

from harness.progress.bars import Bars
from harness.progress.schedule import Schedule


class Stage:
    """One stage under way."""

    def __init__(self, total: int | None, bars: Bars | None) -> None:
        self._total, self._bars = total, bars
        self.done = 0
        self.note = ""
        self.units: float | None = None
        """How much there was to be done in truth, in the schedule's units; None is as planned."""
        self._update()

    def advance(self, note: str = "", to: int | None = None) -> None:
        """Count one more item, or set the count to `to`; `note` stands beside the bar."""
        self.done = self.done + 1 if to is None else to
        self.note = note or self.note
        self._update()

    def total(self, total: int) -> None:
        """Set how many items there are, once that is known."""
        self._total = total
        self._update()

    def _update(self) -> None:
        if self._bars is not None:
            self._bars.update(self.done, self._total, self.note)


class ProgressReporter:
    """Says what happens, on the console it is given."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=False)
        self._schedule: Schedule | None = None
        self._held: list[str] | None = None

    def say(self, line: str) -> None:
        """Print one line; brackets in it are not markup."""
        if self._held is not None:
            self._held.append(line)
        else:
            self.console.print(line, markup=False, highlight=False)

    @contextlib.contextmanager
    def held(self) -> Iterator[list[str]]:
        """Hold back what is said while the block runs, so that what is known only at its end can be put before it."""
        lines: list[str] = []
        self._held = lines
        try:
            yield lines
        finally:
            self._held = None
            for line in lines:
                self.say(line)

    @contextlib.contextmanager
    def following(self, schedule: Schedule) -> Iterator[None]:
        """While the block runs, show beside each stage how far all that is to be done has come."""
        self._schedule = schedule
        try:
            yield
        finally:
            self._schedule = None

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, does: Sequence[str] = ()) -> Iterator[Stage]:
        """Show a stage while the block runs, and one line with its time when it ended.

        Args:
            name: What is done, as people read it.
            total: How many items there are; None where that is not known.
            does: The stages of the schedule that are done by it; the one of its own name where none is given.
        """
        started, schedule = time.monotonic(), self._schedule
        if schedule is not None:
            schedule.begin(*does or (name,))
        if self.console.is_terminal:
            bars = Bars(self.console, name, schedule)
            stage = Stage(total, bars)
            with bars.live():
                yield stage
        else:
            if self._held is None:
                self.say(f"  {name} …")
            stage = Stage(total, None)
            yield stage
        if schedule is not None:
            schedule.end(stage.units)
        count = f" {stage.done}" if stage.done else ""
        line = f"  {name}:{count} in {_duration(time.monotonic() - started)}"
        note = f"({stage.note})" if stage.note else ""
        if note and self.console.is_terminal and len(line) + 1 + len(note) > self.console.width:
            self.say(line)
            line = "   "
        self.say(f"{line} {note}" if note else line)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
