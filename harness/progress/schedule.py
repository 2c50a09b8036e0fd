"""What a run has before it, stage by stage, and how long it may yet take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """A piece of work that one stage does, alone or with others of its part."""

    part: str
    """How people call this kind of work, such as `training`."""
    stage: str
    """The name of the stage that does it."""
    units: float
    """How much is to be done."""
    seconds: Callable[[], float | None]
    """How long it takes, as far as is known by now; None where nothing like it was measured yet."""
    on_done: Callable[[float, float], None]
    """Told how much was done, and in how many seconds."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a run."""

    seconds: float
    """Of all that is known."""
    share_done: float
    """How much of the whole time has passed, from 0 to 1."""
    unknown: tuple[str, ...]
    """The parts of which it is not known yet how long they take."""


@dataclass
class Schedule:
    """The steps of a run: which are done, which runs, and the time that is left.

    Args:
        steps: All that is to be done, in any order; what takes no time is left out.
        clock: Seconds that go on.
    """

    steps: Sequence[Step]
    clock: Callable[[], float] = time.monotonic
    _ahead: list[Step] = field(init=False)
    _running: list[Step] = field(init=False, default_factory=list)
    _since: float = field(init=False, default=0.0)
    _spent: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._ahead = list(self.steps)

    def begin(self, *stages: str) -> None:
        """A stage begins, which does the steps of these stages; what the schedule knows nothing of takes none."""
        self._running = [step for step in self._ahead if step.stage in stages]
        self._ahead = [step for step in self._ahead if step not in self._running]
        self._since = self.clock()

    def end(self, units: float | None = None) -> None:
        """The stage has done its work: its steps are told what they took, by what was expected of each.

        Args:
            units: How much it had to do in truth, where it knows that better than the plan.
        """
        took = self.clock() - self._since
        steps, self._running = self._running, []
        expected = [step.seconds() or 0.0 for step in steps]
        planned = sum(step.units for step in steps)
        for step, seconds in zip(steps, expected, strict=True):
            share = seconds / sum(expected) if all(expected) else step.units / planned
            step.on_done(step.units if units is None else units * step.units / planned, took * share)
        if steps:
            self._spent += took

    def left(self, done: float = 0.0) -> Left | None:
        """Return what is left; None where that is nothing, and while nothing is known of it.

        Args:
            done: The share of the running stage's work that is done, from 0 to 1.
        """
        ahead = [(step.part, step.seconds()) for step in self._ahead]
        running = [(step.part, step.seconds()) for step in self._running]
        took = self.clock() - self._since if self._running else 0.0
        expected = sum(seconds or 0.0 for _, seconds in running)
        unknown = dict.fromkeys(part for part, seconds in (*running, *ahead) if seconds is None)
        if len(unknown) == len({part for part, _ in (*running, *ahead)}):
            return None
        # what is expected counts down; where it proves too short, the pace so far says what the rest takes
        now = max(expected - took, (1 - done) * took if done else 0.0) if expected else 0.0
        seconds = now + sum(seconds or 0.0 for _, seconds in ahead)
        passed = self._spent + took
        return Left(seconds, passed / (passed + seconds) if passed + seconds else 1.0, tuple(unknown))
