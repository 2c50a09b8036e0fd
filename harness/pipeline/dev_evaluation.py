"""The evaluation of a training on a development slice: the model answers its rows, and the scorers say how well.

Training is handed the result as a callback (`harness.train.evaluation`) and never sees a scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness import processes
from harness.errors import UsageError, did_you_mean
from harness.generate.backend import Answers
from harness.generate.settings import GenerationSettings
from harness.generate.store import FORM
from harness.generate.transformers.decoder_verdict import Kind, Verdict, kinds_here
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.strategy import TokenRequests
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Metric
from harness.metrics.registry import METRICS, metric, score_metric
from harness.model.profile_schema import DevEvaluation
from harness.suite.split import development_slice
from harness.train.evaluation import TASK_SCORE, Share, TrainingEvaluation, alone
from harness.types import Score, Suite, Task

if TYPE_CHECKING:
    from harness.generate.transformers.plan import DecodingPlan

_NEEDS_MORE = frozenset({"conforming", "visual_similarity"})
"""Beside what a browser measures: these need the Nu Html Checker or screenshots."""


def evaluation_metrics() -> list[str]:
    """Return the names of the metrics that a training may be evaluated by: those that the parsers alone give."""
    return [m.name for m in METRICS if m.kind in ("form", "similarity") and m.name not in _NEEDS_MORE]


def check_metrics(settings: DevEvaluation) -> None:
    """Check the metrics that a training is evaluated by.

    Raises:
        UsageError: one is unknown or cannot be measured while training.
    """
    for name in settings.metrics:
        if name not in evaluation_metrics():
            why = "needs more than the parsers" if name in {m.name for m in METRICS} else "is not known"
            raise UsageError(f"train.evaluation.metrics: '{name}' {why}", did_you_mean(name, evaluation_metrics()))


def set_up_evaluation(
    settings: DevEvaluation, suite: Suite, generator: Generator, tell: Callable[[str], None] | None = None
) -> tuple[tuple[Task, ...], TrainingEvaluation]:
    """Take the development slice out of a suite's training rows; return the rest, and what evaluates on the slice.

    Args:
        settings: The model file's settings.
        suite: Whose training part is used; what it holds out stays untouched.
        generator: The model as it will be measured, without an adapter: it decodes with whatever its loaded model is.
        tell: Called with a line for each evaluation.

    Raises:
        UsageError: the suite has too few training rows.
    """
    rest, development = development_slice(suite.train, settings.rows)
    if len(development) < settings.rows or len(rest) < settings.rows:
        rows = f"{settings.rows} of {suite.name}'s {len(suite.train)} training rows"
        raise UsageError(
            f"train.evaluation.rows: {rows} cannot be kept out",
            "near-duplicates stay together, and at least as many rows must be left: set fewer",
        )
    length = settings.max_new_tokens or generator.settings.max_new_tokens
    together = settings.batch_size or -(-len(development) // processes.count())
    generation = GenerationSettings(length, together)
    inside = replace(generator, settings=generation, decoding=DecodingInTraining())
    metrics = tuple(metric(name) for name in settings.metrics)
    versions = {m.name: m.version for m in metrics}
    identity = {"metrics": versions, "generation": generation.cache_key_fields(), "answers": FORM}
    evaluate = DevEvaluator(inside, development, metrics)
    return rest, TrainingEvaluation(settings, development, evaluate, identity, tell)


@dataclass(frozen=True)
class DecodingInTraining(TransformersDecoding):
    """Decodes a model as it stands in its training, which has taken memory already and needs it again."""

    found: dict[tuple[Kind, ...], Verdict] = field(default_factory=dict)
    """Which decoder writes, by those that there are."""

    def plan(self, model: Generator) -> DecodingPlan | None:
        """Return how it is decoded in the GPU's memory that is free; on a CPU with the weights that are trained."""
        import torch

        plan = super().plan(model)
        if plan is None or plan.device != "cuda" or plan.memory > torch.cuda.mem_get_info()[0]:
            return None
        return plan

    def _proved(self, model: Generator, plan: DecodingPlan | None) -> Verdict:
        """Which decoder writes is found on the model as it first stands: weights change, their kind does not."""
        import torch

        kinds = tuple(kinds_here(plan))
        if kinds not in self.found:
            try:
                self.found[kinds] = self._prove(model, plan)
            except torch.OutOfMemoryError:
                if plan is None:
                    raise
                model.loaded.fused = None
                self.found[kinds] = self._proved(model, None)
        return self.found[kinds]

    def decode(self, model: Generator, wanted: TokenRequests) -> Answers:
        """Decode and keep nothing for the next time."""
        try:
            yield from super().decode(model, wanted)
        finally:
            model.loaded.fused = None


@dataclass(frozen=True)
class DevEvaluator:
    """Lets a model as it stands answer tasks greedily, and scores the answers."""

    generator: Generator
    tasks: tuple[Task, ...]
    metrics: tuple[Metric, ...]

    def __call__(self, share: Share = alone) -> dict[str, float]:
        """Return each metric over all tasks on its own scale, and the task score: their mean, each from 0 to 100.

        What could not be measured on any task is absent, and then there is no task score either.
        """
        evidence = share(self.answer, self.tasks)
        found = {m.name: _over_all(m, [score_metric(m, page) for page in evidence]) for m in self.metrics}
        scores = {name: value for name, value in found.items() if value is not None}
        if len(scores) == len(self.metrics):
            parts = [scores[m.name] * (1 if m.scale == "percent" else 100) for m in self.metrics]
            scores[TASK_SCORE] = sum(parts) / len(parts)
        return scores

    def answer(self, tasks: Sequence[Task]) -> list[Evidence]:
        """Return what the model as it stands writes to these tasks, in their order."""
        by_id = {task.id: task for task in tasks}
        wanted = {(task.id, 0): (self.generator.prompt(task), 0) for task in tasks}
        found = {
            task: Evidence(by_id[task], done.text, extract(done.text, done.finish_reason, by_id[task].scope))
            for (task, _), done in self.generator.decode(wanted)
        }
        return [found[task.id] for task in tasks]


def _over_all(metric: Metric, scores: list[Score | None]) -> float | None:
    """Return a metric over all rows that have a number: the corpus value where there is one, else the mean."""
    measured = [score for score in scores if score is not None and score.value is not None]
    if not measured:
        return None
    if metric.corpus is not None:
        return metric.corpus([sum(column) for column in zip(*(score.counts or () for score in measured), strict=True)])
    return sum(score.value or 0.0 for score in measured) / len(measured)
