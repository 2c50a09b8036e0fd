"""The verdict: its rule, stated in docs/statistics.md, rests on the primary metrics alone; `wording` says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.compare.resample import ALPHA
from harness.runs.pairs import TUNED

BETTER, WORSE, MIXED = "better", "worse", "mixed"
NO_DIFFERENCE, TOO_FEW = "no difference shown", "too few tasks to tell"

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


def word_of(findings: Sequence[Finding]) -> str:
    """Return the one word that the rule gives these findings."""
    ups = any(finding.direction > 0 for finding in findings)
    downs = any(finding.direction < 0 for finding in findings)
    if ups and downs:
        return MIXED
    if ups or downs:
        return BETTER if ups else WORSE
    return NO_DIFFERENCE if any(finding.enough for finding in findings) else TOO_FEW


def points(scale: str) -> float:
    """Return the factor that turns a metric's numbers into points."""
    return 1.0 if scale == "percent" else 100.0


def findings_of(pairs: Mapping[str, Mapping[str, Any]], scorers: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return the primary findings of one pair from `pairs`: {suite: {metric: entry of summary.json}}."""
    found = []
    for suite, metrics in pairs.items():
        for metric, entry in metrics.items():
            if not entry.get("primary") or entry["p_adjusted"] is None:
                continue
            scorer = scorers[metric]
            by = points(str(scorer["scale"]))
            reach, missing, worst = entry.get("detectable"), entry.get("missing") or {}, entry.get("worst_case")
            found.append(
                Finding(
                    suite,
                    metric,
                    str(scorer.get("label") or metric),
                    str(scorer["kind"]),
                    entry["difference"] * by,
                    entry["low"] * by,
                    entry["high"] * by,
                    entry["p_adjusted"],
                    entry["n"],
                    None if reach is None else reach * by,
                    entry.get("tasks", 0),
                    missing.get("asked", 0),
                    (missing.get("first", 0), missing.get("second", 0)),
                    missing.get("notable", False),
                    None if worst is None else (worst["low"] * by, worst["high"] * by),
                    worst is None or worst["holds"],
                )
            )
    return found


def verdict(first: str, second: str, findings: Sequence[Finding], setting: Setting = Setting()) -> dict[str, Any]:
    """Return the verdict on one pair over these findings (of one suite or of several)."""
    from harness.compare import wording

    word = word_of(findings)
    form = [finding for finding in findings if finding.kind == "form"]
    content = [finding for finding in findings if finding.kind in CONTENT_KINDS]
    trainings = setting.tuned_trainings
    scope = "these models"
    if trainings:
        scope = "this adapter" if trainings == 1 else f"fine-tuning, {trainings} trainings"
    return {
        "pair": f"{first}:{second}",
        "word": word,
        "sentence": wording.sentence(first, second, word, findings, setting),
        "form": _part(form),
        "content": _part(content),
        "gains": wording.gains(second, form, content),
        "scope": scope,
        "trainings": max(setting.trainings),
        "worse_at": list(setting.worse_at),
        "warnings": wording.warnings(first, second, findings, setting),
    }


def _part(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "word": word_of(findings) if findings else "not measured",
        "findings": [
            {"suite": f.suite, "metric": f.metric, "difference": f.difference, "low": f.low, "high": f.high}
            for f in findings
        ],
    }
