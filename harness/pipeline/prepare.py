"""Models ready to answer: weights found once for each profile, what is to be trained trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.generate.backends import backend_elsewhere
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.generate.vllm_engine import EngineDecoding
from harness.model.adapters import named_base
from harness.model.identity import adapter_hashes
from harness.model.load import LoadedModel, Precision, choose_precision, load_model, why_slow
from harness.model.profile import ModelSpec, base_weights
from harness.model.profile_schema import DType, Training, Weights
from harness.model.prompt import PromptRenderer, few_shot_examples
from harness.model.reach import UNKNOWN_LIMIT
from harness.model.tokenizer import renderer_for
from harness.pipeline import stages
from harness.pipeline.answer_limits import AnswerLimits
from harness.pipeline.config import RunPlan
from harness.pipeline.dev_evaluation import set_up_evaluation
from harness.pipeline.model_under_test import ModelUnderTest
from harness.progress import ProgressReporter
from harness.suite.split import stratified
from harness.train.callbacks import Progress
from harness.train.data import DataReport
from harness.train.job import TrainingJob
from harness.train.memory_plan import fitting_layout
from harness.train.settings import check_names
from harness.train.sft import train_adapter
from harness.types import Quantization, Suite, Task


@dataclass(frozen=True)
class PlannedModel:
    """A model of which it is known what is to be done, and nothing is done yet."""

    model: ModelUnderTest
    """As it answers where nothing has to be trained, else without what it is to learn."""
    job: TrainingJob | None = None
    """Its training."""

    @property
    def stage(self) -> str:
        """The name of the stage that trains it."""
        assert self.job is not None
        assert self.model.learnt_from is not None
        return stages.training(self.model.generator.name, len(self.job.tasks), self.model.learnt_from.name)


def prepare(
    plan: RunPlan,
    reporter: ProgressReporter,
    precision_of: Callable[[Quantization, DType], Precision] = choose_precision,
) -> list[ModelUnderTest]:
    """Fetch weights once for each profile, and train what has to be trained. Arguments and errors as of both steps."""
    return trained(plan_models(plan, reporter, precision_of), reporter)


def plan_models(
    plan: RunPlan,
    reporter: ProgressReporter,
    precision_of: Callable[[Quantization, DType], Precision] = choose_precision,
) -> list[PlannedModel]:
    """Fetch weights once for each profile; their tensors are loaded when they are first needed.

    Args:
        plan: What is asked.
        reporter: Says how it goes.
        precision_of: How weights are held, given the profile's quantisation and dtype.

    Raises:
        UsageError: a training has a wrong setting; said before anything is fetched.
        HarnessError: weights cannot be had.
    """
    for spec in plan.specs:
        if spec.file.train is not None:
            check_names(spec.file.train.sft, spec.file.train.lora)
    loaded: dict[tuple[Weights, Precision], LoadedModel] = {}
    candidates: list[PlannedModel] = []
    limits = AnswerLimits(plan, reporter.say)
    for spec in plan.specs:
        if spec.file.backend in ("openai", "file"):
            candidates.append(PlannedModel(_elsewhere(spec, plan, limits)))
            continue
        file, weights = spec.profile.file, base_weights(spec.profile)
        held = spec.quantization or plan.config.quantization or file.quantization
        precision = precision_of(held, plan.config.dtype or file.dtype)
        learning = precision if spec.file.train is None else precision_of(held, file.dtype)  # --dtype is for answers
        for one in dict.fromkeys((precision, learning)):
            if (weights, one) not in loaded:
                loaded[weights, one] = _held_as(weights, one, reporter)
        candidates += _models_under_test(
            spec, loaded[weights, precision], loaded[weights, learning], plan, limits, reporter
        )
    return candidates


def _held_as(weights: Weights, precision: Precision, reporter: ProgressReporter) -> LoadedModel:
    with reporter.stage(f"weights {weights}"):
        loaded = load_model(weights, precision)
        loaded.notice = reporter.say
    slow = why_slow(precision)
    if slow:
        reporter.say(slow)
    return loaded


def trained(planned: Sequence[PlannedModel], reporter: ProgressReporter) -> list[ModelUnderTest]:
    """Return the models with what they have to learn, trained or from the cache.

    Raises:
        UsageError: no rows are left to train on.
        HarnessError: a training does not fit the GPU.
    """
    return [one.model if one.job is None else _train(one, one.job, reporter) for one in planned]


def _models_under_test(
    spec: ModelSpec,
    loaded: LoadedModel,
    learning: LoadedModel,
    plan: RunPlan,
    limits: AnswerLimits,
    reporter: ProgressReporter,
) -> list[PlannedModel]:
    file, config, learnt_from = spec.profile.file, plan.config, plan.learns_from.get(spec.name)
    weights = base_weights(spec.profile)
    examples = _examples(spec, learnt_from)
    adapter = Path(spec.file.adapter) if spec.file.adapter else None
    renderer, its_own = renderer_for(PromptRenderer(file.prompt, file.chat, loaded.tokenizer), adapter)
    if its_own:
        reporter.say(f"{spec.name} is asked with what its adapter brings: {its_own}")
    named = named_base(adapter, weights, loaded.weights.folder) if adapter else ""
    if named:
        reporter.say(f"the adapter of {spec.name} names {named} as its base, and is put on {weights}")
    generator = Generator(
        name=spec.name,
        loaded=loaded,
        renderer=renderer,
        settings=GenerationSettings(
            file.max_new_tokens or UNKNOWN_LIMIT,
            file.batch_size,
            temperature=config.temperature,
            samples=config.samples,
        ),
        adapter_folder=adapter,
        adapter_sha256=adapter_hashes(adapter).identity if adapter else None,
        examples=examples,
        decoding=TransformersDecoding() if spec.file.vllm is None else EngineDecoding(spec.file.vllm),
    )
    within = limits.of(generator, file)
    if spec.file.train is not None:
        assert learnt_from is not None
        generator = generator.limited(limits.on(learnt_from, generator, file))
        return [
            _to_train(
                ModelUnderTest(spec, replace(generator, name=name), None, training, learnt_from, limits=within),
                learning,
                reporter,
            )
            for name, training in _seeded(spec.name, spec.file.train, config.seeds)
        ]
    widest = max((one.max_new_tokens for one in within.values()), default=limits.on(learnt_from, generator, file))
    seen = frozenset(task.prompt_sha for task in examples)
    answering = generator.limited(widest)
    return [PlannedModel(ModelUnderTest(spec, answering, learnt_from=learnt_from, trained_on=seen, limits=within))]


def _examples(spec: ModelSpec, learnt_from: Suite | None) -> tuple[Task, ...]:
    if learnt_from is None or spec.file.train is not None:
        return ()
    return few_shot_examples(learnt_from.train, spec.file.few_shot)


def _elsewhere(spec: ModelSpec, plan: RunPlan, limits: AnswerLimits) -> ModelUnderTest:
    """Return a model that answers, or has answered, outside this process."""
    learnt_from = plan.learns_from.get(spec.name)
    examples = _examples(spec, learnt_from)
    backend = backend_elsewhere(spec, plan.config.temperature, plan.config.samples, examples)
    within = limits.of(backend, spec.profile.file)
    seen = frozenset(task.prompt_sha for task in examples)
    return ModelUnderTest(spec, backend, learnt_from=learnt_from, trained_on=seen, limits=within)


def _seeded(name: str, training: Training, seeds: int) -> list[tuple[str, Training]]:
    if seeds == 1:
        return [(name, training)]
    return [
        (f"{name}#seed{training.seed + number}", training.model_copy(update={"seed": training.seed + number}))
        for number in range(seeds)
    ]


def _to_train(model: ModelUnderTest, learning: LoadedModel, reporter: ProgressReporter) -> PlannedModel:
    """Return the model with its training, which is done on `learning`."""
    generator, training, suite = model.generator, model.training, model.learnt_from
    assert isinstance(generator, Generator)
    assert training is not None
    assert suite is not None
    learnable, evaluation = suite.train, None
    if training.evaluation is not None:
        asked = replace(generator, loaded=learning)
        learnable, evaluation = set_up_evaluation(training.evaluation, suite, asked, _indented(reporter))
    tasks = stratified(learnable, training.rows)
    seen = {task.prompt_sha for task in (*tasks, *(evaluation.development if evaluation else ()))}
    job = TrainingJob(learning, generator.renderer, training, tasks, evaluation)
    return PlannedModel(replace(model, trained_on=frozenset(seen)), job)


def _train(planned: PlannedModel, job: TrainingJob, reporter: ProgressReporter) -> ModelUnderTest:
    generator, say = planned.model.generator, _indented(reporter)
    assert isinstance(generator, Generator)
    with reporter.stage(planned.stage) as stage:

        def show(progress: Progress) -> None:
            stage.total(progress.steps)
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
            speed = "" if progress.tokens_per_second is None else f", {progress.tokens_per_second:.0f} tokens/s"
            stage.advance(f"{loss}{speed}", to=progress.step)

        def tell(report: DataReport) -> None:
            for line in report.lines():
                say(line)

        adapter = train_adapter(
            job,
            fitting_layout(planned.model.spec.profile.file, job.training, job.loaded.precision),
            on_progress=show,
            on_report=tell,
            on_notice=say,
        )
        if job.loaded is not generator.loaded:
            job.loaded.release()  # answers have weights of their own
        if adapter.from_cache:
            stage.note, stage.units = "from the cache", 0.0
    tuned = replace(generator, adapter_folder=adapter.folder, adapter_sha256=adapter.sha256)
    return replace(planned.model, generator=tuned, trained=adapter)


def _indented(reporter: ProgressReporter) -> Callable[[str], None]:
    return lambda line: reporter.say(f"  {line}")
