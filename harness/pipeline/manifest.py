"""The manifest: everything that decides a run's numbers, and what the run cost."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pydantic import JsonValue

from harness import __version__
from harness.generate.transformers.decoder_verdict import in_key
from harness.model.profile import weights_source
from harness.model.weights import describe
from harness.pipeline.answer_limits import suite_reach
from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.pipeline.model_under_test import ModelUnderTest
from harness.runs.cost import answering_cost
from harness.runs.environment import git_state, hardware, package_versions, peak_memory_bytes
from harness.runs.manifest import (
    CONTROL,
    CurvePoint,
    EvaluationEntry,
    Leakage,
    Manifest,
    ModelEntry,
    ProfileEntry,
    ReachEntry,
    ScorerEntry,
    SelfTest,
    ShiftEntry,
    SuiteEntry,
    TrainingEntry,
)
from harness.runs.record import as_json
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject

_BESIDE = ("training", "cost", "batch_size", "decoding", "file", "batch_check")
"""What an entry of a model says beside what decides its rows; answers in a file are compared one by one."""


RECORDS_FORM = 1
"""Raised when finished records of before cannot be kept: what their fields mean has changed."""


def build_manifest(
    plan: RunPlan,
    candidates: Sequence[ModelUnderTest],
    self_tests: Mapping[str, SelfTest],
    shifts: Mapping[str, ShiftEntry | None],
    executor: JsonObject,
) -> Manifest:
    """Return the manifest at the begin of a run, as in docs/files.md."""
    from harness.metrics.registry import scorer_manifest, tool_versions
    from harness.render.browser import find_browser, fonts_hash

    file = plan.profile.file
    models = dict(model_entry(candidate) for candidate in candidates)
    first = next(iter(models.values()))
    browser = find_browser()
    limits = [candidate.limits for candidate in candidates]
    return Manifest(
        run=plan.run_name,
        harness=__version__,
        started=_now(),
        command=("python", "-m", "harness", *sys.argv[1:]),
        arguments=as_json(plan.config.cache_key_fields()),
        shard=str(plan.config.shard) if plan.config.shard else None,
        profile=ProfileEntry(
            name=plan.profile.name,
            title=file.title,
            why=plan.profile.why,
            weights=describe(file.weights) if file.weights else None,
            quantization=first.quantization,
            dtype=first.dtype,
            template_sha=first.template_sha,
            max_new_tokens=file.max_new_tokens,
        ),
        models=models | {name: ModelEntry(kind=CONTROL) for name in plan.controls},
        suites={
            part.suite.name: _suite_entry(part, shifts[part.suite.name], suite_reach(limits, part.suite.name))
            for part in plan.measured
        },
        scorers={name: ScorerEntry.model_validate(facts) for name, facts in scorer_manifest().items()},
        self_test=dict(self_tests),
        tools={**tool_versions(), "browser": f"{browser.name} {browser.version}", "fonts": fonts_hash()},
        packages=package_versions(),
        hardware=hardware(),
        git=git_state(),
        seeds=tuple(
            sorted(
                {entry.training.seed for entry in models.values() if entry.training and entry.training.seed is not None}
            )
        ),
        executor=executor,
    )


def finished_manifest(manifest: Manifest, entries: Iterable[tuple[str, ModelEntry]]) -> Manifest:
    """Return the manifest at the end of a run, with what the models' answers took."""
    return manifest.with_(models=manifest.models | dict(entries), finished=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def deciding_part(manifest: Manifest) -> dict[str, object]:
    """Return what must be equal for finished rows to be kept on resume: models, data and scorers."""
    models = {name: _deciding_of(entry) for name, entry in manifest.models.items()}
    suites = {
        name: suite.model_dump(include={"revision", "split_hash", "scope", "ignore"})
        for name, suite in manifest.suites.items()
    }
    return {
        "models": models,
        "suites": suites,
        "scorers": {name: scorer.version for name, scorer in manifest.scorers.items()},
        "refused": {name: sorted(tested.refused) for name, tested in manifest.self_test.items()},
        "tools": manifest.tools,
        "schema": RECORDS_FORM,
    }


def _deciding_of(entry: ModelEntry) -> JsonObject:
    deciding = {key: value for key, value in entry.as_json().items() if key not in _BESIDE}
    if isinstance(entry.decoder, dict):
        deciding["decoder"] = in_key(entry.decoder, entry.dtype, entry.device)
    return deciding


def model_entry(candidate: ModelUnderTest, rows: Sequence[SampleRecord] = ()) -> tuple[str, ModelEntry]:
    """Return a model's name and its entry; its cost is known once there are rows."""
    generator = candidate.generator
    own = [row for row in rows if row.model == generator.name]
    entry = ModelEntry(
        **dict(generator.manifest()),
        kind=candidate.spec.kind,
        family=candidate.spec.name,
        description=candidate.spec.file.description,
        weights=weights_source(candidate.spec),
        training=_training_entry(candidate),
        cost=answering_cost(own, peak_memory_bytes(), generator.price(own)),
    )
    if entry.generation and candidate.limits:
        limits: JsonValue = {suite: reach.max_new_tokens for suite, reach in candidate.limits.items()}
        entry = entry.with_(generation=entry.generation | {"max_new_tokens": limits})
    return generator.name, entry


def _training_entry(candidate: ModelUnderTest) -> TrainingEntry | None:
    trained, training = candidate.trained, candidate.training
    if trained is None or training is None or candidate.learnt_from is None:
        return None
    return TrainingEntry(
        suite=candidate.learnt_from.name,
        rows=trained.rows,
        seed=training.seed,
        steps=trained.steps,
        seconds=trained.seconds,
        tokens=trained.tokens,
        settings={"sft": training.sft, "lora": training.lora},
        layout=dict(trained.layout),
        out_of_memory=tuple(trained.out_of_memory),
        peak_memory_bytes=trained.peak_memory_bytes,
        data=asdict(trained.report),
        evaluation=EvaluationEntry.model_validate(trained.evaluation) if trained.evaluation else None,
        curve=tuple(CurvePoint.model_validate(point, from_attributes=True) for point in trained.curve),
    )


def _suite_entry(part: MeasuredSuite, shift: ShiftEntry | None, reach: ReachEntry | None) -> SuiteEntry:
    from harness.suite.leakage import flag

    suite = part.suite
    flagged = flag(suite.train, part.tasks)
    return SuiteEntry(
        title=suite.title,
        revision=suite.revision,
        rows_sha256=suite.rows_sha256 or None,
        known_rows=suite.known_rows or None,
        split=suite.split,
        split_hash=suite.split_hash,
        scope=suite.scope,
        ignore=tuple(sorted(suite.ignore)),
        train=len(suite.train),
        held_out=len(suite.held_out),
        measured=len(part.tasks),
        leakage=Leakage(flagged=tuple(sorted(flagged)), near=flagged),
        shift=shift,
        reach=reach,
    )
