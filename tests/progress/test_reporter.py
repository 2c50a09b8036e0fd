"""What people see while a run goes on: bars in any terminal, plain lines in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from harness.progress import ProgressReporter
from harness.progress.bars import Bars
from harness.progress.schedule import Schedule, Step

LONG = "training tuned on 128 rows of html_starter"


def schedule(seconds: float = 300.0) -> Schedule:
    return Schedule(
        [
            Step("training", LONG, 16, lambda: seconds, lambda done, took: None),
            Step("pages", "checking and rendering html_starter", 512, lambda: 90.0, lambda done, took: None),
        ]
    )


def drawn(width: int, following: Schedule | None, note: str = "loss 1.234, 140 tokens/s") -> list[str]:
    """The live display as it stands in a terminal of that width."""
    target = io.StringIO()
    console = Console(file=target, width=width, force_terminal=True, color_system=None)
    if following is not None:
        following.begin(LONG)
    bars = Bars(console, LONG, following)
    bars.update(4, 16, note)
    console.print(bars.live().get_renderable())
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", target.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 50, 60, 76, 80, 100, 200])
def test_both_rows_stand_in_columns_and_within_the_terminal(width: int) -> None:
    stage, whole = drawn(width, schedule())
    assert max(len(stage), len(whole)) < width
    assert stage[1:].startswith(" training")
    assert whole.startswith("  the whole run")
    assert " 4/16 " in stage
    found = re.search(r" 06:(30|29)", whole)
    assert found is not None
    assert found.start() == stage.index(" --:--")
    assert ("━" in stage) == (width > 50)
    assert ("140 tokens/s" in stage) == (" left" in whole) == (width > 76)


def test_hours_fit_too() -> None:
    _, whole = drawn(80, schedule(7200.0))
    assert " 2:01:" in whole


def test_without_a_schedule_there_is_one_row() -> None:
    assert len(drawn(80, None)) == 1


def test_a_part_without_a_time_is_named() -> None:
    following = Schedule(
        [
            Step("training", LONG, 16, lambda: 60.0, lambda done, took: None),
            Step("pages", "pages", 1, lambda: None, lambda done, took: None),
        ]
    )
    assert drawn(80, following)[1].rstrip().endswith("left, without pages")


def reporter(width: int = 80, *, terminal: bool = False) -> tuple[ProgressReporter, io.StringIO]:
    target = io.StringIO()
    return ProgressReporter(Console(file=target, width=width, force_terminal=terminal, color_system=None)), target


def test_a_log_gets_a_line_at_begin_and_end_whether_or_not_the_time_is_known() -> None:
    said = []
    for following in (None, schedule()):
        report, target = reporter()
        if following is None:
            with report.stage("pages", 2) as stage:
                stage.advance("fine")
        else:
            with report.following(following), report.stage("pages", 2) as stage:
                stage.advance("fine")
        said.append(re.sub(r"\d\.\d s", "0 s", target.getvalue()))
    assert said[0] == said[1] == "  pages …\n  pages: 1 in 0 s (fine)\n"


def test_a_note_that_does_not_fit_a_terminal_gets_a_line_of_its_own() -> None:
    report, target = reporter(60, terminal=True)
    with report.stage(LONG, 16) as stage:
        stage.advance("loss 1.234, 140 tokens/s", to=16)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", target.getvalue()).splitlines()
    assert lines[-2].strip().startswith(f"{LONG}: 16 in 0.")
    assert lines[-1] == "    (loss 1.234, 140 tokens/s)"


def test_what_is_held_comes_behind_what_is_put_before_it() -> None:
    report, target = reporter()
    with pytest.raises(KeyError), report.held() as lines:
        report.say("profile")
        lines.insert(0, "about 7 minutes here")
        raise KeyError
    assert target.getvalue() == "about 7 minutes here\nprofile\n"
    report.say("run")
    assert target.getvalue().endswith("run\n")


def test_a_stage_that_fails_is_not_measured() -> None:
    told: list[float] = []
    following = Schedule([Step("pages", "pages", 2, lambda: 1.0, lambda done, took: told.append(done))])
    report, _ = reporter()
    with pytest.raises(KeyError), report.following(following), report.stage("pages", 2):
        raise KeyError
    assert told == []
