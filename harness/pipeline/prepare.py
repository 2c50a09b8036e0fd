"""Models ready to answer: weights loaded once for each profile, what is to be trained trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.generate.backends import backend_elsewhere
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.generate.vllm_engine import EngineDecoding
from harness.model.identity import adapter_hashes
from harness.model.load import LoadedModel, Precision, choose_precision, load_model, renderer_for, why_slow
from harness.model.profile import ModelSpec, base_weights
from harness.model.profile_schema import DType, Training, Weights
from harness.model.prompt import PromptRenderer, few_shot_examples
from harness.model.reach import UNKNOWN_LIMIT, Reach
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


def prepare(
    plan: RunPlan,
    reporter: ProgressReporter,
    precision_of: Callable[[Quantization, DType], Precision] = choose_precision,
) -> list[ModelUnderTest]:
    """Load weights once for each profile, and train what has to be trained.

    Args:
        plan: What is asked.
        reporter: Says how it goes.
        precision_of: How weights are held, given the profile's quantisation and dtype.

    Raises:
        UsageError: a training has a wrong setting; said before anything is fetched.
        HarnessError: weights cannot be had, or a training does not fit the GPU.
    """
    for spec in plan.specs:
        if spec.file.train is not None:
            check_names(spec.file.train.sft, spec.file.train.lora)
    loaded: dict[tuple[Weights, Precision], LoadedModel] = {}
    candidates: list[ModelUnderTest] = []
    limits = AnswerLimits(plan, reporter.say)
    for spec in plan.specs:
        if spec.file.backend in ("openai", "file"):
            candidates.append(_elsewhere(spec, plan, limits))
            continue
        file, weights = spec.profile.file, base_weights(spec.profile)
        held = spec.quantization or plan.config.quantization or file.quantization
        precision = precision_of(held, plan.config.dtype or file.dtype)
        key = (weights, precision)
        if key not in loaded:
            with reporter.stage(f"weights {weights}"):
                loaded[key] = load_model(weights, precision)
                loaded[key].notice = reporter.say
            slow = why_slow(precision)
            if slow:
                reporter.say(slow)
        candidates += _models_under_test(spec, loaded[key], plan, limits, reporter)
    return candidates


def _models_under_test(
    spec: ModelSpec, loaded: LoadedModel, plan: RunPlan, limits: AnswerLimits, reporter: ProgressReporter
) -> list[ModelUnderTest]:
    file, config, learnt_from = spec.profile.file, plan.config, plan.learns_from.get(spec.name)
    examples = _examples(spec, learnt_from)
    adapter = Path(spec.file.adapter) if spec.file.adapter else None
    renderer, its_own = renderer_for(PromptRenderer(file.prompt, file.chat, loaded.tokenizer), adapter)
    if its_own:
        reporter.say(f"{spec.name} is asked with what its adapter brings: {its_own}")
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
            _train(replace(generator, name=name), spec, training, learnt_from, within, reporter)
            for name, training in _seeded(spec.name, spec.file.train, config.seeds)
        ]
    widest = max((one.max_new_tokens for one in within.values()), default=limits.on(learnt_from, generator, file))
    seen = frozenset(task.prompt_sha for task in examples)
    return [ModelUnderTest(spec, generator.limited(widest), learnt_from=learnt_from, trained_on=seen, limits=within)]


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


def _train(
    generator: Generator,
    spec: ModelSpec,
    training: Training,
    suite: Suite,
    limits: Mapping[str, Reach],
    reporter: ProgressReporter,
) -> ModelUnderTest:
    def say(line: str) -> None:
        reporter.say(f"  {line}")

    learnable, evaluation = suite.train, None
    if training.evaluation is not None:
        learnable, evaluation = set_up_evaluation(training.evaluation, suite, generator, say)
    tasks = stratified(learnable, training.rows)
    with reporter.stage(f"training {generator.name} on {len(tasks)} rows of {suite.name}") as stage:

        def show(progress: Progress) -> None:
            stage.total(progress.steps)
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
            speed = "" if progress.tokens_per_second is None else f", {progress.tokens_per_second:.0f} tokens/s"
            stage.advance(f"{loss}{speed}", to=progress.step)

        def tell(report: DataReport) -> None:
            for line in report.lines():
                say(line)

        trained = train_adapter(
            TrainingJob(generator.loaded, generator.renderer, training, tasks, evaluation),
            fitting_layout(spec.profile.file, training, generator.loaded.precision),
            on_progress=show,
            on_report=tell,
            on_notice=say,
        )
        if trained.from_cache:
            stage.note = "from the cache"
    tuned = replace(generator, adapter_folder=trained.folder, adapter_sha256=trained.sha256)
    seen = {task.prompt_sha for task in (*tasks, *(evaluation.development if evaluation else ()))}
    return ModelUnderTest(spec, tuned, trained, training, suite, frozenset(seen), limits)
