"""Tables of a run for a paper, in LaTeX that any engine compiles."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report import attempts, changes, numbers, view
from harness.report.attempts import PassAtRow
from harness.runs.run import Run
from harness.safe_text import LATEX_PREAMBLE, latex
from harness.storage.outputs import GENERATOR

_BESIDE = 4
"""More models than these stand in several tables under one another: a page is not wider."""

_HEAD = f"""\
% {GENERATOR}: needs the packages booktabs and graphicx; * marks a primary metric
{LATEX_PREAMBLE}
% a table that is wider than the text is made as wide as it
\\providecommand{{\\harnessfit}}[1]{{\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{#1}}}}"""


def tables(run: Run) -> str:
    """Return the text of `tables.tex`: for each suite the metrics of all models, and pass@k where there is one."""
    parts = [_HEAD]
    for suite in run.suites:
        parts += [_metrics(run, suite), *_pass_at(run, suite)]
    return "\n\n".join(parts)


def _metrics(run: Run, suite: str) -> str:
    models, pair = view.suite_models(run, suite), run.pair(suite)
    title = latex(view.suite_title(run, suite))
    unfinished = "" if view.finished(run) else f" {latex(view.UNFINISHED)}"
    caption = rf"{title}: means with 95\,\% intervals, {latex(view.measured(run, suite))}.{unfinished}"
    tabulars = []
    chunks = _chunks(len(models)) or [range(0)]
    for number, chunk in enumerate(chunks):
        last = pair is not None and number == len(chunks) - 1
        heads = [latex(models[place]) for place in chunk]
        heads += [rf"$\Delta$ {latex(pair.second)} $-$ {latex(pair.first)}"] if pair and last else []
        groups = []
        for group in view.table(run, suite):
            lines = []
            for row in group.rows:
                cells = [_math(row.cells[place].mean, row.cells[place].interval) for place in chunk]
                if last:
                    cells.append(_math(row.change.difference, row.change.interval) if row.change else "--")
                lines.append([_label(row), *cells])
            groups.append(lines)
        tabulars.append(_tabular("l" + "r" * len(heads), [["Metric", *heads]], groups))
    power = changes.powers_line(run, suite)
    below = [r"\par\smallskip\footnotesize " + latex(power)] if power else []
    return _table(caption, tabulars, below)


def _pass_at(run: Run, suite: str) -> list[str]:
    """The table of pass@k; none where every task was answered once."""
    found = attempts.pass_at(run, suite)
    if not found:
        return []
    ks, models = found.ks, found.models
    tabulars = []
    for chunk in _chunks(len(models)):
        heads = [
            ["", *(rf"\multicolumn{{{len(ks)}}}{{c}}{{{latex(models[place])}}}" for place in chunk)],
            ["Metric", *(f"$k={k}$" for _ in chunk for k in ks)],
        ]
        rows = [
            [_label(row), *(_math(value, "") for place in chunk for value in row.cells[place])] for row in found.rows
        ]
        tabulars.append(_tabular("l" + "r" * len(ks) * len(chunk), heads, [rows]))
    caption = f"{latex(view.suite_title(run, suite))}: pass@$k$ in percent, {latex(view.measured(run, suite))}."
    return [_table(caption, tabulars)]


def _chunks(count: int) -> list[range]:
    return [range(start, min(start + _BESIDE, count)) for start in range(0, count, _BESIDE)]


def _table(caption: str, tabulars: Sequence[str], below: Sequence[str] = ()) -> str:
    joined = "\n\\par\\medskip\n".join(tabulars)
    return "\n".join([r"\begin{table}\centering", rf"\caption{{{caption}}}", joined, *below, r"\end{table}"])


def _tabular(columns: str, heads: Sequence[Sequence[str]], groups: Sequence[Sequence[Sequence[str]]]) -> str:
    lines = [rf"\harnessfit{{\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_row(head) for head in heads]
    for group in groups:
        lines += [r"\midrule", *(_row(cells) for cells in group)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}"])


def _row(cells: Sequence[str]) -> str:
    """The first cell stands in braces: LaTeX takes a star or a bracket behind `\\` of the row before for an option."""
    first, *others = cells
    return " & ".join([first if first.startswith(r"\multicolumn") else f"{{{first}}}", *others]) + r" \\"


def _label(row: view.MetricRow | PassAtRow) -> str:
    return latex(row.label) + ("*" if row.primary else "")


def _math(value: str, interval: str) -> str:
    text = f"{value} [{interval.replace(' to ', ', ')}]" if interval else value
    return "--" if value == "–" else f"${text}$".replace(numbers.MINUS, "-")
