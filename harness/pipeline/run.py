"""`run`: the one module that knows the whole way, from the suite to the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
from harness.model.profile import base_weights
from harness.pipeline import stages
from harness.pipeline.ahead import work_ahead
from harness.pipeline.batch_invariance import check_batches
from harness.pipeline.config import RunConfig, RunPlan, resolve
from harness.pipeline.early_table import EarlyTable
from harness.pipeline.estimate import estimate
from harness.pipeline.evaluate import Journal, measure
from harness.pipeline.executor import Executor, open_executor
from harness.pipeline.manifest import build_manifest, deciding_part, finished_manifest, model_entry
from harness.pipeline.model_under_test import ModelUnderTest
from harness.pipeline.prepare import PlannedModel, plan_models, trained
from harness.pipeline.run_dtype import in_the_runs_dtype
from harness.pipeline.suite_records import compare_parts, task_records
from harness.processes import refuse_many
from harness.progress import ProgressReporter
from harness.progress.schedule import Schedule
from harness.runs.folder import REPORTS_FOLDER, RunFolder, check_run_folder
from harness.runs.manifest import Manifest, SelfTest
from harness.runs.samples import SampleRecord
from harness.train.model_card import base_on_the_hub, write_card


def run(config: RunConfig, reporter: ProgressReporter | None = None, reports: Path = REPORTS_FOLDER) -> Path:
    """Train, generate, score, compare and report; return the run's folder.

    Called again with the same arguments it goes on where it was, and does no finished work twice.

    Raises:
        UsageError: the configuration does not fit together.
        HarnessError: something on this machine is missing or broken.
    """
    refuse_many("run")
    return carry_out(resolve(config), reporter or ProgressReporter(), reports)


def carry_out(plan: RunPlan, reporter: ProgressReporter, reports: Path = REPORTS_FOLDER) -> Path:
    """Do what a configuration asks for, once every word of it means something.

    Raises:
        HarnessError: something on this machine is missing or broken.
    """
    from harness.render.browser import find_browser

    check_run_folder(reports / plan.run_name)
    plan = in_the_runs_dtype(plan, reports)
    config = plan.config
    find_browser()
    with RunFolder(plan.run_name, reports) as folder, open_executor(config, reporter) as executor:
        with reporter.held() as lines:
            _say_what_is_asked(plan, folder, reporter)
            planned = plan_models(plan, reporter, executor.precision)
            expected = estimate(work_ahead(plan, planned, folder.journal, executor.record()))
            lines.insert(0, str(expected))
        return _measured(plan, planned, expected.schedule(), folder, executor, reporter)


def _say_what_is_asked(plan: RunPlan, folder: RunFolder, reporter: ProgressReporter) -> None:
    for name, profile in {one.name: one for one in (plan.profile, *plan.made_profiles)}.items():
        reporter.say(f"profile {name}: {profile.why}")
    reporter.say(f"run {folder.name}")
    reporter.say(plan.what_is_learnt())
    for note in plan.notes:
        reporter.say(note)
    for part in plan.measured:
        for note in part.suite.notes:
            reporter.say(f"{part.suite.name}: {note}")


def _measured(
    plan: RunPlan,
    planned: Sequence[PlannedModel],
    schedule: Schedule,
    folder: RunFolder,
    executor: Executor,
    reporter: ProgressReporter,
) -> Path:
    """Train, answer, score, compare and report, in this order."""
    with reporter.following(schedule):
        shifts = compare_parts(plan, reporter)
        candidates = proved(trained(planned, reporter), reporter, executor.decoder)
        self_tests = _self_test(plan, reporter)
        manifest = build_manifest(plan, candidates, self_tests, shifts, executor.record())
        manifest, records = folder.begin(manifest, deciding_part(manifest))
        samples = {candidate.generator.name: candidate.generator.samples for candidate in candidates}
        early = EarlyTable(manifest, samples, schedule, folder.path, reporter.console)
        journal = Journal(folder, {record.key: record for record in records}, early.look)
        rows = measure(plan, candidates, journal, self_tests, executor, reporter)
        entries = [model_entry(candidate, rows) for candidate in candidates]
        checks = check_batches(plan, candidates, rows, executor, reporter)
        manifest = finished_manifest(
            manifest, ((name, entry.with_(batch_check=checks.get(name))) for name, entry in entries)
        )
        return _finish(plan, candidates, folder, manifest, rows, reporter)


def _self_test(plan: RunPlan, reporter: ProgressReporter) -> dict[str, SelfTest]:
    """Let every metric prove itself on perturbed references of each suite before its numbers are given."""
    from harness.render import Renderer
    from harness.render.tasks import render_task_pages
    from harness.scoring.selftest import RUN_RENDERED, self_test
    from harness.storage.cache import cache_folder

    found = {}
    with (
        Renderer(cache_dir=cache_folder("renders")) as renderer,
        reporter.stage(stages.SELF_TEST, len(plan.measured)) as stage,
    ):
        render = partial(render_task_pages, renderer)
        for measured in plan.measured:
            report = self_test(measured.tasks, render=render, rendered=RUN_RENDERED)
            found[measured.suite.name] = report
            stage.advance("all hold" if not report.refused else f"refused: {', '.join(report.refused)}")
    return found


def proved(
    candidates: Sequence[ModelUnderTest],
    reporter: ProgressReporter,
    decoder_of: Callable[[Generator], Verdict] = Generator.decoder,
) -> list[ModelUnderTest]:
    """Let the decoder of each model on these machines prove itself, before any of its answers counts.

    Args:
        candidates: The models.
        reporter: Says which of them transformers' own `generate` answers for, and why.
        decoder_of: Proves, or remembers, where the model will answer.

    Raises:
        HarnessError: `generate` itself fails on a model.
    """
    done = []
    for candidate in candidates:
        generator = candidate.generator
        if isinstance(generator, Generator):
            verdict = generator.remembered_decoder()
            if verdict is None:
                with reporter.stage(stages.proof(generator.name)):
                    verdict = decoder_of(generator)
            line = verdict.line(generator.name)
            if line is not None:
                reporter.say(line)
            candidate = replace(candidate, generator=generator.knowing(verdict))
        done.append(candidate)
    return done


def _finish(
    plan: RunPlan,
    candidates: Sequence[ModelUnderTest],
    folder: RunFolder,
    manifest: Manifest,
    rows: list[SampleRecord],
    reporter: ProgressReporter,
) -> Path:
    """Write the run's files, the comparison and the report, and print the answer.

    A shard's rows wait for the others': its folder holds them, and no report.
    """
    from harness.pipeline.results import write_answer, write_rows
    from harness.report import print_report

    shard = plan.config.shard
    with reporter.stage(stages.finish(shard)):
        tasks = list(task_records(plan.measured))
        ordered = write_rows(folder, manifest, tasks, rows)
        if shard is None:
            summary = write_answer(folder, manifest, tasks, ordered)
            for candidate in candidates:
                if candidate.trained is not None:
                    base = base_on_the_hub(base_weights(candidate.spec.profile))
                    write_card(candidate.trained.folder, candidate.generator.name, base, manifest, summary)
    for name, entry in manifest.models.items():
        if entry.cost and entry.cost.price:
            reporter.say(f"{name} cost {entry.cost.price.amount:.4f} {entry.cost.price.currency}")
    if shard is None:
        print_report(folder.path, reporter.console)
    else:
        reporter.say(f"shard {shard} is done; when all are here: python -m harness report {shard.whole(folder.name)}")
    return folder.path
