"""Rules that a comparison must keep, for continuous integration."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.compare.missing import COMPLETE_SHARE
from harness.compare.resample import ALPHA
from harness.compare.verdict import BETTER, MIXED, NO_DIFFERENCE, TOO_FEW, WORSE
from harness.errors import UsageError, did_you_mean
from harness.runs.pairs import Pair
from harness.runs.summary import DifferenceEntry, MeanEntry, SuiteSummary, Summary
from harness.storage.yaml import read_yaml
from harness.types import SUITE_NAME

if TYPE_CHECKING:
    from harness.compare.runs import AcrossRuns

DEFAULT_RULES = ("no primary worse",)
NO_RULE = "at least one rule"
EVERY_PRIMARY = "every primary metric compared"
MOST_TASKS = "nine tenths of the tasks compared"
AS_MANY = "numbers missing on as many tasks of both, and on few"
"""What holds beside the rules asked for; the last one beside the default rule alone."""
WORDS = (BETTER, WORSE, MIXED, NO_DIFFERENCE, TOO_FEW)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_ROUNDING = 1e-12
_OF_MEAN = {"mean", "mean_low", "mean_high", "unscored"}
_OF_PAIR = {"difference", "low", "high", "p", "p_adjusted", "n", "dropped"}
_NO_WORSE = re.compile(rf"no (\w+)(?:@({SUITE_NAME}))? worse")
_VERDICT = re.compile(rf"verdict(?:@({SUITE_NAME}))? is (not )?([a-z ]+)")
_NUMBER = re.compile(rf"(\w+)(?:@({SUITE_NAME}))? (\w+) *(>=|<=|==|>|<) *([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")


@dataclass(frozen=True)
class Check:
    """Whether one rule held for one suite and metric."""

    rule: str
    suite: str
    metric: str
    passed: bool
    detail: str


def read_rules(text: str | None) -> tuple[str, ...]:
    """Return the rules of `--gate`: none is the default rule, else a YAML file (a list, or `rules:`) or "rule; rule".

    Raises:
        UsageError: the file is no list of rules.
    """
    if not text or not text.strip():
        return DEFAULT_RULES
    path = Path(text)
    if path.suffix in {".yaml", ".yml"}:
        return _rules_of_file(path)
    return tuple(rule.strip() for rule in text.split(";") if rule.strip())  # none at all fails in `gate`


def _rules_of_file(path: Path) -> tuple[str, ...]:
    rules = read_yaml(path)
    if isinstance(rules, Mapping):
        other = next((str(key) for key in rules if key != "rules"), None)
        if other is not None:
            raise UsageError(f"{path} has the key '{other}', which holds no rules", did_you_mean(other, ["rules"]))
        rules = rules.get("rules")
    if not isinstance(rules, list) or not rules or not all(isinstance(rule, str) for rule in rules):
        raise UsageError(f"{path} holds no list of rules", "write a list, one rule a line: - no primary worse")
    return tuple(rules)


def gate_runs(result: AcrossRuns, rules: Sequence[str] = DEFAULT_RULES) -> list[Check]:
    """Hold a comparison of two runs against the rules, and against what of the runs could not be compared.

    Raises:
        UsageError: a rule is not understood.
    """
    return gate(
        result.summary,
        rules,
        result.pair,
        left_out=result.left_out_metrics,
        left_out_primary=result.left_out_primary,
        left_out_tasks=result.left_out_by_suite,
    )


def gate(
    summary: Summary,
    rules: Sequence[str] = DEFAULT_RULES,
    pair: Pair | None = None,
    *,
    left_out: Mapping[str, str] | None = None,
    left_out_primary: Sequence[str] = (),
    left_out_tasks: Mapping[str, int] | None = None,
) -> list[Check]:
    """Hold a summary against the rules and return one check for each rule, suite and metric that it speaks of.

    What is absent never passes: beside the rules asked for, every primary metric must have been compared, on nine
    tenths of the tasks or more, and there must be a rule. `pair` defaults to the pair of the summary's verdict;
    `left_out` says why a metric could not be compared, `left_out_primary` which of these are primary, `left_out_tasks`
    how many tasks of each suite only one side has.

    Raises:
        UsageError: a rule is not understood, or the summary compares no models.
    """
    pair = pair or (summary.verdict.pair if summary.verdict else None)
    if pair is None or pair not in summary.pairs:
        known = [str(one) for one in summary.pairs]
        raise UsageError("there is no pair of models to hold the gate against", did_you_mean(str(pair or ""), known))
    if not rules:
        return [Check(NO_RULE, "", "rules", False, "no rule was given")]
    absent, unshared = left_out or {}, left_out_tasks or {}
    checks = [check for rule in rules for check in _apply(rule.strip(), summary, pair, absent, unshared)]
    return checks + _completeness(summary, pair, rules, {m: absent[m] for m in left_out_primary}, unshared)


def _completeness(
    summary: Summary,
    pair: Pair,
    rules: Sequence[str],
    left_out: Mapping[str, str],
    left_out_tasks: Mapping[str, int],
) -> list[Check]:
    """Check that what the verdict rests on was compared at all, and on how many of the tasks."""
    checks = [Check(EVERY_PRIMARY, "", metric, False, f"left out: {why}") for metric, why in left_out.items()]
    for suite in dict.fromkeys([*summary.suites, *left_out_tasks]):
        absent = left_out_tasks.get(suite, 0)
        entries = summary.suites.get(suite, SuiteSummary()).pairs.get(pair, {})
        primaries = {metric: entry for metric, entry in entries.items() if entry.primary}
        if not primaries:
            checks.append(Check(MOST_TASKS, suite, "tasks", False, "no task was compared on a primary metric"))
        for metric, entry in primaries.items():
            tasks = entry.tasks or 0
            asked = tasks + entry.dropped + absent
            detail = f"{tasks} of {asked} tasks"
            checks.append(Check(MOST_TASKS, suite, metric, tasks >= COMPLETE_SHARE * asked, detail))
            lacking = entry.missing
            if lacking.notable and set(rules) & set(DEFAULT_RULES):
                detail = f"no number on {lacking.first} and {lacking.second} of {lacking.asked} tasks"
                checks.append(Check(AS_MANY, suite, metric, False, detail))
    return checks


def _apply(
    rule: str,
    summary: Summary,
    pair: Pair,
    absent: Mapping[str, str],
    left_out_tasks: Mapping[str, int],
) -> list[Check]:
    match = _NO_WORSE.fullmatch(rule) or _VERDICT.fullmatch(rule) or _NUMBER.fullmatch(rule)
    if match is None:
        hint = "write `no primary worse`, `verdict is better` or `conforming difference >= 0.05`"
        raise UsageError(f"the rule '{rule}' is not understood", hint)
    verdict = match.re is _VERDICT
    metric, suite = ("verdict", match[1]) if verdict else (match[1], match[2])
    if suite in left_out_tasks and suite not in summary.suites:
        return [
            Check(
                rule, suite, metric, False, "left out: only one side measured it, or with other prompts or references"
            )
        ]
    if metric in absent:
        return [Check(rule, suite or "", metric, False, f"left out: {absent[metric]}")]
    if verdict:
        return [_verdict_is(rule, match, summary, pair)]
    if match.re is _NO_WORSE:
        return _no_worse(rule, metric, suite, summary, pair)
    return _number(rule, match, summary, pair)


def _suites(summary: Summary, wanted: str | None) -> dict[str, SuiteSummary]:
    suites = summary.suites
    if wanted is None:
        return suites
    if wanted not in suites:
        raise UsageError(f"a rule names the suite '{wanted}'", did_you_mean(wanted, suites))
    return {wanted: suites[wanted]}


def _known_metric(metric: str, summary: Summary) -> None:
    known = {name for suite in summary.suites.values() for name in suite.metrics}
    if metric not in known:
        raise UsageError(f"a rule names the metric '{metric}'", did_you_mean(metric, known))


def _no_worse(rule: str, metric: str, suite: str | None, summary: Summary, pair: Pair) -> list[Check]:
    primary = metric == "primary"
    if not primary:
        _known_metric(metric, summary)
    checks = []
    for name, content in _suites(summary, suite).items():
        for found, entry in content.pairs.get(pair, {}).items():
            if not (entry.primary if primary else found == metric):
                continue
            p = entry.p_adjusted if primary else entry.p
            worse = p is not None and p <= ALPHA and (entry.difference or 0.0) < 0
            detail = _words(entry, p) if p is not None else "not measured"
            checks.append(Check(rule, name, found, p is not None and not worse, detail))
    return checks or [Check(rule, suite or "", metric, False, "not measured")]


def _verdict_is(rule: str, match: re.Match[str], summary: Summary, pair: Pair) -> Check:
    suite, negated, word = match[1], bool(match[2]), match[3].strip()
    if word not in WORDS:
        raise UsageError(f"a rule names the verdict '{word}'", did_you_mean(word, WORDS))
    verdicts = summary.verdicts if suite is None else _suites(summary, suite)[suite].verdicts
    verdict = verdicts[pair]
    return Check(rule, suite or "", "verdict", (verdict.word == word) != negated, verdict.sentence)


def _number(rule: str, match: re.Match[str], summary: Summary, pair: Pair) -> list[Check]:
    metric, suite, field, sign, limit = match[1], match[2], match[3], match[4], float(match[5])
    if field not in _OF_MEAN | _OF_PAIR:
        raise UsageError(f"a rule asks for '{field}'", did_you_mean(field, _OF_MEAN | _OF_PAIR))
    _known_metric(metric, summary)
    checks = []
    for name, content in _suites(summary, suite).items():
        entry: MeanEntry | DifferenceEntry | None
        if field in _OF_MEAN:
            entry = content.metrics.get(metric, {}).get(pair.second)
        else:
            entry = content.pairs.get(pair, {}).get(metric)
        if entry is None:
            continue
        value: float | None = getattr(entry, field.removeprefix("mean_"))
        held = value is not None and _OPERATORS[sign](_snapped(value, limit, field), limit)
        checks.append(Check(rule, name, metric, held, f"{field} {'not measured' if value is None else f'{value:.4g}'}"))
    return checks or [Check(rule, suite or "", metric, False, "not measured")]


def _snapped(value: float, limit: float, field: str) -> float:
    """Return the limit itself where only the rounding of sums keeps a value from it: 0.8 − 0.7 is 0.1 to a reader."""
    tiny = 0.0 if field in {"p", "p_adjusted"} else _ROUNDING
    return limit if math.isclose(value, limit, rel_tol=_ROUNDING, abs_tol=tiny) else value


def _words(entry: DifferenceEntry, p: float) -> str:
    return (
        f"difference {entry.difference:+.4g} (95 % interval {entry.low:.4g} to {entry.high:.4g}), "
        f"p {p:.3g}, {entry.n} tasks"
    )
