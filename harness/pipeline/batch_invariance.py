"""Whether answers depend on the batch they were decoded in: a sample of tasks is decoded alone and compared.

In exact arithmetic they would not. In floating point the order of summation differs with the batch, and where two
tokens are nearly equally likely, greedy decoding may take the other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.pipeline import stages
from harness.pipeline.config import RunPlan
from harness.pipeline.executor import Executor
from harness.pipeline.model_under_test import ModelUnderTest
from harness.progress import ProgressReporter
from harness.runs.manifest import BatchCheck
from harness.runs.samples import RecordKey, SampleRecord
from harness.runs.schema import JsonObject
from harness.suite.split import stratified


@dataclass(frozen=True)
class DecodingAlone(TransformersDecoding):
    """Decodes one row at a time; its answers are kept apart from those of whole batches."""

    def identity(self, model: Generator) -> JsonObject:
        """Return the decoder, and that it decodes alone."""
        return super().identity(model) | {"batch_size": 1}


def alone(generator: Generator) -> Generator:
    """Return the same model at batch 1."""
    settings = replace(generator.settings, batch_size=1)
    return replace(generator, settings=settings, decoding=DecodingAlone(generator.decoder()))


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
    if not plan.config.check_batch:
        return {}
    said = {row.key: row for row in rows}
    found = {}
    for candidate in candidates:
        generator = candidate.generator
        if isinstance(generator, Generator) and isinstance(generator.decoding, TransformersDecoding):
            found[generator.name] = _check(plan, candidate, generator, said, executor, reporter)
    return found


def _check(
    plan: RunPlan,
    candidate: ModelUnderTest,
    generator: Generator,
    said: Mapping[RecordKey, SampleRecord],
    executor: Executor,
    reporter: ProgressReporter,
) -> BatchCheck:
    answers, differ = 0, []
    with reporter.stage(stages.alone(generator.name)) as stage:
        for part in plan.measured:
            limited = candidate.on(part.suite.name)
            assert isinstance(limited, Generator)
            asked = stratified(part.own, plan.config.check_batch)
            for done, _ in alone(limited).answers(asked, decode=executor.decode):
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
