"""Whether answers depend on the batch they were decoded in: a sample of tasks is decoded alone and compared.

In exact arithmetic they would not. In floating point the order of summation differs with the batch, and where two
tokens are nearly equally likely, greedy decoding may take the other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from harness.generate.transformers.generator import Generator
from harness.pipeline.config import RunPlan
from harness.pipeline.executor import Executor
from harness.pipeline.model_under_test import ModelUnderTest
from harness.progress import ProgressReporter
from harness.runs.manifest import BatchCheck
from harness.runs.samples import RecordKey, SampleRecord
from harness.runs.schema import JsonObject
from harness.suite.split import stratified


class Alone(Generator):
    """A generator that decodes one row at a time and keeps its answers apart from those of whole batches."""

    def identity(self) -> JsonObject:
        """Return what decides an answer, and that it was decoded alone."""
        return super().identity() | {"batch_size": 1}


def alone(generator: Generator) -> Alone:
    """Return the same model at batch 1."""
    found = Alone(**{field.name: getattr(generator, field.name) for field in fields(generator)})
    return replace(found, settings=replace(generator.settings, batch_size=1))


def check_batches(
    plan: RunPlan,
    candidates: Sequence[ModelUnderTest],
    rows: Sequence[SampleRecord],
    executor: Executor,
    reporter: ProgressReporter,
) -> dict[str, BatchCheck]:
    """Return, by model, of how many answers how many differ between batch 1 and the batch used.

    Models that something else decodes for are left out: their batches are their server's or engine's.
    """
    count = plan.config.check_batch
    if not count:
        return {}
    said = {row.key: row for row in rows}
    found = {}
    for candidate in candidates:
        generator = candidate.generator
        if type(generator) is Generator:
            found[generator.name] = _check(plan, candidate, generator, said, count, executor, reporter)
    return found


def _check(
    plan: RunPlan,
    candidate: ModelUnderTest,
    generator: Generator,
    said: Mapping[RecordKey, SampleRecord],
    count: int,
    executor: Executor,
    reporter: ProgressReporter,
) -> BatchCheck:
    answers, differ = 0, []
    with reporter.stage(f"{generator.name} answers again at batch 1") as stage:
        for part in plan.measured:
            limited = candidate.on(part.suite.name)
            assert isinstance(limited, Generator)
            for done, _ in alone(limited).answers(stratified(part.own, count), decoding=executor.decoding):
                row = said.get(RecordKey(part.suite.name, done.task, done.model, done.sample))
                if row is None or done.unanswered:
                    continue
                answers += 1
                stage.advance()
                if (row.completion, row.finish_reason) != (done.text, done.finish_reason):
                    differ.append(f"{part.suite.name}/{done.task}")
        stage.note = f"{len(differ)} of {answers} differ from batch {generator.settings.batch_size}"
    size = generator.settings.batch_size
    return BatchCheck(batch_size=size, answers=answers, differ=len(differ), tasks=tuple(differ))
