"""The whole content of summary.json from the rows of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from harness.compare import flips as flip
from harness.compare.corpus import CorpusFunction, corpus_function
from harness.compare.estimate import Estimated, Quantity, difference_of, estimate_all, mean_of
from harness.compare.multiplicity import adjust_for_primaries, holm
from harness.compare.resample import ALPHA, Resampler
from harness.compare.seeds import family, spread
from harness.compare.table import Table, build_table
from harness.compare.verdict import against_fewshot, findings_of, verdict
from harness.schema import SCHEMA
from harness.types import CONTROL_NAMES, Row

MIN_PART = 5
"""A category or difficulty with fewer tasks gets counts of flips, but no interval and no words."""

Scorers = Mapping[str, Mapping[str, Any]]
Tasks = Mapping[tuple[str, str], Mapping[str, Any]]
Pair = tuple[str, str]


def summarise(
    rows: Sequence[Row],
    scorers: Scorers,
    *,
    tasks: Tasks | None = None,
    pairs: Sequence[Pair] | None = None,
    seed: int = 0,
    replicates: int = 10_000,
    leaked: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:
    """Return the content of summary.json: means, paired differences, flips and the verdict.

    `rows` are rows of samples.jsonl, `scorers` the manifest's mapping of that name, `tasks` gives category and
    difficulty by (suite, task), `pairs` which models to hold against each other (first, second; trainings of one model
    by their family's name), `leaked` the flagged held-out tasks by suite, for a second reckoning without them. The same
    arguments give the same result, bit for bit, in whatever order the rows come.
    """
    rows = sorted(rows, key=lambda row: (row["suite"], row["task"], row["model"], row["sample"]))
    resampler = Resampler(seed, replicates)
    models = list(dict.fromkeys(family(row["model"]) for row in rows))
    chosen = [pair for pair in (pairs if pairs is not None else default_pairs(models)) if {*pair} <= {*models}]
    primary = primary_metrics(rows, scorers)
    functions = {m: corpus_function(m) for m, s in scorers.items() if s.get("corpus") and _has_counts(rows, m)}
    work = _Work(scorers, functions, primary, tasks, chosen, resampler)
    suites: dict[str, Any] = {}
    trainings: dict[str, int] = dict.fromkeys(models, 1)
    for suite in sorted({row["suite"] for row in rows}):
        table = build_table(suite, rows, scorers)
        for model, names in table.trainings.items():
            trainings[model] = max(trainings[model], len(names))
        suites[suite] = work.suite(table)
        flagged = sorted(set((leaked or {}).get(suite, ())) & set(table.tasks))
        suites[suite]["leaked"] = flagged
        if flagged and len(flagged) < len(table.tasks):
            suites[suite]["clean"] = work.numbers(build_table(suite, rows, scorers, without=flagged))
    adjust_for_primaries(suites)
    adjust_for_primaries({suite: content["clean"] for suite, content in suites.items() if "clean" in content})
    verdicts = _verdicts(suites, scorers, chosen, trainings)
    return {
        "schema": SCHEMA,
        "method": {
            "alpha": ALPHA,
            "seed": seed,
            "replicates": replicates,
            "correction": "Holm over the primary metrics of all suites, by pair; all other metrics are exploratory",
        },
        "primary": primary,
        "models": models,
        "trainings": trainings,
        "pairs": [":".join(pair) for pair in chosen],
        "suites": suites,
        "verdicts": verdicts,
        "verdict": _main_verdict(verdicts, chosen),
    }


def default_pairs(models: Sequence[str]) -> list[Pair]:
    """Return what is held against what: base, base-fewshot and tuned; else the first model against each other."""
    answering = [model for model in models if model not in CONTROL_NAMES]
    usual = [("base", "tuned"), ("base-fewshot", "tuned"), ("base", "base-fewshot")]
    found = [pair for pair in usual if {*pair} <= {*answering}]
    if found:
        others = [model for model in answering if model not in {"base", "base-fewshot", "tuned"}]
        lead = "base" if "base" in answering else "base-fewshot"
        return found + [(lead, model) for model in others]
    first = "base" if "base" in answering else next(iter(answering), "")
    return [(first, model) for model in answering if model != first]


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


class _Work:
    """What stays the same over all suites of one summary."""

    def __init__(
        self,
        scorers: Scorers,
        functions: Mapping[str, CorpusFunction],
        primary: Sequence[str],
        tasks: Tasks | None,
        pairs: Sequence[Pair],
        resampler: Resampler,
    ) -> None:
        self.scorers = scorers
        self.functions = functions
        self.primary = primary
        self.tasks = tasks
        self.pairs = pairs
        self.resampler = resampler

    def suite(self, table: Table) -> dict[str, Any]:
        """Return one suite's part of the summary."""
        return {
            "tasks": len(table.tasks),
            **self.numbers(table),
            "flips": self._flips(table),
            "parts": self._parts(table),
            "outcomes": {model: dict(sorted(count.items())) for model, count in table.outcomes.items()},
            "finish_reasons": {model: dict(sorted(count.items())) for model, count in table.finish_reasons.items()},
        }

    def numbers(self, table: Table) -> dict[str, Any]:
        """Return means and paired differences."""
        wanted: list[tuple[tuple[str, ...], Quantity, int]] = []
        for metric, scorer in self.scorers.items():
            scale, function = str(scorer["scale"]), self.functions.get(metric)
            for model in table.models:
                cells = table.cells.get((model, metric))
                if cells is not None:
                    wanted.append((("metrics", metric, model), mean_of(cells, scale, function), cells.unscored))
            for first, second in self.pairs:
                left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                if left is not None and right is not None:
                    quantity, dropped = difference_of(left, right, scale, function)
                    wanted.append((("pairs", f"{first}:{second}", metric), quantity, dropped))
        results = estimate_all([quantity for _, quantity, _ in wanted], self.resampler)
        out: dict[str, Any] = {"metrics": {}, "pairs": {f"{a}:{b}": {} for a, b in self.pairs}}
        for ((what, outer, inner), quantity, aside), result in zip(wanted, results, strict=True):
            if what == "metrics":
                entry = _mean_entry(result, aside)
                shares = flip.pass_at_k(table.cells[inner, outer]) if self._binary(outer) else {}
                entry |= {"pass_at": shares} if shares else {}
            else:
                entry = _difference_entry(result, aside, inner in self.primary)
            if quantity.by_seed:
                entry["seeds"] = spread(quantity.by_seed[-1])
            out[what].setdefault(outer, {})[inner] = entry
        return out

    def _binary(self, metric: str) -> bool:
        return bool(self.scorers[metric]["scale"] == "binary")

    def _labels(self, table: Table) -> dict[str, list[str]]:
        return {part: [flip.part_of(table.suite, t, part, self.tasks) for t in table.tasks] for part in flip.PARTS}

    def _flips(self, table: Table) -> dict[str, Any]:
        labels = self._labels(table)
        out: dict[str, Any] = {}
        for first, second in self.pairs:
            found = out.setdefault(f"{first}:{second}", {})
            for metric, scorer in self.scorers.items():
                left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                if left is None or right is None or not (self._binary(metric) or metric in self.primary):
                    continue
                found[metric] = flip.flips(left, right, str(scorer["scale"]), table.tasks, labels)
        return out

    def _parts(self, table: Table) -> dict[str, Any]:
        """Return differences of the primary metrics by category and by difficulty; exploratory."""
        wanted: list[tuple[tuple[str, str, str, str], Quantity]] = []
        for part, names in self._labels(table).items():
            labels = np.array(names)
            for name in sorted(set(names) - {""}):
                only = (labels == name).astype(np.float64)
                if only.sum() < MIN_PART:
                    continue
                for first, second in self.pairs:
                    for metric in self.primary:
                        left, right = table.cells.get((first, metric)), table.cells.get((second, metric))
                        if left is None or right is None:
                            continue
                        scale, function = str(self.scorers[metric]["scale"]), self.functions.get(metric)
                        quantity, _ = difference_of(left, right, scale, function, only)
                        wanted.append(((f"{first}:{second}", part, name, metric), quantity))
        results = estimate_all([quantity for _, quantity in wanted], self.resampler)
        out: dict[str, Any] = {f"{a}:{b}": {part: {} for part in flip.PARTS} for a, b in self.pairs}
        for ((pair, part, name, metric), _), result in zip(wanted, results, strict=True):
            entry = {
                "difference": result.value,
                "low": result.low,
                "high": result.high,
                "p": result.p,
                "p_adjusted": None,
                "n": result.n,
            }
            out[pair][part].setdefault(name, {})[metric] = entry
        for by_part in out.values():
            for names in by_part.values():
                holm([entry for metrics in names.values() for entry in metrics.values()])
        return out


def _mean_entry(result: Estimated, unscored: int) -> dict[str, Any]:
    return {
        "mean": result.value,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "unscored": unscored,
        "method": result.method,
    }


def _difference_entry(result: Estimated, dropped: int, primary: bool) -> dict[str, Any]:
    return {
        "difference": result.value,
        "low": result.low,
        "high": result.high,
        "p": result.p,
        "p_adjusted": None,
        "n": result.n,
        "dropped": dropped,
        "primary": primary,
        "effect": result.effect,
        "detectable": result.detectable,
        "method": result.method,
    }


def _verdicts(
    suites: Mapping[str, dict[str, Any]], scorers: Scorers, pairs: Sequence[Pair], trainings: Mapping[str, int]
) -> dict[str, Any]:
    """Return the verdict on each pair over all suites; those by suite are set in `suites`."""
    out: dict[str, Any] = {}
    for first, second in pairs:
        pair = f"{first}:{second}"
        number = max(trainings[first], trainings[second])
        every, weak = [], []
        for suite, content in suites.items():
            findings = findings_of({suite: content["pairs"][pair]}, scorers)
            worse = _worse_at(content["parts"][pair]["category"])
            content.setdefault("verdicts", {})[pair] = verdict(first, second, findings, number, worse)
            every += findings
            weak += [name for name in worse if name not in weak]
        out[pair] = verdict(first, second, every, number, weak)
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


def _main_verdict(verdicts: Mapping[str, Any], pairs: Sequence[Pair]) -> dict[str, Any] | None:
    if not pairs:
        return None
    main = dict(verdicts[":".join(pairs[0])])
    main["fewshot"] = against_fewshot(verdicts, pairs[0][1])
    return main


__all__ = ["default_pairs", "primary_metrics", "summarise"]
