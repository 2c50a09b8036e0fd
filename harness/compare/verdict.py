"""The verdict in words. The rule is stated in docs/statistics.md and rests on the primary metrics alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.compare.resample import ALPHA

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
    detectable: float | None

    @property
    def direction(self) -> int:
        """1 where shown to be better, −1 where shown to be worse, else 0."""
        if self.n < MIN_TASKS or self.p_adjusted > ALPHA:
            return 0
        return (self.difference > 0) - (self.difference < 0)

    @property
    def enough(self) -> bool:
        """Whether a worthwhile difference would have been found 4 times of 5."""
        return self.n >= MIN_TASKS and self.detectable is not None and self.detectable <= WORTHWHILE

    @property
    def words(self) -> str:
        """The numbers of this finding."""
        return f"{self.label} {signed(self.difference)} points (95 % interval {plain(self.low)} to {plain(self.high)})"


def points(scale: str) -> float:
    """Return the factor that turns a metric's numbers into points."""
    return 1.0 if scale == "percent" else 100.0


def signed(value: float) -> str:
    """Return a number of points with its sign: one decimal below ten, none above."""
    text = plain(value)
    return text if text.startswith("−") or float(text) == 0 else "+" + text


def plain(value: float) -> str:
    """Return a number of points with a proper minus."""
    rounded = round(value, 1 if abs(value) < 9.95 else 0) + 0.0
    text = f"{rounded:.1f}".removesuffix(".0") if abs(value) < 9.95 else f"{rounded:.0f}"
    return text.replace("-", "−")


def word_of(findings: Sequence[Finding]) -> str:
    """Return the one word that the rule gives these findings."""
    ups = any(finding.direction > 0 for finding in findings)
    downs = any(finding.direction < 0 for finding in findings)
    if ups and downs:
        return MIXED
    if ups or downs:
        return BETTER if ups else WORSE
    return NO_DIFFERENCE if any(finding.enough for finding in findings) else TOO_FEW


def findings_of(pairs: Mapping[str, Mapping[str, Any]], scorers: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return the primary findings of one pair from `pairs`: {suite: {metric: entry of summary.json}}."""
    found = []
    for suite, metrics in pairs.items():
        for metric, entry in metrics.items():
            if not entry.get("primary") or entry["p_adjusted"] is None:
                continue
            scorer = scorers[metric]
            by = points(str(scorer["scale"]))
            reach = entry.get("detectable")
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
                )
            )
    return found


def verdict(
    first: str, second: str, findings: Sequence[Finding], trainings: int, worse_at: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the verdict on one pair over these findings (of one suite or of several)."""
    word = word_of(findings)
    form = [finding for finding in findings if finding.kind == "form"]
    content = [finding for finding in findings if finding.kind in CONTENT_KINDS]
    scope = "this adapter" if trainings == 1 else f"fine-tuning, {trainings} trainings"
    sentence = _sentence(first, second, word, findings)
    if worse_at:
        sentence += f" Worse at {', '.join(worse_at)}."
    return {
        "pair": f"{first}:{second}",
        "word": word,
        "sentence": sentence,
        "form": _part(form),
        "content": _part(content),
        "gains": _gains(second, form, content),
        "scope": scope if second.startswith("tuned") else "these models",
        "trainings": trainings,
        "worse_at": list(worse_at),
        "warnings": _warnings(findings, trainings if second.startswith("tuned") else 2),
    }


def _part(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "word": word_of(findings) if findings else "not measured",
        "findings": [
            {"suite": f.suite, "metric": f.metric, "difference": f.difference, "low": f.low, "high": f.high}
            for f in findings
        ],
    }


def _sentence(first: str, second: str, word: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return f"Too few tasks to tell {second} from {first}: no primary metric has a number on both sides."
    suites = list(dict.fromkeys(finding.suite for finding in findings))
    shown = [f for f in findings if f.direction] if word in {BETTER, WORSE, MIXED} else list(findings)
    rest = [f for f in findings if f not in shown]
    where = f" on {suites[0]}" if len(suites) == 1 else ""
    head = {
        BETTER: f"{second} beats {first}{where}",
        WORSE: f"{second} is worse than {first}{where}",
        MIXED: f"{second} against {first}{where} is mixed",
        NO_DIFFERENCE: f"No difference shown between {second} and {first}{where}",
        TOO_FEW: f"Too few tasks to tell {second} from {first}{where}",
    }[word]
    text = f"{head}: {_numbers(shown, len(suites) > 1)}"
    if rest:
        text += f"; no difference shown in {_numbers(rest, len(suites) > 1)}"
    if word in {NO_DIFFERENCE, TOO_FEW}:
        text += "; " + _reach(findings)
    return text + "."


def _numbers(findings: Sequence[Finding], with_suite: bool) -> str:
    return ", ".join(f"{f.suite}: {f.words}" if with_suite else f.words for f in findings)


def _reach(findings: Sequence[Finding]) -> str:
    n = max(finding.n for finding in findings)
    tasks = f"{n} task{'' if n == 1 else 's'}"
    reaches = [f.detectable for f in findings if f.detectable is not None]
    if n < MIN_TASKS:
        return f"{tasks}, and nothing is claimed below {MIN_TASKS}"
    if not reaches:
        return f"{tasks}, too few for any difference to be found reliably"
    return f"{tasks}, which find a difference of {plain(min(reaches))} points or more 4 times of 5"


def _gains(second: str, form: Sequence[Finding], content: Sequence[Finding]) -> str:
    """Say whether the pages are better formed, better in content, or both."""
    if not form or not content:
        missing = "form" if not form else "content"
        return f"No primary metric of {missing} was measured, so gains of form and content cannot be told apart."
    of_form, of_content = word_of(form), word_of(content)
    if of_form == BETTER and of_content == BETTER:
        return f"{second} gains in form and in content."
    if of_form == BETTER:
        return f"{second} gains in form only: its content is {_as_clause(of_content)}."
    if of_content == BETTER:
        return f"{second} gains in content only: its form is {_as_clause(of_form)}."
    return f"No gain shown: form is {_as_clause(of_form)}, content is {_as_clause(of_content)}."


def _as_clause(word: str) -> str:
    return {NO_DIFFERENCE: "not shown to differ", TOO_FEW: "measured on too few tasks to tell"}.get(word, word)


def _warnings(findings: Sequence[Finding], trainings: int) -> list[str]:
    out = []
    fewest = min((finding.n for finding in findings), default=0)
    if findings and fewest < SURE_TASKS:
        out.append(f"Only {fewest} tasks: below {SURE_TASKS} the intervals are less sure than 95 % says.")
    if trainings == 1:
        out.append("One training: the numbers speak of this adapter, not of fine-tuning.")
    return out


def against_fewshot(verdicts: Mapping[str, Mapping[str, Any]], second: str) -> str | None:
    """Return the sentence that holds `second` against the base model with examples in its prompt; None without it."""
    plain_base, shot = verdicts.get(f"base:{second}"), verdicts.get(f"base-fewshot:{second}")
    if shot is None:
        return None
    text = f"Against base-fewshot, which a user gets without training: {shot['sentence']}"
    if plain_base is not None and plain_base["word"] == BETTER and shot["word"] != BETTER:
        text += " So the gain over base is not shown to be more than two examples in the prompt give."
    return text
