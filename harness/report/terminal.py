"""The report in a terminal: the answer first, at 80 columns, with or without colour, on any code page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report import attempts, changes, numbers, overview, view
from harness.runs.folder import PAGE_FILE
from harness.runs.read import one_path, read_run
from harness.runs.run import Run
from harness.safe_text import encodable, one_line

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST = 40
"""Columns that a line takes at least, whatever the terminal says: one of no columns would get no answer."""
_NAME = 20
_STACKED = 70
"""Columns below which a metric's numbers stand under its name, which would lose its letters beside them."""
_STYLES = {"better": "blue", "worse": "bold yellow", "open": "dim"}
_PLAIN = {"▲": "+", "▼": "-", "●": "~", "−": "-", "–": "-", "\u202f": " ", "★": "*", "Δ": "diff", "→": "->"}


def show(run_dir: Path, console: Console | None = None) -> None:
    """Print the report of one run; see `harness.report.print_report`."""
    from rich.console import Console

    run = read_run(run_dir)
    console = console or Console(highlight=False)
    console.width = max(console.width, _NARROWEST)
    verdict = view.verdict(run)
    if not view.finished(run):
        _line(console, view.UNFINISHED, style="bold yellow")
    _line(console, verdict.sentence, style="bold")
    for note in filter(None, [verdict.gains, *verdict.notes]):
        _line(console, note)
    for vote in changes.votes(run):
        _line(console, vote.sentence)
    for suite in run.suites:
        console.print()
        _suite(console, run, suite, several=len(run.suites) > 1)
    page = run.path / PAGE_FILE
    console.print()
    if overview.is_somebody_elses(run.path.parent):
        _line(console, f"{one_path(run.path.parent / 'index.html')} is no list of runs of the harness: it stays")
    if page.is_file():
        _line(console, f"Report  {one_path(page)}", style="bold")
    else:
        _line(console, f"No page yet: type  python -m harness report {one_line(run.path.name)}")


def show_interim(run: Run, suite: str, missing: str, console: Console) -> None:
    """Print what a run that goes on knows of one suite; see `harness.report.print_interim`."""
    console.width = max(console.width, _NARROWEST)
    pair = run.pair(suite)
    if pair is None:
        return
    measured = f"{one_line(view.suite_title(run, suite))}, {view.measured(run, suite)}"
    _line(console, f"So far, {one_line(missing)} still to come: {measured}", style="bold")
    _table(console, run, suite)
    console.print()


def _suite(console: Console, run: Run, suite: str, *, several: bool) -> None:
    _line(console, f"{one_line(view.suite_title(run, suite))}, {view.measured(run, suite)}", style="bold")
    if several:
        _line(console, view.verdict(run, suite).sentence)
    _table(console, run, suite)
    for line in _leftovers(run, suite):
        _line(console, line, style="dim")
    _attempts(console, run, suite)
    pair, lost = run.pair(suite), changes.regressions(run, suite)
    if pair and lost:
        console.print()
        _line(console, f"Where {one_line(pair.second)} lost most", style="bold")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True, overflow="crop", ratio=1)
        room = max(20, console.width - 11 - max(len(one_line(item.task, 24)) for item in lost))
        for item in lost:
            loss = numbers.signed(item.loss, "percent")
            grid.add_row(
                _text(console, one_line(item.task, 24)),
                _text(console, loss),
                _text(console, one_line(item.prompt, room), "dim"),
            )
        console.print(grid)


def _table(console: Console, run: Run, suite: str) -> None:
    """Models beside each other while they fit, always the verdict's pair; means, then difference and interval."""
    pair = run.pair(suite) or ()
    models = [model for model in view.suite_models(run, suite) if model in pair]
    others = [model for model in view.suite_models(run, suite) if model not in pair]
    room = (console.width - 22 - 30 - 9 * len(models)) // 11
    shown = sorted(models + others[: max(0, room)], key=run.models.index) if pair else others[: max(1, room + 3)]
    if console.width < _STACKED:
        _stack(console, run, suite, shown)
    else:
        _beside(console, run, suite, shown)
    hidden = len(models + others) - len(shown)
    notes = ["★ primary: the verdict rests on these. Percent, or points of 100."]
    if pair:
        notes.append("▲ better, ▼ worse, ● not told apart from no difference.")
    if hidden:
        notes.append(f"{hidden} more model{'s' if hidden > 1 else ''} in the page.")
    _line(console, " ".join(notes), style="dim")


def _stack(console: Console, run: Run, suite: str, shown: list[str]) -> None:
    """Each metric's name, and its numbers in a line under it."""
    console.print(_text(console, " → ".join(one_line(model, _NAME) for model in shown), "dim"))
    for group in view.table(run, suite):
        for row in group.rows:
            means = " → ".join(row.of(model).mean for model in shown)
            change = row.change
            said = f"  {means}  {change.difference} {change.arrow}" if change else f"  {means}"
            _line(console, ("★ " if row.primary else "  ") + one_line(row.label))
            _line(console, f"  {said}", _STYLES[change.way] if change else "")
            if change and change.interval:
                _line(console, f"    ({change.interval})", "dim")


def _beside(console: Console, run: Run, suite: str, shown: list[str]) -> None:
    pair = run.pair(suite)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    table.add_column("")
    for model in shown:
        profile, slash, name = model.rpartition("/")  # of several weights in two lines, so that both can be read
        head = f"{one_line(profile, 11)}/\n{one_line(name, 12)}" if slash else one_line(model, 12)
        table.add_column(_text(console, head), justify="right", no_wrap=True)
    if pair:
        table.add_column(_text(console, "Δ with 95 % interval"), justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
    for group in view.table(run, suite):
        for row in group.rows:
            cells = [_text(console, ("★ " if row.primary else "  ") + one_line(row.label, _NAME))]
            cells += [_text(console, row.of(model).mean) for model in shown]
            if pair:
                cells += _change(console, row.change)
            table.add_row(*cells)
    console.print(table)


def _change(console: Console, change: view.Change | None) -> list[Text]:
    if change is None:
        return [Text(""), Text("")]
    style = _STYLES[change.way]
    low_high = f" ({change.interval})" if change.interval else ""
    return [_text(console, change.difference + low_high, style), _text(console, change.arrow, style)]


def _attempts(console: Console, run: Run, suite: str) -> None:
    """pass@k of the verdict's pair, where tasks were answered several times; with little room its first and last k."""
    found = attempts.pass_at(run, suite)
    if not found:
        return
    pair = [name for name in run.pair(suite) or () if name in found.models]
    models, ks = pair or found.models[:2], found.ks
    room = max(2, (console.width - 24) // len(models) // 7)
    kept = [*range(min(len(ks), room) - 1), len(ks) - 1]
    console.print()
    _line(console, "Chance that one of k answers passes (pass@k), percent", style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    table.add_column("")
    for model in models:
        for place in kept:
            head = f"{one_line(model, 12)}\n" if place == kept[0] else "\n"
            table.add_column(_text(console, f"{head}k={ks[place]}"), justify="right", no_wrap=True)
    for row in found.rows:
        label = ("★ " if row.primary else "  ") + one_line(row.label, 20)
        texts = [row.cells[found.models.index(model)][place] for model in models for place in kept]
        table.add_row(_text(console, label), *(_text(console, text) for text in texts))
    console.print(table)


def _leftovers(run: Run, suite: str) -> list[str]:
    """What could not be measured, in words, so that no gap passes for a zero."""
    missing = []
    for group in view.table(run, suite):
        for row in group.rows:
            unscored = sum(cell.unscored for cell in row.cells)
            if unscored:
                missing.append(f"{one_line(row.label, 24)} {unscored}")
    lines = [f"Not measured (answers): {', '.join(missing)}."] if missing else []
    unequal = view.unequal(run, suite)
    if unequal:
        over = "Means are over all that a model has, differences over the tasks that both have"
        lines.append(f"{over}: {', '.join(unequal)}.")
    return lines


def _line(console: Console, text: str, style: str = "") -> None:
    console.print(_text(console, text, style))


def _text(console: Console, text: str, style: str = "") -> Text:
    """Text that holds no control character, no markup, and nothing that the console's code page lacks."""
    encoding = console.encoding or "utf-8"
    for sign, plain in _PLAIN.items():
        try:
            sign.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            text = text.replace(sign, plain)
    return Text(encodable(text, encoding), style=style)
