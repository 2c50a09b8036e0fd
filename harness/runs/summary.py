"""What summary.json holds: means, paired differences, flips and the verdict."""

from __future__ import annotations

from typing import Literal

from harness.runs.pairs import PairName
from harness.runs.record import ABSENT, VERSION, Count, Interval, Number, Probability, Record, Text

Word = Literal["better", "worse", "mixed", "no difference shown", "too few tasks to tell"]
Section = Literal["category", "difficulty"]


class Method(Record):
    """How intervals and p-values were made."""

    alpha: Number | None = None
    seed: int | None = None
    replicates: Count | None = None
    correction: Text = ""


class Spread(Record):
    """Each training's number and their standard deviation."""

    values: tuple[Number, ...]
    sd: Number | None


class MeanEntry(Interval):
    """A mean over n units with its 95 % interval; unscored answers are counted, not averaged."""

    mean: Number | None
    n: Count = 0
    unscored: Count = 0
    method: Text = ""
    pass_at: dict[Text, Number] | None = ABSENT
    """k → chance that one of k samples passes."""
    seeds: Spread | None = ABSENT


class Effect(Record):
    """The standardised size of a difference."""

    name: Text
    value: Number


class MissingEntry(Record):
    """On how many tasks the metric was to be measured, and on how many of them each model lacks a number."""

    asked: Count = 0
    first: Count = 0
    second: Count = 0
    notable: bool = False


class WorstCase(Record):
    """Between which bounds a difference lies whatever the missing numbers are, and whether its direction holds."""

    low: Number
    high: Number
    p: Probability
    holds: bool


class SectionDifference(Interval):
    """A difference in one category or difficulty; exploratory."""

    difference: Number | None
    p: Probability | None = None
    p_adjusted: Probability | None = None
    n: Count = 0


class DifferenceEntry(SectionDifference):
    """Second minus first over the units that both have a number for; `dropped` counts tasks that one lacks."""

    dropped: Count = 0
    primary: bool = False
    effect: Effect | None = None
    detectable: Number | None = None
    """The smallest difference that so many tasks find 4 times of 5."""
    method: Text = ""
    tasks: Count | None = None
    """How many tasks both sides have a number for; n counts near-duplicates once."""
    sides: tuple[Number, Number] | None = None
    """Both models' means over these tasks."""
    missing: MissingEntry = MissingEntry()
    worst_case: WorstCase | None = ABSENT
    """Of a primary metric that lacks numbers."""
    seeds: Spread | None = ABSENT


class FlipCount(Record):
    """Tasks of one category or difficulty that got better and worse."""

    gained: Count = 0
    lost: Count = 0
    n: Count = 0


class Flips(Record):
    """Tasks that got better and worse, the largest change first."""

    gained: tuple[Text, ...] = ()
    lost: tuple[Text, ...] = ()
    threshold: Number | None = None
    by_category: dict[Text, FlipCount] = {}
    by_difficulty: dict[Text, FlipCount] = {}

    def by(self, section: Section) -> dict[str, FlipCount]:
        """Return the counts by category or by difficulty."""
        return self.by_category if section == "category" else self.by_difficulty


class FindingEntry(Record):
    """One primary difference, in points."""

    suite: Text
    metric: Text
    difference: Number
    low: Number
    high: Number


class Gain(Record):
    """What the primary metrics of form, or of content, show."""

    word: Text = "not measured"
    findings: tuple[FindingEntry, ...] = ()


class Verdict(Record):
    """The answer on one pair."""

    pair: PairName | None = None
    word: Word | Literal[""] = ""
    headline: Text = ""
    """The sentence's begin, which says what was shown; its numbers follow behind a colon."""
    sentence: Text = ""
    gains: Text = ""
    form: Gain = Gain()
    content: Gain = Gain()
    scope: Text = ""
    trainings: Count = 1
    worse_at: tuple[Text, ...] = ()
    warnings: tuple[Text, ...] = ()

    @property
    def figures(self) -> str:
        """The sentence behind its headline."""
        return self.sentence.removeprefix(self.headline).removeprefix(": ")


class MainVerdict(Verdict):
    """The verdict on the first pair."""

    fewshot: Text | None = None
    """What it gains over a base with examples in its prompt."""


MetricMeans = dict[str, dict[str, MeanEntry]]
"""Metric → model → mean."""
PairDifferences = dict[PairName, dict[str, DifferenceEntry]]
"""Pair → metric → difference."""


class CleanNumbers(Record):
    """A suite's numbers without the tasks that look like training rows."""

    metrics: MetricMeans
    pairs: PairDifferences


class SuiteSummary(Record):
    """One suite's part."""

    tasks: Count = 0
    units: Count | None = None
    """How many independent units the tasks are: near-duplicates count once."""
    metrics: MetricMeans = {}
    pairs: PairDifferences = {}
    flips: dict[PairName, dict[Text, Flips]] = {}
    parts: dict[PairName, dict[Section, dict[Text, dict[Text, SectionDifference]]]] = {}
    """Pair → category or difficulty → its name → metric; exploratory."""
    outcomes: dict[Text, dict[Text, Count]] = {}
    """Model → outcome → answers."""
    finish_reasons: dict[Text, dict[Text, Count]] = {}
    leaked: tuple[Text, ...] = ()
    """Measured tasks that look like training rows."""
    clean: CleanNumbers | None = ABSENT
    """The same numbers without them."""
    verdicts: dict[PairName, Verdict] = {}


class Summary(Record):
    """Means, paired differences, flips and the verdict of one run, as harness.compare writes them.

    Numbers of binary and share metrics run from 0 to 1, of percent metrics from 0 to 100. Further keys may appear.
    """

    version: int = VERSION
    method: Method = Method()
    primary: tuple[Text, ...] | None = None
    """The metrics, fixed beforehand, that the verdict rests on."""
    models: tuple[Text, ...] = ()
    trainings: dict[Text, Count] = {}
    """How many trainings stand behind each model."""
    pairs: tuple[PairName, ...] = ()
    """The compared pairs, the most important first; differences are second minus first."""
    suites: dict[Text, SuiteSummary] = {}
    verdicts: dict[PairName, Verdict] = {}
    """By pair, over all suites."""
    verdict: MainVerdict | None = None
