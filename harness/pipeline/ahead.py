"""What a run has before it: the work that is neither in the cache nor in its journal, without loading any weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.generate.backend import Backend, StoredBackend, SuiteQuestions
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.metrics.extract import extract
from harness.model.identity import adapter_hashes
from harness.model.profile_schema import Shape
from harness.pipeline import stages
from harness.pipeline.config import MeasuredSuite, RunPlan
from harness.pipeline.prepare import PlannedModel
from harness.pipeline.rough import (
    Effort,
    answers_effort,
    pages_effort,
    report_effort,
    self_test_effort,
    training_effort,
)
from harness.pipeline.stages import Part
from harness.render import RenderSettings
from harness.render.browser import find_browser
from harness.render.cache import RenderCache
from harness.render.tasks import task_request
from harness.runs.schema import JsonObject
from harness.storage.cache import cache_folder, content_key
from harness.storage.jsonl import read_lines
from harness.suite.split import stratified
from harness.train.adapter_key import finished_adapter
from harness.train.batch_layout import written_layout
from harness.train.cpu_plan import planned_on_cpu, product_dtype
from harness.train.data import TrainingRow, training_rows
from harness.train.job import TrainingJob
from harness.train.settings import max_length
from harness.types import Task

_LOOKED_UP = 200
"""So many prompts of a model and suite are looked up in the store; the share of those found stands for all."""
_PAGES = 32
"""So many pages of a suite are looked up in the cache of renderings."""
_CACHED_PAGE = 0.1
"""What a page whose rendering is in the cache takes, in pages: it is still read, checked and scored."""
_EPOCHS = 3.0
"""What SFTConfig takes where a model file says nothing."""

Shown = tuple[Task, str, str | None]
"""A task, what stands for an answer to it, and how that ended."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one stage has to do."""

    part: Part
    stage: str
    units: float
    """How much is to be done: tokens to learn from, answers, pages; 0 where all of it is there already."""
    kinds: tuple[str, ...]
    """What it is, from the most special to the most general: work of one kind goes at one pace on one machine."""
    effort: Effort | None = None
    """About what it takes where none of its kind was measured; None where that cannot be said."""


@dataclass
class _Model:
    """A model as it will answer, as far as that is known before its training."""

    planned: PlannedModel
    backend: Backend
    """With its adapter, where that is in the cache."""
    kind: str
    """What decides its pace."""
    known: bool = True
    """Whether everything that decides its answers is known, so that they may be in the store."""
    proof: bool = False
    """Whether its decoder has yet to prove itself."""
    to_learn: float = 0.0
    """The tokens that its training learns from, in all epochs; 0 where its adapter is in the cache."""

    @property
    def shape(self) -> Shape | None:
        """Its sizes where a processor computes with them."""
        on_processor = isinstance(self.backend, Generator) and self.backend.loaded.precision.device == "cpu"
        return self.planned.model.spec.profile.file.shape if on_processor else None

    @property
    def proved_with(self) -> tuple[str, Path | str | None]:
        """What a proof speaks of: models of the same weights and adapter share it."""
        adapter = self.backend.adapter_folder if isinstance(self.backend, Generator) else None
        return self.kind, self.backend.name if self.to_learn else adapter

    @property
    def dtype(self) -> str:
        """The dtype that it computes in."""
        return self.backend.loaded.precision.dtype if isinstance(self.backend, Generator) else ""


@dataclass(frozen=True)
class _Found:
    """What one model has to answer in one suite."""

    model: _Model
    missing: float
    limit: int
    """New tokens that an answer may have."""
    stored: Sequence[Shown]
    """Some of the answers that are in the store."""


def work_ahead(plan: RunPlan, planned: Sequence[PlannedModel], journal: Path, executor: JsonObject) -> list[Work]:
    """Return what a run has to do, as far as it takes time.

    Args:
        plan: What is asked.
        planned: Its models.
        journal: The run's journal; rows that stand there are not scored again.
        executor: What the executor says of itself: on other machines the same work takes another time.
    """
    local = executor["name"] == "local"
    where = "here" if local else f"{executor['name']} {content_key(executor)[:8]}"
    models = [_as_it_will_answer(one) for one in planned]
    finished = Counter(str(row.get("suite")) for row in read_lines(journal))
    work = [_training(model, model.planned.job) for model in models if model.planned.job is not None]
    for part in plan.measured:
        suite = part.suite.name
        found = [_found(model, part, plan.config.fresh) for model in models]
        answers = [_answers(one, suite, where) for one in found]
        pages = _pages(found, part, plan, finished[suite])
        kinds = (f"pages {where}: {suite}", f"pages {where}")
        scoring = Work("pages", stages.pages(suite), pages, kinds, pages_effort(pages) if local else None)
        work += [*answers, scoring] if local else [_together(answers, scoring)]
    return work + _rest(plan, models, where)


def _rest(plan: RunPlan, models: Sequence[_Model], where: str) -> list[Work]:
    suites = sorted(part.suite.name for part in plan.measured)
    rows = sum(len(part.own) for part in plan.measured) * (len(models) + len(plan.controls))
    kinds = (f"self-test: {' and '.join(suites)}", "self-test")
    found = [Work("the rest", stages.SELF_TEST, len(suites), kinds, self_test_effort(len(suites)))]
    proved = set()
    for model in models:
        name = model.backend.name
        if model.proof and model.proved_with not in proved:
            proved.add(model.proved_with)
            found.append(Work("the rest", stages.proof(name), 1, (f"proof {where}: {model.kind}",)))
        if plan.config.check_batch and _is_decoded_here(model.backend):
            again = min(plan.config.check_batch, rows) * len(suites)
            found.append(Work("answers", stages.alone(name), again, (f"answers alone {where}: {model.kind}",)))
    ending = stages.finish(plan.config.shard)
    return [*found, Work("the rest", ending, rows, (ending,), report_effort(rows))]


def _is_decoded_here(backend: Backend) -> bool:
    return isinstance(backend, Generator) and isinstance(backend.decoding, TransformersDecoding)


def _as_it_will_answer(planned: PlannedModel) -> _Model:
    backend = planned.model.generator
    if not isinstance(backend, Generator):
        kind = content_key(backend.identity())[:12] if isinstance(backend, StoredBackend) else backend.name
        return _Model(planned, backend, kind)
    kind = f"{backend.loaded.weights.sha256[:12]} {' '.join(map(str, asdict(backend.loaded.precision).values()))}"
    if planned.job is not None:
        rows, _ = training_rows(planned.job.tasks, backend.renderer, max_length(planned.job.training.sft))
        folder = finished_adapter(planned.job, rows)
        if folder is None:
            return _Model(planned, backend, kind, known=False, proof=True, to_learn=_tokens(planned.job, rows))
        backend = replace(backend, adapter_folder=folder, adapter_sha256=adapter_hashes(folder).identity)
    verdict = backend.remembered_decoder()
    if verdict is None:
        return _Model(planned, backend, kind, known=False, proof=True)
    return _Model(planned, backend.knowing(verdict), kind)


def _training(model: _Model, job: TrainingJob) -> Work:
    dtype = product_dtype(job.training) if planned_on_cpu(job.training, job.loaded) else model.dtype
    effort = training_effort(model.shape, dtype, model.to_learn) if model.shape else None
    how = f"{job.training.batch_plan}{', evaluated' if job.evaluation else ''}"
    kinds = (f"training: {model.kind}, {how}", f"training: {model.kind}")
    return Work("training", model.planned.stage, model.to_learn, kinds, effort)


def _tokens(job: TrainingJob, rows: Sequence[TrainingRow]) -> float:
    """Return how many tokens a training learns from in all its steps."""
    sft, tokens = job.training.sft, sum(len(row.input_ids) for row in rows)
    steps = int(str(sft.get("max_steps", -1)))
    if steps > 0:
        return tokens / len(rows) * steps * written_layout(sft).effective_batch
    return tokens * float(str(sft.get("num_train_epochs", _EPOCHS)))


def _found(model: _Model, part: MeasuredSuite, fresh: bool) -> _Found:
    limit = model.planned.model.limits.get(part.suite.name)
    backend = model.backend if limit is None else model.backend.limited(limit.max_new_tokens)
    asked = float(len(part.own) * backend.samples)
    if not isinstance(backend, StoredBackend):
        return _Found(model, 0.0, 0, [])
    if fresh or not model.known:
        return _Found(model, asked, backend.settings.max_new_tokens, [])
    tasks = {task.id: task for task in stratified(part.own, min(_LOOKED_UP, len(part.own)))}
    inquiry = backend.inquire([*tasks.values()])
    stored = [(tasks[done.task], done.text, done.finish_reason) for done in inquiry.stored]
    tried = len(stored) + len(inquiry.wanted)
    return _Found(model, asked * (1 - len(stored) / max(1, tried)), backend.settings.max_new_tokens, stored)


def _answers(found: _Found, suite: str, where: str) -> Work:
    backend, kind = found.model.backend, f"answers {where}: {found.model.kind}"
    stage = str(SuiteQuestions(backend, suite, (), False))
    model = found.model
    effort = answers_effort(model.shape, model.dtype, found.missing, found.limit) if model.shape else None
    return Work("answers", stage, found.missing, (f"{kind}, {backend.name} on {suite}", kind), effort)


def _pages(found: Sequence[_Found], part: MeasuredSuite, plan: RunPlan, finished: int) -> float:
    """Return how many pages are to be measured, those in the cache of renderings for a small part of one each."""
    controls, rows = len(part.own) * len(plan.controls), sum(len(part.own) * one.model.backend.samples for one in found)
    missing = sum(one.missing for one in found)
    cache = RenderCache(cache_folder("renders"), RenderSettings(), find_browser())
    references: list[Shown] = [(task, task.reference, "eos") for task in part.own]
    answers: list[Shown] = [shown for one in found for shown in one.stored]
    known = controls * _measured_before(cache, references) + (rows - missing) * _measured_before(cache, answers)
    whole = controls + rows
    left = max(0.0, 1 - finished / whole) if whole else 0.0
    return left * (whole - known + _CACHED_PAGE * known)


def _measured_before(cache: RenderCache, answers: Sequence[Shown]) -> float:
    """Return the share of pages whose rendering is in the cache."""
    some = answers[:: max(1, len(answers) // _PAGES)]
    pages = [(task, extract(text, ended, task.scope)) for task, text, ended in some]
    there = [not page.found or cache.holds(task_request(task, page.html)) for task, page in pages]
    return sum(there) / len(there) if there else 0.0


def _together(answers: Iterable[Work], pages: Work) -> Work:
    """Where pages are measured while models answer, one stage does both, at the pace of what takes longer."""
    answers = list(answers)
    missing = sum(one.units for one in answers)
    if not missing:
        return pages
    kinds = dict.fromkeys(f"{one.kinds[-1]}, with pages" for one in answers)
    return Work("answers and pages", pages.stage, missing, (" and ".join(kinds),))
