"""Turns a run's files into what the page and the terminal show: words, table rows, counts. No statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.report import changes, numbers
from harness.runs.folder import SUMMARY_FILE
from harness.runs.manifest import TUNED, ScorerEntry, SuiteEntry
from harness.runs.model_name import family
from harness.runs.pairs import Pair
from harness.runs.run import KINDS, Run
from harness.runs.samples import SampleRecord
from harness.runs.summary import DifferenceEntry, MainVerdict, MeanEntry, Verdict
from harness.runs.trained_on import trained_elsewhere
from harness.safe_text import one_line

_MOST_NAMED = 3
UNFINISHED = "This run is not finished, so what stands here is not its answer. Its command goes on where it was."
ARROWS: dict[numbers.Way, str] = {"better": "▲", "worse": "▼", "open": "●"}


@dataclass(frozen=True, slots=True)
class Said:
    """A verdict in words: `head` says what was shown, `rest` on which numbers, both together are the sentence."""

    word: str
    sentence: str
    head: str
    rest: str
    gains: str
    notes: list[str]


def verdict(run: Run, suite: str = "") -> Said:
    """The comparison's verdict on the whole run, or on one suite, as it was written.

    Without one in the summary, the sentence says what the intervals of the primary metrics say, and the word is "".
    """
    found: Verdict | None
    all_found = run.suite(suite).verdicts if suite else run.summary.verdicts
    if suite:
        pair = run.pair(suite)
        found = all_found.get(pair) if pair else None
    else:
        found = run.summary.verdict
        if found is None and len(run.suites) == 1:
            return verdict(run, run.suites[0])
    if found is None or not found.sentence:
        head, rest = _plain_words(run, [suite] if suite else run.suites)
        found = found or Verdict()
    else:
        head, rest = found.headline, found.figures
    head, rest = one_line(head), one_line(rest)
    fewshot = found.fewshot if isinstance(found, MainVerdict) else None
    # what is missing stands first among the warnings: it bears on the sentence itself
    others = _other_tunings(run, all_found, found)
    notes = [one_line(note) for note in (*found.warnings, fewshot or "", *others) if note.strip()]
    return Said(found.word, f"{head}: {rest}" if rest else head, head, rest, one_line(found.gains), notes)


def _other_tunings(run: Run, verdicts: Mapping[Pair, Verdict], said: Verdict) -> Iterator[str]:
    """What is said of each further tuned model against the first that it is held against."""
    seen = {said.pair.second} if said.pair else set()
    kinds = {name: entry.kind for name, entry in run.about_families.items()}
    for pair in run.pairs if said.pair else ():
        if kinds.get(pair.second) == TUNED and pair in verdicts and pair.second not in seen:
            seen.add(pair.second)
            yield verdicts[pair].sentence


def _plain_words(run: Run, suites: list[str]) -> tuple[str, str]:
    said = []
    for suite in suites:
        pair, differences = run.pair(suite), run.differences(suite)
        primary = [name for name in differences if run.metrics[name].primary] or list(differences)
        ways: dict[numbers.Way, list[str]] = {"better": [], "worse": [], "open": []}
        for name in primary:
            ways[numbers.direction(differences[name])].append(run.metrics[name].label)
        words = {"better": "better on", "worse": "worse on", "open": "not told apart on"}
        parts = [f"{words[way]} {', '.join(labels)}" for way, labels in ways.items() if labels]
        if parts and pair:
            head = f"{pair.second} against {pair.first}, {suite_title(run, suite)}"
            said.append((head, f"{'; '.join(parts)}."))
    if not said:
        return "No two models were compared on the same tasks, so there is no verdict.", ""
    (head, rest), *others = said
    return head, " ".join([rest, *(f"{head}: {rest}" for head, rest in others)])


def finished(run: Run) -> bool:
    """Whether the run came to its end: a whole one with its comparison, which is written last."""
    whole = run.manifest.shard is None
    return bool(run.manifest.finished) and (not whole or (run.path / SUMMARY_FILE).is_file())


def about_suite(run: Run, suite: str) -> SuiteEntry:
    """What the manifest says of a suite."""
    return run.manifest.suites.get(suite) or SuiteEntry()


def suite_title(run: Run, suite: str) -> str:
    """The suite's title as its file names it, else its name."""
    return about_suite(run, suite).title or suite


def suite_notes(run: Run, suite: str) -> list[str]:
    """Which rows these are, who learnt from others, what the split measures, and what no answer could reach."""
    about = about_suite(run, suite)
    shift, reach = about.shift, about.reach
    notes = [f"Rows: {about.known_rows}."] if about.known_rows else []
    if about.split != "default":
        notes.append(f"Split: {about.split}.")
    notes += trained_elsewhere(run.manifest.models, [suite])
    if shift is not None and shift.told_apart:
        differs = "; ".join(shift.differs_in)
        area = ", ".join(f"{value or 0:.2f}" for value in (shift.auc, shift.low, shift.high))
        notes.append(
            "This measures transfer, not learning: training and held-out rows are of different kinds, told apart by "
            f"their prompts (AUC with 95 % interval: {area})."
            + (f" Held out against training: {differs}." * bool(differs))
        )
    if reach is not None and reach.out_of_reach:
        notes.append(
            f"{reach.out_of_reach} of {reach.references or 0} references are out of reach: longer than the "
            f"{reach.max_new_tokens or 0:,} new tokens of an answer, or than what the context leaves."
        )
    return [one_line(note, 900) for note in notes]


def measured(run: Run, suite: str) -> str:
    """How much was measured, in words: "68 tasks"; "1 task, 3 answers to each by every model"; "64 tasks, 25 compared".

    Answers that never came, and those that a task has more of than another, are not counted as given to each.
    """
    tasks: set[str] = set()
    answers: Counter[tuple[str, str]] = Counter()
    for row in run.rows:
        if row.suite != suite:
            continue
        tasks.add(row.task)
        if not run.manifest.is_control(row.model) and row.measured:
            answers[row.task, row.model] += 1
    said = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    fewest, most = min(answers.values(), default=1), max(answers.values(), default=1)
    if most > 1:
        said += f", {most if fewest == most else f'{fewest} to {most}'} answers to each"
        said += " by every model" if fewest == most else ""
    compared = _compared(run, suite)
    return said if compared is None or compared >= len(tasks) else f"{said}, {compared} compared"


def _compared(run: Run, suite: str) -> int | None:
    """On how many tasks the suite's pair has a number on both sides, at least, over its primary metrics."""
    primary = [entry for entry in run.differences(suite).values() if entry.primary and entry.missing.asked]
    return min((entry.tasks for entry in primary if entry.tasks is not None), default=None)


def unequal(run: Run, suite: str) -> list[str]:
    """Where differences are over fewer tasks than a mean beside them: "15 tasks (Conforming)"."""
    differences, metrics = run.differences(suite), run.suite(suite).metrics
    labels: dict[int, list[str]] = {}
    for name, metric in run.metrics.items():
        entry, of = differences.get(name), metrics.get(name, {})
        means = [of[model].n for model in run.pair(suite) or () if model in of]
        if entry and entry.n and entry.tasks and any(n > entry.n for n in means):
            labels.setdefault(entry.tasks, []).append(one_line(metric.label, 24))
    return [
        f"{tasks} task{'' if tasks == 1 else 's'} "
        f"({', '.join(named) if len(named) <= _MOST_NAMED else f'{len(named)} metrics'})"
        for tasks, named in labels.items()
    ]


@dataclass(frozen=True, slots=True)
class Cell:
    """One model's mean of one metric."""

    model: str
    mean: str
    interval: str
    unscored: int


@dataclass(frozen=True, slots=True)
class Change:
    """One paired difference in words and signs."""

    way: numbers.Way
    arrow: str
    difference: str
    interval: str
    p: str
    p_adjusted: str
    tasks: str
    dropped: int
    effect: str
    detectable: str


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: its mean for each model, and the difference of the suite's pair."""

    name: str
    metric: ScorerEntry
    cells: list[Cell]
    change: Change | None

    @property
    def label(self) -> str:
        """The metric's name for readers."""
        return self.metric.label

    @property
    def primary(self) -> bool:
        """Whether the verdict rests on it."""
        return self.metric.primary

    def of(self, model: str) -> Cell:
        """Return one model's cell."""
        return next(cell for cell in self.cells if cell.model == model)


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """The metrics of one kind."""

    title: str
    rows: list[MetricRow]


def table(run: Run, suite: str) -> list[MetricGroup]:
    """The metrics of a suite, by kind."""
    metrics, differences, models = run.suite(suite).metrics, run.differences(suite), suite_models(run, suite)
    groups = []
    for kind, title in KINDS.items():
        rows = []
        for name, metric in run.metrics.items():
            if metric.kind == kind and name in metrics:
                cells = [_cell(model, metrics[name].get(model), metric) for model in models]
                rows.append(MetricRow(name, metric, cells, change(differences.get(name), metric)))
        if rows:
            groups.append(MetricGroup(title, rows))
    return groups


def _cell(model: str, estimate: MeanEntry | None, metric: ScorerEntry) -> Cell:
    return Cell(
        model=model,
        mean=numbers.mean(estimate.mean if estimate else None, metric.scale),
        interval=numbers.interval(estimate, metric.scale),
        unscored=estimate.unscored if estimate else 0,
    )


def change(difference: DifferenceEntry | None, metric: ScorerEntry) -> Change | None:
    """One paired difference in words and signs; None where the pair has no such metric."""
    if difference is None:
        return None
    way = numbers.direction(difference)
    return Change(
        way=way,
        arrow=ARROWS[way],
        difference=numbers.signed(difference.difference, metric.scale),
        interval=numbers.interval(difference, metric.scale, sign=True),
        p=numbers.p_value(difference.p),
        p_adjusted=numbers.p_value(difference.p_adjusted),
        tasks=changes.tasks_of(difference),
        dropped=difference.dropped,
        effect=changes.effect(difference.effect),
        detectable=numbers.mean(difference.detectable, metric.scale),
    )


def suite_models(run: Run, suite: str) -> list[str]:
    """The models that the suite has a number or a row for; trainings of one model under their family's name."""
    known = {model for models in run.suite(suite).metrics.values() for model in models}
    written = {row.model for row in run.rows if row.suite == suite}
    known |= {model for model in written if family(model) not in known}
    return [model for model in run.models if model in known]


def rows_of(run: Run, suite: str, model: str) -> list[SampleRecord]:
    """The rows of a model, or of all trainings of a family."""
    return [row for row in run.rows if row.suite == suite and model in (row.model, family(row.model))]
