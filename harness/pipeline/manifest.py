"""The manifest: everything that decides a run's numbers, and what the run cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from harness import __version__
from harness.model.profile import weights_source
from harness.model.weights import describe
from harness.pipeline.config import RunPlan
from harness.pipeline.model_under_test import ModelUnderTest
from harness.runs.cost import answering_cost
from harness.runs.environment import git_state, hardware, package_versions, peak_memory_bytes
from harness.runs.schema import SCHEMA
from harness.types import Row

_BESIDE = ("training", "cost", "batch_size", "decoding", "file", "batch_check")
"""What an entry of a model says beside what decides its rows; answers in a file are compared one by one."""


def build_manifest(
    plan: RunPlan, models: Iterable[tuple[str, dict[str, Any]]], trials: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the manifest at the begin of a run, as in docs/files.md."""
    from harness.metrics.registry import scorer_manifest, tool_versions
    from harness.render.browser import find_browser, fonts_hash

    file = plan.profile.file
    by_name = dict(models)
    first = next(iter(by_name.values()))
    browser = find_browser()
    seeds = sorted({entry["training"]["seed"] for entry in by_name.values() if entry["training"]})
    return {
        "schema": SCHEMA,
        "run": plan.run_name,
        "harness": __version__,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "command": ["python", "-m", "harness", *sys.argv[1:]],
        "arguments": plan.config.cache_key_fields(),
        "shard": str(plan.config.shard) if plan.config.shard else None,
        "profile": {
            "name": plan.profile.name,
            "title": file.title,
            "why": plan.profile.why,
            "weights": describe(file.weights) if file.weights else None,
            "quantization": first["quantization"],
            "dtype": first["dtype"],
            "template_sha": first["template_sha"],
            "max_new_tokens": file.max_new_tokens,
        },
        "models": by_name | {name: _control() for name in plan.controls},
        "suites": {part.suite.name: _suite_entry(part) for part in plan.measured},
        "scorers": scorer_manifest(),
        "self_test": trials,
        "tools": {
            **tool_versions(),
            "browser": f"{browser.name} {browser.version}",
            "fonts": fonts_hash(),
        },
        "packages": package_versions(),
        "hardware": hardware(),
        "git": git_state(),
        "seeds": seeds,
    }


def deciding_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for finished rows to be kept on resume: models, data and scorers."""
    models = {
        name: {key: value for key, value in entry.items() if key not in _BESIDE}
        for name, entry in manifest["models"].items()
    }
    suites = {
        name: {key: suite[key] for key in ("revision", "split_hash", "scope", "ignore")}
        for name, suite in manifest["suites"].items()
    }
    return {
        "models": models,
        "suites": suites,
        "scorers": {name: scorer["version"] for name, scorer in manifest["scorers"].items()},
        "refused": {name: sorted(trial["refused"]) for name, trial in manifest["self_test"].items()},
        "tools": manifest["tools"],
        "schema": manifest["schema"],
    }


def model_entry(candidate: ModelUnderTest, rows: Sequence[Row] = ()) -> tuple[str, dict[str, Any]]:
    """Return a model's name and its entry; its cost is known once there are rows."""
    generator = candidate.generator
    own = [row for row in rows if row["model"] == generator.name]
    cost = answering_cost(own, peak_memory_bytes())
    price = generator.price(own)
    entry: dict[str, Any] = {
        "kind": candidate.spec.kind,
        "family": candidate.spec.name,
        "description": candidate.spec.file.description,
        "weights": weights_source(candidate.spec),
        **generator.manifest(),
        "training": _training_entry(candidate),
        "cost": cost | {"price": price} if price else cost,
    }
    if entry["generation"] and candidate.limits:
        limits = {suite: reach.max_new_tokens for suite, reach in candidate.limits.items()}
        entry["generation"] = entry["generation"] | {"max_new_tokens": limits}
    return generator.name, entry


def _training_entry(candidate: ModelUnderTest) -> dict[str, Any] | None:
    trained, training = candidate.trained, candidate.training
    if trained is None or training is None or candidate.learnt_from is None:
        return None
    return {
        "suite": candidate.learnt_from.name,
        "rows": trained.rows,
        "seed": training.seed,
        "steps": trained.steps,
        "seconds": trained.seconds,
        "tokens": trained.tokens,
        "settings": {"sft": training.sft, "lora": training.lora},
        "layout": dict(trained.layout),
        "out_of_memory": list(trained.out_of_memory),
        "peak_memory_bytes": trained.peak_memory_bytes,
        "data": asdict(trained.report),
        "watch": dict(trained.evaluation) if trained.evaluation else None,
        "curve": [asdict(point) for point in trained.curve],
    }


def _control() -> dict[str, Any]:
    return {
        "kind": "control",
        "family": None,
        "weights_sha256": None,
        "config_sha256": None,
        "tokenizer_sha256": None,
        "adapter_sha256": None,
        "adapter_config_sha256": None,
        "adapter_tokenizer_sha256": None,
        "quantization": None,
        "dtype": None,
        "template_sha": None,
        "backend": None,
        "batch_size": None,
        "generation": None,
        "training": None,
        "cost": None,
    }


def _suite_entry(part: Any) -> dict[str, Any]:
    from harness.suite.leakage import flag

    suite = part.suite
    flagged = flag(suite.train, part.tasks)
    return {
        "title": suite.title,
        "revision": suite.revision,
        "rows_sha256": suite.rows_sha256 or None,
        "known_rows": suite.known_rows or None,
        "split": suite.split,
        "split_hash": suite.split_hash,
        "scope": suite.scope,
        "ignore": sorted(suite.ignore),
        "train": len(suite.train),
        "held_out": len(suite.held_out),
        "measured": len(part.tasks),
        "leakage": {"flagged": sorted(flagged), "near": flagged},
    }
