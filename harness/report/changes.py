"""Where it got better and where worse, what so many tasks can show, and what people say. No statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlencode

from harness.report import numbers
from harness.runs.model_name import family
from harness.runs.run import Run
from harness.runs.samples import SampleRecord
from harness.runs.summary import DifferenceEntry, Effect, FlipCount, Section
from harness.runs.votes import PairVotes
from harness.safe_text import one_line

SECTIONS: tuple[Section, ...] = get_args(Section)
_EFFECTS = {"cohen_dz": "dz", "cohen_g": "g"}


@dataclass(frozen=True, slots=True)
class Flipped:
    """How many tasks flipped one way, and the link into the gallery that shows them."""

    count: int
    href: str


@dataclass(frozen=True, slots=True)
class FlipCell:
    """One metric in one category or difficulty: its flips, and its difference where the comparison gives one."""

    gained: Flipped
    lost: Flipped
    difference: str
    interval: str


@dataclass(frozen=True, slots=True)
class FlipRow:
    """One category or difficulty."""

    name: str
    n: int
    cells: list[FlipCell]


@dataclass(frozen=True, slots=True)
class FlipTable:
    """Tasks that flipped by category, or by difficulty; rows with most losses stand first."""

    title: str
    metrics: list[str]
    rows: list[FlipRow]


def parts(run: Run, suite: str) -> list[FlipTable]:
    """Tasks of the suite's pair that flipped on its primary metrics, by category and by difficulty."""
    pair = run.pair(suite)
    if pair is None:
        return []
    flips, inside = run.suite(suite).flips.get(pair, {}), run.suite(suite).parts.get(pair, {})
    metrics = [name for name, metric in run.metrics.items() if metric.primary and name in flips]
    tables = []
    for section in SECTIONS:
        counts = {name: flips[name].by(section) for name in metrics}
        rows: list[FlipRow] = []
        for name in dict.fromkeys(name for by_name in counts.values() for name in by_name):
            cells, tasks = [], 0
            for metric in metrics:
                scale, found = run.metrics[metric].scale, counts[metric].get(name, FlipCount())
                difference = inside.get(section, {}).get(name, {}).get(metric)
                cells.append(
                    FlipCell(
                        gained=_link(run, suite, {section: name}, metric, "better", found.gained),
                        lost=_link(run, suite, {section: name}, metric, "worse", found.lost),
                        difference=numbers.signed(difference.difference, scale) if difference else "",
                        interval=numbers.interval(difference, scale, sign=True),
                    )
                )
                tasks = max(tasks, found.n)
            rows.append(FlipRow(one_line(name, 40), tasks, cells))
        if rows:
            rows.sort(key=lambda row: -sum(cell.lost.count for cell in row.cells))
            labels = [one_line(run.metrics[metric].label, 40) for metric in metrics]
            tables.append(FlipTable(section.capitalize(), labels, rows))
    return tables


def _link(
    run: Run, suite: str, group: Mapping[str, str], metric: str, way: Literal["better", "worse"], count: int
) -> Flipped:
    pair = run.pair(suite)
    asked = {"change": way, "metric": metric, "sort": "gain" if way == "better" else "loss", **group}
    asked |= {"suite": suite} if len(run.suites) > 1 else {}
    asked |= {"from": pair.first, "to": pair.second} if pair and pair != run.pair(run.suites[0]) else {}
    return Flipped(count, "#" + urlencode(asked, errors="replace"))


@dataclass(frozen=True, slots=True)
class Power:
    """Of one primary metric: effect size, smallest detectable difference, spread of trainings."""

    label: str
    tasks: str
    effect: str
    detectable: str
    trainings: list[str]
    sd: str


def powers(run: Run, suite: str) -> list[Power]:
    """What the primary metrics of the suite's pair can show."""
    differences, found = run.differences(suite), []
    for name, metric in run.metrics.items():
        entry = differences.get(name)
        if metric.primary and entry is not None:
            found.append(
                Power(
                    label=one_line(metric.label, 40),
                    tasks=tasks_of(entry),
                    effect=effect(entry.effect),
                    detectable=numbers.mean(entry.detectable, metric.scale),
                    trainings=[numbers.signed(v, metric.scale) for v in entry.seeds.values] if entry.seeds else [],
                    sd=numbers.mean(entry.seeds.sd if entry.seeds else None, metric.scale),
                )
            )
    return found


def powers_line(run: Run, suite: str) -> str:
    """The same as one line of text for the exports; empty without a pair."""
    said = [f"{row.label} {row.detectable} (effect size {row.effect})" for row in powers(run, suite)]
    return f"Smallest difference found with 80 % power: {'; '.join(said)}." if said else ""


def tasks_of(entry: DifferenceEntry) -> str:
    """On how many tasks a difference rests, and in how many groups where near-duplicates count as one."""
    tasks = entry.n if entry.tasks is None else entry.tasks
    return str(tasks) if tasks <= entry.n else f"{tasks} in {entry.n} groups"


def effect(value: Effect | None) -> str:
    """An effect size with its name: "dz 0.62" (Cohen's, paired) or "g 0.45" (Cohen's, of flips)."""
    if value is None:
        return "–"
    name = _EFFECTS.get(value.name, one_line(value.name, 20))
    return f"{name} {value.value:.2f}".replace("-", numbers.MINUS).strip()


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """How often one metric was higher for the page that people chose."""

    label: str
    primary: bool
    agreement: str
    interval: str
    n: int
    silent: int
    way: numbers.Way


@dataclass(frozen=True, slots=True)
class VotesOnPair:
    """What people said of two models: win rate of the second, and each metric's agreement with the votes."""

    first: str
    second: str
    given: PairVotes
    rows: list[AgreementRow]

    @property
    def sentence(self) -> str:
        """The votes in a sentence."""
        given = self.given
        gone = f"{given.outdated}{' more' if given.votes else ''} on pages that this run no longer holds"
        gone += " is not counted" if given.outdated == 1 else " are not counted"
        if given.outdated and not given.votes:
            return f"Of the votes on {self.second} and {self.first}, {gone}."
        people = f"{given.voters} voter{'' if given.voters == 1 else 's'}"
        aside = f"{given.ties} tie{'' if given.ties == 1 else 's'}, {given.both_bad} both bad, {people}"
        if given.outdated:
            aside += f"; {gone}"
        if not given.decided:
            return f"People did not decide between {self.second} and {self.first}: {aside}."
        rate, interval = numbers.mean(given.win_rate, "share"), numbers.interval(given, "share")
        decided = f"{rate} % of {given.decided} decided votes (95 % interval {interval})"
        return f"People chose {self.second} over {self.first} in {decided}; {aside}."


def votes(run: Run) -> list[VotesOnPair]:
    """What people said, by pair."""
    return [
        VotesOnPair(
            first=one_line(pair.first, 40),
            second=one_line(pair.second, 40),
            given=given,
            rows=[
                AgreementRow(
                    label=metric.label,
                    primary=metric.primary,
                    agreement=numbers.mean(given.metrics[name].agreement, "share"),
                    interval=numbers.interval(given.metrics[name], "share"),
                    n=given.metrics[name].n,
                    silent=given.metrics[name].silent,
                    way=numbers.direction(given.metrics[name], 0.5),
                )
                for name, metric in run.metrics.items()
                if name in given.metrics
            ],
        )
        for pair, given in run.agreement.pairs.items()
    ]


@dataclass(frozen=True, slots=True)
class Regression:
    """A task on which the pair's second model lost, by so many points of 100."""

    task: str
    loss: float
    prompt: str


def regressions(run: Run, suite: str, limit: int = 5) -> list[Regression]:
    """The tasks on which the pair's second model lost most against its first, over the primary metrics both have.

    The loss is the mean over primary metrics of the difference of one task's means over its samples, in points of 100:
    an order for looking, no estimate.
    """
    pair = run.pair(suite)
    if pair is None:
        return []
    primary = [name for name, metric in run.metrics.items() if metric.primary] or list(run.metrics)
    scores: dict[str, dict[str, list[SampleRecord]]] = {}
    for row in run.rows:
        named = row.model if row.model in pair else family(row.model)
        if row.suite == suite and named in pair:
            scores.setdefault(row.task, {}).setdefault(named, []).append(row)
    prompts = {key.task: one_line(task.prompt) for key, task in run.tasks.items() if key.suite == suite}
    lost = []
    for task, by_model in scores.items():
        differences = []
        for name in primary:
            before, after = (_mean(by_model.get(model, []), name) for model in pair)
            if before is not None and after is not None:
                differences.append((after - before) * numbers.factor(run.metrics[name].scale))
        total = sum(differences) / len(differences) if differences else 0.0
        if total < -1e-9:
            lost.append(Regression(task, total, prompts.get(task, "")))
    return sorted(lost, key=lambda item: (item.loss, item.task))[:limit]


def _mean(rows: list[SampleRecord], name: str) -> float | None:
    values = [score for row in rows if (score := row.scores.get(name)) is not None]
    return sum(values) / len(values) if values else None
