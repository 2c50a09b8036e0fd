"""What `suites check` prints of one suite."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.suite.schema import DEFAULT_SPLIT

if TYPE_CHECKING:
    from harness.scoring.suite_findings import SuiteCheck, Tier

_SHOWN_IDS = 12
_SHOWN_REASONS = 3


def print_check(check: SuiteCheck, console: Console) -> None:
    """Print what was found, at most 80 columns wide where the terminal is; tasks to fix come last."""
    console.print()
    console.print(_tiers(check))
    _unmeasured(check, console)
    if check.checked:
        print_line(console, f"{check.checks} checks in {check.checked} tasks")
        _ids(console, "  references that fail their own", list(check.reference_fails))
        for control, tasks in check.passed_by.items():
            _ids(console, f"  solved by '{control}'", tasks)
    if check.held_out_without_checks:
        print_line(console, f"held-out tasks without checks: {check.held_out_without_checks} of {check.held_out}")
    if check.without_reference:
        print_line(
            console, f"tasks without a reference: {check.without_reference}; similarity is not measured for them"
        )
    for part, name in (("train", "training"), ("held_out", "held-out")):
        doubles = sum(len(group) - 1 for group in check.near[part])
        print_line(console, f"near-duplicates among {name} tasks: {doubles or 'none'}")
    _ids(console, "held-out tasks that resemble training rows", list(check.leaked))
    if check.split != DEFAULT_SPLIT:
        print_line(console, f"split: {check.split}")
    print_line(console, str(check.shift) if check.shift else "too few rows to compare training with held-out ones")
    if check.reach is not None:
        print_line(console, str(check.reach))
    _self_test(check, console)
    console.print()
    _to_fix(check, console)


def _tiers(check: SuiteCheck) -> Table:
    from harness.metrics import registry

    ignores = any(tier.strict != tier.passed for tier in check.tiers)
    columns = ("references", "hold", "of", *(("with doctype and title",) if ignores else ()))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for tier in check.tiers:
        cells = (str(tier.passed), str(tier.measured), *((str(tier.strict),) if ignores else ()))
        table.add_row(registry.metric(tier.name).label, *(cells if tier.measured else ("not measured", "0")))
    return table


def _unmeasured(check: SuiteCheck, console: Console) -> None:
    found = [(_label(tier), tier.unmeasured) for tier in check.tiers]
    for name, unmeasured in (*found, ("Checks", check.checks_unmeasured)):
        reasons: dict[str, list[str]] = {}
        for task, why in unmeasured.items():
            reasons.setdefault(why, []).append(task)
        for why, tasks in reasons.items():
            _ids(console, f"{name} not measured ({why})", tasks)


def _label(tier: Tier) -> str:
    from harness.metrics import registry

    return registry.metric(tier.name).label


def _self_test(check: SuiteCheck, console: Console) -> None:
    from harness.metrics import registry

    tested = check.self_test
    metrics = {trial.metric for trial in tested.checks if trial.measured}
    pairs = sum(trial.measured for trial in tested.checks)
    print_line(
        console,
        f"self-test: {len(metrics)} metrics, {tested.tasks} references, {pairs} comparisons with perturbed answers",
    )
    for name, why in tested.refused.items():
        print_line(console, f"  refused: {registry.metric(name).label}: {why}")
    if tested.untested:
        print_line(
            console, f"  nothing to test with: {', '.join(registry.metric(name).label for name in tested.untested)}"
        )


def _to_fix(check: SuiteCheck, console: Console) -> None:
    to_fix: Mapping[str, Sequence[str]] = check.to_fix
    if not to_fix:
        if check.sound:
            print_line(console, "Nothing to fix.")
        return
    print_line(console, f"Tasks to fix: {len(to_fix)}", style="bold")
    for task, reasons in to_fix.items():
        print_line(console, f"  {task}")
        for reason in reasons[:_SHOWN_REASONS]:
            print_line(console, reason, indent=4)
        if len(reasons) > _SHOWN_REASONS:
            print_line(console, f"… and {len(reasons) - _SHOWN_REASONS} more", indent=4)


def _ids(console: Console, words: str, tasks: Sequence[str]) -> None:
    more = f" … and {len(tasks) - _SHOWN_IDS} more" if len(tasks) > _SHOWN_IDS else ""
    listed = f": {', '.join(tasks[:_SHOWN_IDS])}{more}" if tasks else ""
    print_line(console, f"{words}: {len(tasks) or 'none'}{listed}")


def print_line(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print one paragraph; what a suite's pages wrote cannot move the terminal's cursor."""
    from rich.padding import Padding

    shown = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in text)
    line = Text(shown, style=style)
    console.print(Padding(line, (0, 0, 0, indent), expand=False) if indent else line)
