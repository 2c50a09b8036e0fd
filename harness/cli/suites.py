"""`suites list`, `suites check` and `suites new`."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import EXIT_DONE, EXIT_FAILED, HarnessError
from harness.suite.load import find_suites, load_suite, load_suite_file
from harness.suite.schema import DEFAULT_SPLIT, FixedSplit

if TYPE_CHECKING:
    from harness.scoring.suite_findings import SuiteCheck, Tier
    from harness.types import Suite

_SHOWN_IDS = 12
_SHOWN_REASONS = 3
_SHOWN_LETTERS = 80
"""Of a sample row."""


def list_suites() -> None:
    """Print every suite under tasks/ with its size; one whose data lie on the hub is not downloaded for it."""
    table = Table("suite", "title", "train", "held out", "licence", box=None, pad_edge=False)
    for location in find_suites():
        file = load_suite_file(location)
        if file.hub is not None:
            train, held_out = "on the hub", file.hub.path
            fixed = file.split if isinstance(file.split, FixedSplit) else file.splits.get(DEFAULT_SPLIT)
            if isinstance(fixed, FixedSplit):
                train, held_out = str(fixed.train_rows), str(fixed.of_rows - fixed.train_rows)
        else:
            suite = load_suite(location)
            train, held_out = str(len(suite.train)), str(len(suite.held_out))
        table.add_row(location.name, file.title, train, held_out, file.license)
    if not table.row_count:
        raise HarnessError("there are no suites under tasks/", "run the harness in the folder that holds tasks/")
    Console().print(table)


def check_suites(
    name: str | None,
    *,
    data: Sequence[str] = (),
    split: Sequence[str] = (),
    limit: int | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
) -> int:
    """Check one suite, or every suite whose data are on this disk; return 0 when nothing is to be fixed, else 1.

    `limit` bounds the tasks of the metrics' self-test; everything else is checked of all tasks. `json_file` gets the
    findings as one JSON object, by suite.

    Raises:
        UsageError: a suite, file or task is wrong.
        HarnessError: the suite's data or the browser are not there.
    """
    import json

    from harness.pipeline.config import parse_data_options
    from harness.progress import ProgressReporter
    from harness.scoring.suite_check import check_suite
    from harness.storage.outputs import check_output, write_output
    from harness.suite.load import find_suite
    from harness.suite.split_option import check_split_option, chosen_split

    if json_file is not None:
        check_output(json_file, _is_findings)
    console = console or Console()
    files = parse_data_options(data)
    for given in files:
        find_suite(given)
    locations = [find_suite(name)] if name else find_suites()
    if not locations:
        raise HarnessError("there are no suites under tasks/", "run the harness in the folder that holds tasks/")
    check_split_option(split, locations)
    found: dict[str, SuiteCheck] = {}
    for location in locations:
        rows = files.get(location.name)
        if name is None and rows is None and load_suite_file(location).hub is not None:
            console.print(Text(f"{location.name}: its rows are on the hub, so it is only checked when named\n"))
            continue
        suite = load_suite(location, rows, chosen_split(location, split))
        console.print(Text(f"{location.name}: {len(suite.train)} training and {len(suite.held_out)} held-out tasks"))
        for note in suite.notes:
            _line(console, f"note: {note}")
        found[location.name] = check_suite(suite, ProgressReporter(console), limit)
        print_check(found[location.name], console)
        for line in _lowered(suite):
            _line(console, line)
    if json_file is not None:
        content = json.dumps({name: check.as_dict() for name, check in found.items()}, indent=1) + "\n"
        write_output(json_file, content, _is_findings)
        console.print(Text(f"written to {json_file}"))
    return EXIT_DONE if all(check.sound for check in found.values()) else EXIT_FAILED


def _lowered(suite: Suite) -> list[str]:
    """Profiles that name the suite and lower the limit of new tokens below what its references ask for."""
    from harness.model.profile import load_profile, profile_names
    from harness.model.reach import answer_limit, estimated_tokens, reach

    tasks, free = [*suite.train, *suite.held_out], answer_limit(suite, estimated_tokens)
    found = []
    for name in profile_names():
        file = load_profile(name).file
        if file.max_new_tokens and file.max_new_tokens < free and suite.name in (*file.suites, file.training_suite):
            lowered = reach(file.max_new_tokens, tasks, estimated_tokens, estimated=True)
            found.append(f"profile {name} lowers it: {lowered}")
    return found


def _is_findings(path: Path) -> bool:
    """Whether a file holds the findings of such a check."""
    import json

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    entries = list(content.values()) if isinstance(content, dict) else []
    return bool(entries) and all(
        isinstance(entry, dict) and {"schema", "tiers"} < entry.keys() and {"to_fix", "mend"} & entry.keys()
        for entry in entries
    )


def print_check(check: SuiteCheck, console: Console) -> None:
    """Print what was found, at most 80 columns wide where the terminal is; tasks to fix come last."""
    console.print()
    console.print(_tiers(check))
    _unmeasured(check, console)
    if check.checked:
        _line(console, f"{check.checks} checks in {check.checked} tasks")
        _ids(console, "  references that fail their own", list(check.reference_fails))
        for control, tasks in check.passed_by.items():
            _ids(console, f"  solved by '{control}'", tasks)
    if check.held_out_without_checks:
        _line(console, f"held-out tasks without checks: {check.held_out_without_checks} of {check.held_out}")
    if check.without_reference:
        _line(console, f"tasks without a reference: {check.without_reference}; similarity is not measured for them")
    for part, name in (("train", "training"), ("held_out", "held-out")):
        doubles = sum(len(group) - 1 for group in check.near[part])
        _line(console, f"near-duplicates among {name} tasks: {doubles or 'none'}")
    _ids(console, "held-out tasks that resemble training rows", list(check.leaked))
    if check.split != DEFAULT_SPLIT:
        _line(console, f"split: {check.split}")
    _line(console, str(check.shift) if check.shift else "too few rows to compare training with held-out ones")
    if check.reach is not None:
        _line(console, str(check.reach))
    _self_test(check, console)
    console.print()
    _mend(check, console)


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
    for tier in check.tiers:
        reasons: dict[str, list[str]] = {}
        for task, why in tier.unmeasured.items():
            reasons.setdefault(why, []).append(task)
        for why, tasks in reasons.items():
            _ids(console, f"{_label(tier)} not measured ({why})", tasks)


def _label(tier: Tier) -> str:
    from harness.metrics import registry

    return registry.metric(tier.name).label


def _self_test(check: SuiteCheck, console: Console) -> None:
    from harness.metrics import registry

    tested = check.self_test
    metrics = {check.metric for check in tested.checks if check.measured}
    pairs = sum(check.measured for check in tested.checks)
    _line(
        console,
        f"self-test: {len(metrics)} metrics, {tested.tasks} references, {pairs} comparisons with perturbed answers",
    )
    for name, why in tested.refused.items():
        _line(console, f"  refused: {registry.metric(name).label}: {why}")
    if tested.untested:
        _line(console, f"  nothing to test with: {', '.join(registry.metric(name).label for name in tested.untested)}")


def _mend(check: SuiteCheck, console: Console) -> None:
    to_fix: Mapping[str, Sequence[str]] = check.to_fix
    if not to_fix:
        if check.sound:
            _line(console, "Nothing to fix.")
        return
    _line(console, f"Tasks to fix: {len(to_fix)}", style="bold")
    for task, reasons in to_fix.items():
        _line(console, f"  {task}")
        for reason in reasons[:_SHOWN_REASONS]:
            _line(console, reason, indent=4)
        if len(reasons) > _SHOWN_REASONS:
            _line(console, f"… and {len(reasons) - _SHOWN_REASONS} more", indent=4)


def _ids(console: Console, words: str, tasks: Sequence[str]) -> None:
    more = f" … and {len(tasks) - _SHOWN_IDS} more" if len(tasks) > _SHOWN_IDS else ""
    listed = f": {', '.join(tasks[:_SHOWN_IDS])}{more}" if tasks else ""
    _line(console, f"{words}: {len(tasks) or 'none'}{listed}")


def _line(console: Console, text: str, indent: int = 0, style: str = "") -> None:
    """Print one paragraph; what a suite's pages wrote cannot move the terminal's cursor."""
    from rich.padding import Padding

    shown = "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in text)
    line = Text(shown, style=style)
    console.print(Padding(line, (0, 0, 0, indent), expand=False) if indent else line)


def new_suite(name: str, source: str | None, folder: Path) -> None:
    """Make the suite `name` and say what to do next.

    Raises:
        UsageError: the name, the source or its columns do not do, or there is a suite of that name already.
    """
    from harness.suite.load import TASKS_FOLDER
    from harness.suite.new import make_suite

    made = make_suite(name, source, folder)
    console = Console()
    for file in made.files:
        _line(console, f"written: {file}")
    for what, column in made.columns.items():
        example = made.sample.get(what, "")
        shown = f', for example "{example[:_SHOWN_LETTERS]}{"…" * (len(example) > _SHOWN_LETTERS)}"' if example else ""
        _line(console, f"  {what}: column '{column}'{shown}" if column else f"  {what}: none")
    for note in made.notes:
        _line(console, f"note: {note}")
    word = name if folder == TASKS_FOLDER else str(folder / name)
    _line(console, f"next: python -m harness suites check {word}")
    _line(console, f"then: python -m harness run --suites {word}")
