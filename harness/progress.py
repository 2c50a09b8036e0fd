"""Progress of long stages: a live bar on a terminal, a line at begin and end in a CI log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class Stage:
    """One stage under way."""

    def __init__(self, progress: Progress | None, total: int | None, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=total, note="") if progress else None
        self.done = 0
        self.note = ""

    def advance(self, note: str = "", to: int | None = None) -> None:
        """Count one more item, or set the count to `to`; `note` stands beside the bar."""
        self.done = self.done + 1 if to is None else to
        self.note = note or self.note
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.done, note=self.note)

    def total(self, total: int) -> None:
        """Set how many items there are, once that is known."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)


class ProgressReporter:
    """Says what happens, on the console it is given."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=False)

    def say(self, line: str) -> None:
        """Print one line; brackets in it are not markup."""
        self.console.print(line, markup=False, highlight=False)

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Show a stage while the block runs, and one line with its time when it ended."""
        started = time.monotonic()
        if self.console.is_terminal:
            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", markup=False),
            )
            with Progress(*columns, console=self.console, transient=True) as progress:
                stage = Stage(progress, total, name)
                yield stage
        else:
            self.say(f"  {name} …")
            stage = Stage(None, total, name)
            yield stage
        count = f" {stage.done}" if stage.done else ""
        note = f" ({stage.note})" if stage.note else ""
        self.say(f"  {name}:{count} in {_duration(time.monotonic() - started)}{note}")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
