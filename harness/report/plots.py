"""Pictures of numbers, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report import numbers
from harness.report.svg import BETTER, GRID, INK, MUTED, OPEN, PAPER, SERIES, WORSE, figure_of, svg_of
from harness.report.view import table
from harness.runs.manifest import TrainingEntry
from harness.runs.run import Run
from harness.safe_text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

_MARKS = ("o", "s", "D", "^", "v", "P")


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One paired difference to draw, in points of 100."""

    label: str
    group: str
    primary: bool
    difference: float
    low: float | None
    high: float | None
    way: numbers.Way
    text: str


def forest_rows(run: Run, suite: str) -> list[ForestRow]:
    """The paired differences of a suite's pair, in the order of the table."""
    differences, rows = run.differences(suite), []
    for group in table(run, suite):
        for row in group.rows:
            entry = differences.get(row.name)
            if entry is None or entry.difference is None or row.change is None:
                continue
            by = numbers.factor(row.metric.scale)
            rows.append(
                ForestRow(
                    label=one_line(row.label, 34),
                    group=group.title,
                    primary=row.primary,
                    difference=entry.difference * by,
                    low=None if entry.low is None else entry.low * by,
                    high=None if entry.high is None else entry.high * by,
                    way=row.change.way,
                    text=row.change.difference,
                )
            )
    return rows


def forest(rows: Sequence[ForestRow], title: str, *, wide: bool = True) -> str:
    """Draw paired differences with 95 % intervals, one line a metric; "" without rows.

    Args:
        rows: see `forest_rows`.
        title: what the picture shows, for readers who do not see it.
        wide: for a desk (labels left of the lines) or for a phone (labels above them).
    """
    if not rows:
        return ""
    groups = list(dict.fromkeys(row.group for row in rows))
    slots: list[tuple[str, ForestRow | None]] = []
    for group in groups:
        slots.append((group, None))
        slots += [(row.label, row) for row in rows if row.group == group]
    step = 0.27 if wide else 0.44
    figure, axes = figure_of((7.6 if wide else 3.7, 0.75 + step * len(slots)))
    ends = [value for row in rows for value in (row.low, row.high, row.difference) if value is not None]
    reach = max(5.0, max(abs(value) for value in ends)) * 1.08
    lowest, highest = (min(0.0, *ends), max(0.0, *ends))
    pad = max(2.0, (highest - lowest) * 0.08)
    limits = (max(-reach, lowest - pad), min(reach, highest + pad))
    axes.set_xlim(*limits)
    axes.set_ylim(len(slots) - 0.35, -0.6)
    if wide:
        axes.axvline(0, color=INK, linewidth=1)
    for place, (label, row) in enumerate(slots):
        if not wide and row is not None:  # the labels stand above their lines, where zero must not cross them out
            axes.plot(limits, [place, place], color=GRID, linewidth=0.7)
            axes.plot([0, 0], [place - 0.14, place + 0.14], color=INK, linewidth=1)
        _forest_line(axes, place, label, row, wide=wide)
    axes.set_yticks([])
    axes.set_xlabel("Difference in points of 100, with 95 % interval", color=MUTED, fontsize=9.5 if wide else 9)
    axes.tick_params(axis="x", colors=MUTED, labelsize=9.5 if wide else 9, length=0, pad=6)
    if wide:
        axes.grid(axis="x", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
    figure.subplots_adjust(
        left=_LEFT if wide else 0.03,
        right=_RIGHT if wide else 0.97,
        top=1 - 0.08 / figure.get_figheight(),
        bottom=0.55 / figure.get_figheight(),
    )
    said = "; ".join(f"{row.label} {row.text} ({_WORDS[row.way]})" for row in rows)
    return svg_of(figure, title, said)


_LEFT, _RIGHT = 0.31, 0.89  # where the wide picture's lines begin and end: labels stand left of them, numbers right
_WORDS = {"better": "better", "worse": "worse", "open": "not told apart from no difference"}
_COLOURS = {"better": BETTER, "worse": WORSE, "open": OPEN}
_SHAPES = {"better": "^", "worse": "v", "open": "o"}


def _forest_line(axes: Axes, place: int, label: str, row: ForestRow | None, *, wide: bool) -> None:
    left, blend = -_LEFT / (_RIGHT - _LEFT) if wide else 0.0, _blend(axes)
    up = 0 if wide else -0.36
    if row is None:
        axes.text(left, place + (0 if wide else 0.1), label, transform=blend, color=MUTED, fontsize=9.5, va="center")
        return
    weight = "bold" if row.primary else "normal"
    size = 10.5 if wide else 10
    axes.text(left + (0.015 if wide else 0), place + up, label, transform=blend, color=INK, fontsize=size,
              va="center", fontweight=weight)  # fmt: skip
    right = 1 + (1 - _RIGHT) / (_RIGHT - _LEFT) if wide else 1.0
    axes.text(right, place + up, row.text, transform=blend, color=INK, fontsize=size, va="center", ha="right",
              fontweight=weight)  # fmt: skip
    colour = _COLOURS[row.way]
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=3 if row.primary else 1.8,
                  solid_capstyle="round")  # fmt: skip
    axes.plot([row.difference], [place], _SHAPES[row.way], color=colour, markersize=9 if row.primary else 7,
              markeredgecolor=PAPER, markeredgewidth=1.2)  # fmt: skip


def _blend(axes: Axes) -> Transform:
    from matplotlib.transforms import blended_transform_factory

    return blended_transform_factory(axes.transAxes, axes.transData)


def lines(series: Sequence[tuple[str, Sequence[tuple[float, float]]]], title: str, names: tuple[str, str],
          *, ticks: Sequence[str] = (), named: bool = False, mark: float | None = None) -> str:  # fmt: skip
    """Draw lines over a common axis, each with its own colour and mark; "" where no line has a point.

    Args:
        series: pairs of a name and its points (x, y).
        title: what the picture shows.
        names: the horizontal axis' name, and that of the vertical one, which begins at 0.
        ticks: names for x = 0, 1, 2 ... where they are not numbers.
        named: write a line's name beside it even where it is the only one.
        mark: a place on the horizontal axis to be marked by a dashed line.
    """
    series = [(name, sorted(points)) for name, points in series if points]
    if not series:
        return ""
    figure, axes = figure_of((4.9, 2.7))
    for index, (_, points) in enumerate(series):
        colour = SERIES[index % len(SERIES)]
        axes.plot([p[0] for p in points], [p[1] for p in points], color=colour, linewidth=1.9,
                  marker=_MARKS[index % len(_MARKS)], markersize=4 if len(points) < 60 else 0)  # fmt: skip
    if mark is not None:
        axes.axvline(mark, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_ylim(bottom=0)
    if len(series) > 1 or named:
        _names(axes, [(name, points[-1][1]) for name, points in series])
    if ticks:
        shown = range(0, len(ticks), max(1, len(ticks) // 6))
        axes.set_xticks(list(shown), [one_line(ticks[index], 12) for index in shown])
    axes.set_xlabel(names[0], color=MUTED, fontsize=9)
    axes.set_title(names[1], color=MUTED, fontsize=9, loc="left", pad=8)
    axes.tick_params(colors=MUTED, labelsize=9, length=0, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    figure.subplots_adjust(left=0.08, right=0.76 if len(series) > 1 or named else 0.98, top=0.88, bottom=0.19)
    said = "; ".join(f"{one_line(name)} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in series)
    return svg_of(figure, title, said)


def _names(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Write names right of their lines' ends, pushed apart where they would cover each other."""
    low, high = axes.get_ylim()
    gap, before = (high - low) * 0.075, low - (high - low)
    for name, value in sorted(ends, key=lambda end: end[1]):
        before = max(value, before + gap)
        axes.text(1.015, before, one_line(name, 22), transform=_blend(axes), color=INK, fontsize=9, va="center")


def training(model: str, entry: TrainingEntry, labels: Mapping[str, str] | None = None) -> list[str]:
    """Draw one training's loss, and the scores of its evaluations beside it, each kind of unit in a picture of its own.

    `labels` gives the metrics' names for readers.
    """
    points = [(float(point.step), point) for point in entry.curve if point.step is not None]
    loss = [(step, point.loss) for step, point in points if point.loss is not None]
    evaluated: dict[str, list[tuple[float, float]]] = {}
    for step, point in points:
        for name, value in point.scores.items():
            if value is not None:
                evaluated.setdefault((labels or {}).get(name, name), []).append((step, value))
    name, kept = one_line(model, 40), entry.evaluation.kept_step if entry.evaluation else None
    pictures = [lines([("loss", loss)], f"Training loss of {name} by step", ("step", "training loss"), mark=kept)]
    losses = {key: value for key, value in evaluated.items() if "loss" in key}
    small = {k: v for k, v in evaluated.items() if k not in losses and all(0 <= y <= 1 for _, y in v)}
    large = {key: value for key, value in evaluated.items() if key not in losses and key not in small}
    for group, unit in ((losses, "loss on held-back rows"), (large, "points of 100"), (small, "share")):
        title = f"{unit.capitalize()} of {name} while training, by step"
        pictures.append(lines(list(group.items()), title, ("step", unit), named=True, mark=kept))
    return [picture for picture in pictures if picture]
