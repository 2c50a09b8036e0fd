"""Made-up rows as `run` writes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from harness.compare import Described
from harness.compare import summarise as summary_of
from harness.compare.gate import Check
from harness.compare.gate import gate as gate_of
from harness.runs.manifest import ModelEntry, ScorerEntry, SuiteEntry
from harness.runs.pairs import Pair
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord
from harness.runs.summary import Summary
from harness.types import sha256

Row = dict[str, Any]
"""A line of samples.jsonl."""

SCORERS: dict[str, dict[str, Any]] = {
    "extracted": {
        "version": 1,
        "label": "Page found",
        "kind": "form",
        "scale": "binary",
        "primary": False,
        "corpus": False,
    },
    "well_formed": {
        "version": 1,
        "label": "Well-formed",
        "kind": "form",
        "scale": "binary",
        "primary": False,
        "corpus": False,
    },
    "conforming": {
        "version": 1,
        "label": "Conforming",
        "kind": "form",
        "scale": "binary",
        "primary": True,
        "corpus": False,
    },
    "checks_must": {
        "version": 1,
        "label": "Checks",
        "kind": "content",
        "scale": "share",
        "primary": True,
        "corpus": False,
    },
    "chrf": {
        "version": 1,
        "label": "chrF",
        "kind": "similarity",
        "scale": "percent",
        "primary": False,
        "corpus": False,
    },
    "bleu_dom": {
        "version": 1,
        "label": "DOM BLEU",
        "kind": "similarity",
        "scale": "percent",
        "primary": True,
        "corpus": True,
    },
}

CATEGORIES = ("form", "table", "text")


def make_rows(
    tasks: int,
    models: Sequence[str] = ("base", "tuned"),
    *,
    gain: float = 0.0,
    samples: int = 1,
    seed: int = 0,
    suite: str = "starter",
) -> list[Row]:
    """Rows as `run` writes them; every model but base passes with `gain` more probability."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(tasks):
        task, length = f"{suite}-{number:04d}", int(random.integers(40, 300))
        for model in models:
            chance = 0.4 + (0 if model == "base" else gain)
            for sample in range(samples):
                totals = [length - order for order in range(4)]
                shares = (chance * random.beta(8, 2, 4)).cumprod()
                correct = [int(total * share) for total, share in zip(totals, shares, strict=True)]
                rows.append(
                    {
                        "schema": 1,
                        "suite": suite,
                        "task": task,
                        "model": model,
                        "sample": sample,
                        "prompt_sha": sha256(task),
                        "scores": {
                            "extracted": 1,
                            "well_formed": int(random.random() < chance),
                            "conforming": int(random.random() < chance),
                            "checks_must": float(random.binomial(4, chance)) / 4,
                            "chrf": float(100 * random.beta(3 * chance, 3 * (1 - chance))),
                            "bleu_dom": 50.0,
                        },
                        "counts": {"bleu_dom": [length, length, *correct, *totals]},
                        "outcome": "ok",
                        "finish_reason": "eos",
                    }
                )
    return rows


def make_tasks(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (row["suite"], row["task"]): {
            "suite": row["suite"],
            "task": row["task"],
            "prompt": f"Write {row['task']}",
            "category": CATEGORIES[int(row["task"][-4:]) % 3],
            "difficulty": "easy" if int(row["task"][-4:]) % 2 else "hard",
            "prompt_sha": row["prompt_sha"],
        }
        for row in rows
    }


def records_of(rows: Sequence[Row]) -> list[SampleRecord]:
    return [SampleRecord.model_validate(row) for row in rows]


def scorers_of(entries: Mapping[str, Any]) -> dict[str, ScorerEntry]:
    return {name: ScorerEntry.model_validate(entry) for name, entry in entries.items()}


def summarise(
    rows: Sequence[Row],
    scorers: Mapping[str, Any],
    *,
    tasks: Mapping[tuple[str, str], Any] | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    models: Mapping[str, Any] | None = None,
    suites: Mapping[str, Any] | None = None,
    leaked: Mapping[str, Collection[str]] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Return the content of summary.json, from the content of the other files."""
    found = summary_of(
        records_of(rows),
        scorers_of(scorers),
        tasks={TaskKey(*key): TaskRecord.model_validate(task) for key, task in (tasks or {}).items()},
        pairs=None if pairs is None else [Pair(*pair) for pair in pairs],
        about=Described(
            {name: ModelEntry.model_validate(entry) for name, entry in (models or {}).items()},
            {name: SuiteEntry.model_validate(entry) for name, entry in (suites or {}).items()},
            leaked or {},
        ),
        **options,
    )
    content: dict[str, Any] = json.loads(json.dumps(found.as_json()))
    return content


def gate(summary: Mapping[str, Any], *rules: Any) -> list[Check]:
    """Hold the content of a summary.json against rules."""
    return gate_of(Summary.model_validate(summary), *rules)
