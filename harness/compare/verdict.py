"""The verdict: its rule, stated in docs/statistics.md, rests on the primary metrics alone; `wording` says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.compare.resample import ALPHA
from harness.runs.manifest import TUNED, ScorerEntry
from harness.runs.pairs import Pair
from harness.runs.summary import DifferenceEntry, FindingEntry, Gain, Verdict, Word
from harness.types import Scale

BETTER: Final = "better"
WORSE: Final = "worse"
MIXED: Final = "mixed"
NO_DIFFERENCE: Final = "no difference shown"
TOO_FEW: Final = "too few tasks to tell"

MIN_TASKS = 20
"""Below this many tasks no interval's coverage was measured, and nothing is called better or worse."""
SURE_TASKS = 64
"""From here on the coverage that docs/statistics.md states holds; below it the verdict carries a warning."""
WORTHWHILE = 10.0
"""Points. "No difference shown" is said only where a difference of this size would have been found 4 times of 5."""
CONTENT_KINDS = ("content", "similarity")


@dataclass(frozen=True)
class Finding:
    """One primary metric of one suite in one pair of models, in points (percent or 100 × share)."""

    suite: str
    metric: str
    label: str
    kind: str
    difference: float
    low: float
    high: float
    p_adjusted: float
    n: int
    """Independent units: tasks, near-duplicates counted once."""
    detectable: float | None
    tasks: int = 0
    """How many tasks these units hold; 0 where that is not known."""
    asked: int = 0
    """On how many tasks the metric was to be measured; 0 where that is not known."""
    lacking: tuple[int, int] = (0, 0)
    """Tasks on which the first and the second model lack a number."""
    notable: bool = False
    """Whether what is lacking is said first."""
    bounds: tuple[float, float] | None = None
    """Between which the difference over all tasks lies, whatever is missing holds; None where nothing is missing."""
    holds: bool = True
    """Whether the direction is shown even where every missing answer speaks against it."""

    @property
    def shown(self) -> int:
        """1 where the measured tasks show it to be better, −1 where they show it to be worse, else 0."""
        if self.n < MIN_TASKS or self.p_adjusted > ALPHA:
            return 0
        return (self.difference > 0) - (self.difference < 0)

    @property
    def direction(self) -> int:
        """`shown`, but 0 where the missing answers could take it away."""
        return self.shown if self.holds else 0

    @property
    def enough(self) -> bool:
        """Whether a worthwhile difference would have been found 4 times of 5, whatever the missing answers are."""
        if self.n < MIN_TASKS or self.detectable is None:
            return False
        unknown = 0.0 if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2
        return self.detectable + unknown <= WORTHWHILE


@dataclass(frozen=True)
class Setting:
    """What a verdict must know of its pair beside the numbers."""

    kinds: tuple[str, str] = ("base", TUNED)
    """Of the first and the second model, as in the manifest."""
    trainings: tuple[int, int] = (1, 1)
    worse_at: Sequence[str] = ()
    caveats: Sequence[str] = ()
    """Lines that stand before all other warnings."""
    transfer: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Suites whose held-out tasks are told from their training tasks, with the words for what they differ in."""
    unmeasured: Sequence[str] = ()
    """Primary metrics that no task has a number for on both sides."""

    @property
    def tuned_trainings(self) -> int:
        """How many trainings stand behind the tuned model of the pair, the fewer of two; 0 where none was tuned."""
        return min((n for kind, n in zip(self.kinds, self.trainings, strict=True) if kind == TUNED), default=0)


def word_of(findings: Sequence[Finding]) -> Word:
    """Return the one word that the rule gives these findings."""
    ups = any(finding.direction > 0 for finding in findings)
    downs = any(finding.direction < 0 for finding in findings)
    if ups and downs:
        return MIXED
    if ups or downs:
        return BETTER if ups else WORSE
    return NO_DIFFERENCE if any(finding.enough for finding in findings) else TOO_FEW


def points(scale: Scale) -> float:
    """Return the factor that turns a metric's numbers into points."""
    return 1.0 if scale == "percent" else 100.0


def findings_of(
    pairs: Mapping[str, Mapping[str, DifferenceEntry]], scorers: Mapping[str, ScorerEntry]
) -> list[Finding]:
    """Return the primary findings of one pair from its differences by suite and metric."""
    found = []
    for suite, metrics in pairs.items():
        for metric, entry in metrics.items():
            if not entry.primary or entry.p_adjusted is None:
                continue
            assert entry.difference is not None and entry.low is not None and entry.high is not None
            scorer, worst = scorers[metric], entry.worst_case
            by = points(scorer.scale)
            found.append(
                Finding(
                    suite=suite,
                    metric=metric,
                    label=scorer.label or metric,
                    kind=scorer.kind,
                    difference=entry.difference * by,
                    low=entry.low * by,
                    high=entry.high * by,
                    p_adjusted=entry.p_adjusted,
                    n=entry.n,
                    detectable=None if entry.detectable is None else entry.detectable * by,
                    tasks=entry.tasks or 0,
                    asked=entry.missing.asked,
                    lacking=(entry.missing.first, entry.missing.second),
                    notable=entry.missing.notable,
                    bounds=None if worst is None else (worst.low * by, worst.high * by),
                    holds=worst is None or worst.holds,
                )
            )
    return found


def verdict(pair: Pair, findings: Sequence[Finding], setting: Setting = Setting()) -> Verdict:
    """Return the verdict on one pair over these findings (of one suite or of several)."""
    from harness.compare import wording

    word = word_of(findings)
    form = [finding for finding in findings if finding.kind == "form"]
    content = [finding for finding in findings if finding.kind in CONTENT_KINDS]
    trainings = setting.tuned_trainings
    scope = "these models"
    if trainings:
        scope = "this adapter" if trainings == 1 else f"fine-tuning, {trainings} trainings"
    headline = wording.headline(*pair, word, findings, setting)
    return Verdict(
        pair=pair,
        word=word,
        headline=headline,
        sentence=f"{headline}: {wording.figures(word, findings, setting)}",
        form=_gain(form),
        content=_gain(content),
        gains=wording.gains(pair.second, form, content),
        scope=scope,
        trainings=max(setting.trainings),
        worse_at=tuple(setting.worse_at),
        warnings=tuple(wording.warnings(*pair, findings, setting)),
    )


def _gain(findings: Sequence[Finding]) -> Gain:
    if not findings:
        return Gain()
    entries = (
        FindingEntry(suite=f.suite, metric=f.metric, difference=f.difference, low=f.low, high=f.high) for f in findings
    )
    return Gain(word=word_of(findings), findings=tuple(entries))
