"""The live display: the stage's bar, and under it the whole run's, in whatever width the terminal has."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from harness.progress.schedule import Schedule

_WHOLE = "the whole run"
_NOTE = 24
"""Columns for the note beside a bar: it grows and shrinks, the bars stay in their places."""
_LONG, _SHORT = 24, 12
"""Columns that a bar takes at most and at least."""
_MEDIUM, _NARROW = 76, 50
"""Columns of a terminal from which on notes are shown, and bars."""


class Bars:
    """The bar of one stage, and that of the whole run where its time is known.

    Args:
        console: A terminal.
        name: The stage's name.
        schedule: What is left of the whole run; None where only the stage is known.
    """

    def __init__(self, console: Console, name: str, schedule: Schedule | None) -> None:
        self._console, self._name, self._schedule = console, name, schedule
        self._spinner = Spinner("dots", style="progress.spinner")
        self._counter = Progress(disable=True)  # counts and tells the pace, and draws nothing
        self._counter.add_task(name, total=None, note="")

    @property
    def _task(self) -> Task:
        return self._counter.tasks[0]

    def live(self) -> Live:
        """Return the display, which vanishes when it is left."""
        return Live(console=self._console, transient=True, get_renderable=self._drawn)

    def update(self, done: int, total: int | None, note: str) -> None:
        """Move the stage's bar."""
        self._counter.update(self._task.id, completed=done, total=total, note=note)

    def _drawn(self) -> RenderableType:
        """Return both rows as one table, made for the width that the terminal has now."""
        task, width = self._task, self._console.width - 1
        done, total = int(task.completed), None if task.total is None else int(task.total)
        share = min(1.0, done / total) if total else 0.0
        left = self._schedule.left(share) if self._schedule else None
        note = _NOTE if width >= _MEDIUM else 0
        count = f"{done}/{total}" if total is not None else str(done or "")
        counts = len(count) if total is None else 2 * len(str(total)) + 1
        clock = "" if total is None else _clock(task.time_remaining)
        clocks = max(5, len(clock), len(_clock(left.seconds)) if left else 0)
        room = width - sum(columns + 1 for columns in (1, counts, clocks, note) if columns)
        name = max(8, min(max(len(self._name), len(_WHOLE)), room - (_SHORT + 1 if width >= _NARROW else 0)))
        bar = max(_SHORT, min(_LONG, room - name - 1)) if width >= _NARROW else 0
        note += max(0, room - name - bar - 1) if note else 0
        grid = Table.grid(padding=(0, 1, 0, 0))
        for columns in filter(None, (1, name, bar, counts, clocks, note)):
            grid.add_column(width=columns, no_wrap=True, overflow="ellipsis")

        def row(mark: RenderableType, said: str, drawn: ProgressBar, counted: str, clock: str, by: str) -> None:
            cells = [mark, Text(said), *([drawn] if bar else [])]
            cells += [Text(f"{counted:>{counts}}", "progress.download")] if counts else []
            grid.add_row(*cells, Text(clock, "progress.remaining"), *([Text(by)] if note else []))

        stage = ProgressBar(total=total, completed=done, width=bar or 1, animation_time=task.get_time())
        row(self._spinner, self._name, stage, count, clock, str(task.fields["note"]))
        if left is not None:
            without = f", without {' and '.join(left.unknown)}" if left.unknown else ""
            whole = ProgressBar(total=1.0, completed=left.share_done, width=bar or 1)
            row("", _WHOLE, whole, "", _clock(left.seconds), f"left{without}")
        return grid


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "--:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
