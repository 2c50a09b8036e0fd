"""The whole content of summary.json from the rows of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.compare.corpus import corpus_function
from harness.compare.multiplicity import adjust_for_primaries, holm
from harness.compare.resample import ALPHA, Resampler
from harness.compare.suite_numbers import Pair, Scorers, SuiteNumbers
from harness.compare.table import Tasks, build_table
from harness.compare.verdict import Setting, findings_of, points, verdict
from harness.compare.wording import against_fewshot, caveats_of_suites, joined, plain
from harness.runs.model_name import family
from harness.runs.pairs import CONTROL, described, kinds_of, pairs_to_compare
from harness.runs.schema import SCHEMA
from harness.types import Row

_SEED = 0
"""Of the resampling: the same rows give the same intervals."""


@dataclass(frozen=True)
class Described:
    """What a run's manifest says of what was measured."""

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """A model's kind decides the words."""
    suites: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """A suite's `shift` and `reach` are said."""
    leaked: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The flagged held-out tasks by suite, for a second computation without them."""


def summarise(
    rows: Sequence[Row],
    scorers: Scorers,
    *,
    tasks: Tasks | None = None,
    pairs: Sequence[Pair] | None = None,
    replicates: int = 10_000,
    about: Described | None = None,
) -> dict[str, Any]:
    """Return the content of summary.json: means, paired differences, flips and the verdict.

    `rows` are rows of samples.jsonl; `scorers` the manifest's mapping of this name; `tasks` gives category, difficulty
    and group of near-duplicates by (suite, task), `pairs` which models to hold against each other (first, second;
    trainings of one model by their family's name), `about` what else the manifest says of models and suites. The same
    arguments give the same result, bit for bit, in whatever order the rows come.
    """
    about = about or Described()
    rows = sorted(rows, key=lambda row: (row["suite"], row["task"], row["model"], row["sample"]))
    names = list(dict.fromkeys(family(row["model"]) for row in rows))
    kinds = kinds_of(described(names, about.models)) | kinds_of(about.models)
    chosen = pairs if pairs is not None else pairs_to_compare(about.models or described(names, None))
    chosen = [pair for pair in chosen if {*pair} <= {*names}]
    primary = primary_metrics(rows, scorers)
    functions = {m: corpus_function(m) for m, s in scorers.items() if s.get("corpus") and _has_counts(rows, m)}
    work = SuiteNumbers(scorers, functions, primary, tasks, chosen, Resampler(_SEED, replicates))
    found: dict[str, Any] = {}
    failures: dict[str, dict[str, dict[str, Any]]] = {}
    trainings: dict[str, int] = dict.fromkeys(names, 1)
    for suite in sorted({row["suite"] for row in rows}):
        table = build_table(suite, rows, scorers, tasks_file=tasks)
        for model, of_model in table.trainings.items():
            trainings[model] = max(trainings[model], len(of_model))
        found[suite] = work.suite(table)
        failures[suite] = work.as_failures(table)
        flagged = sorted(set(about.leaked.get(suite, ())) & set(table.tasks))
        found[suite]["leaked"] = flagged
        if flagged and len(flagged) < len(table.tasks):
            clean = build_table(suite, rows, scorers, without=flagged, tasks_file=tasks)
            found[suite]["clean"] = work.numbers(clean)
    adjust_for_primaries(found)
    adjust_for_primaries({suite: content["clean"] for suite, content in found.items() if "clean" in content})
    verdicts = _Verdicts(found, failures, scorers, kinds, trainings, about.suites, primary).all(chosen)
    return {
        "schema": SCHEMA,
        "method": {
            "alpha": ALPHA,
            "seed": _SEED,
            "replicates": replicates,
            "correction": "Holm over the primary metrics of all suites, by pair; all other metrics are exploratory",
        },
        "primary": primary,
        "models": names,
        "trainings": trainings,
        "pairs": [":".join(pair) for pair in chosen],
        "suites": found,
        "verdicts": verdicts,
        "verdict": _main_verdict(verdicts, chosen, kinds),
    }


def primary_metrics(rows: Sequence[Row], scorers: Scorers) -> list[str]:
    """Return the metrics that verdict and gate rest on: those marked so.

    Where no row has a number for `conforming` (the Nu Html Checker is not installed), `well_formed` takes its place.
    """
    marked = [metric for metric, scorer in scorers.items() if scorer.get("primary")]
    if "conforming" in marked and "well_formed" in scorers and "well_formed" not in marked:
        measured = any(row["scores"].get("conforming") is not None for row in rows)
        marked = marked if measured else ["well_formed" if m == "conforming" else m for m in marked]
    return marked


def _has_counts(rows: Sequence[Row], metric: str) -> bool:
    return any((row.get("counts") or {}).get(metric) is not None for row in rows)


_OF_MISSING = {"missing", "worst_case"}


@dataclass(frozen=True)
class _Verdicts:
    """The verdicts of one summary: what they need beside the differences."""

    suites: Mapping[str, dict[str, Any]]
    failures: Mapping[str, Mapping[str, Mapping[str, Any]]]
    scorers: Scorers
    kinds: Mapping[str, str]
    trainings: Mapping[str, int]
    about: Mapping[str, Mapping[str, Any]]
    primary: Sequence[str]

    def all(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Return the verdict on each pair over all suites; those by suite are set in the suites."""
        out: dict[str, Any] = {}
        for first, second in pairs:
            pair = f"{first}:{second}"
            for suite, content in self.suites.items():
                content.setdefault("verdicts", {})[pair] = self._of(first, second, [suite])
            out[pair] = self._of(first, second, list(self.suites))
        return out

    def _of(self, first: str, second: str, suites: Sequence[str]) -> dict[str, Any]:
        pair = f"{first}:{second}"
        differences = {suite: self.suites[suite]["pairs"][pair] for suite in suites}
        weak = [name for suite in suites for name in _worse_at(self.suites[suite]["parts"][pair]["category"])]
        about = {suite: self.about.get(suite, {}) for suite in suites}
        setting = Setting(
            kinds=(self.kinds[first], self.kinds[second]),
            trainings=(self.trainings[first], self.trainings[second]),
            worse_at=list(dict.fromkeys(weak)),
            transfer={
                suite: [str(word) for word in entry["shift"].get("differs_in") or ()]
                for suite, entry in about.items()
                if (entry.get("shift") or {}).get("told_apart")
            },
            unmeasured=self._unmeasured(pair, suites),
        )
        caveats = [
            *self._as_failures(first, second, suites, setting),
            *caveats_of_suites(about),
            *self._controls_above(pair, suites),
        ]
        findings = findings_of(differences, self.scorers)
        return verdict(first, second, findings, replace(setting, caveats=caveats))

    def _label(self, metric: str) -> str:
        return str(self.scorers[metric].get("label") or metric)

    def _unmeasured(self, pair: str, suites: Sequence[str]) -> list[str]:
        """Name primary metrics that apply to a suite's tasks and have no number on both sides for any of them."""
        return [
            self._label(metric) + (f" on {suite}" if len(suites) > 1 else "")
            for suite in suites
            for metric, entry in self.suites[suite]["pairs"][pair].items()
            if entry["primary"] and entry["n"] == 0 and entry["missing"]["asked"]
        ]

    def _as_failures(self, first: str, second: str, suites: Sequence[str], setting: Setting) -> list[str]:
        """Return the verdict as it were with the pages that could not be measured counted as failures."""
        pair = f"{first}:{second}"
        counted = {suite: self.failures[suite][pair] for suite in suites if pair in self.failures[suite]}
        if not counted:
            return []
        differences: dict[str, dict[str, Any]] = {}
        for suite in suites:
            before = self.suites[suite]["pairs"][pair]
            differences[suite] = {
                # answers that never came stay missing, with the bounds that they had
                metric: {**e, **{k: before[metric][k] for k in _OF_MISSING & before[metric].keys()}}
                if e.get("others_missing")
                else e
                for metric, e in counted.get(suite, before).items()
            }
        entries = [{**e, "p_adjusted": None} for metrics in differences.values() for e in metrics.values()]
        holm([entry for entry in entries if entry["primary"]])
        again = iter(entries)
        differences = {s: {metric: next(again) for metric in metrics} for s, metrics in differences.items()}
        pages = [max(e["overran"][side] for metrics in counted.values() for e in metrics.values()) for side in (0, 1)]
        said = verdict(first, second, findings_of(differences, self.scorers), setting)["sentence"]
        return [
            f"Pages that could not be measured: {pages[0]} of {first}, {pages[1]} of {second}. "
            f"Counted as failures: {said}"
        ]

    def _controls_above(self, pair: str, suites: Sequence[str]) -> list[str]:
        """Name the controls whose mean stands above both models' on a primary metric; the reference always does."""
        out = []
        for suite in suites:
            above: dict[str, list[str]] = {}
            for metric, entry in self.suites[suite]["pairs"][pair].items():
                if not entry["primary"] or entry["sides"] is None:
                    continue
                by = points(str(self.scorers[metric]["scale"]))
                for model, mean in self.suites[suite]["metrics"][metric].items():
                    if self.kinds[model] != CONTROL or model == "reference" or model in pair.split(":"):
                        continue
                    if mean["mean"] is not None and mean["mean"] > max(entry["sides"]) + 1e-9:
                        sides = " and ".join(plain(side * by) for side in entry["sides"])
                        above.setdefault(model, []).append(
                            f"{self._label(metric)} ({plain(mean['mean'] * by)} against {sides})"
                        )
            if above:
                said = "; ".join(f"{model} in {joined(metrics)}" for model, metrics in above.items())
                where = f" on {suite}" if len(suites) > 1 else ""
                out.append(f"Pages that no model wrote for the task stand above both models{where}: {said}.")
        return out


def _worse_at(categories: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the categories where a primary metric is lower, after Holm over all categories and primary metrics."""
    return [
        name
        for name, metrics in categories.items()
        if any(
            e["p_adjusted"] is not None and e["p_adjusted"] <= ALPHA and e["difference"] < 0 for e in metrics.values()
        )
    ]


def _main_verdict(
    verdicts: Mapping[str, Any], pairs: Sequence[Pair], kinds: Mapping[str, str]
) -> dict[str, Any] | None:
    if not pairs:
        return None
    main = dict(verdicts[":".join(pairs[0])])
    main["fewshot"] = against_fewshot(verdicts, pairs[0][1], kinds)
    return main


__all__ = ["Described", "primary_metrics", "summarise"]
