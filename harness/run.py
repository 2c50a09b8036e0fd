"""`run`: the one module that knows the whole way, from the suite to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from harness.answer_limits import AnswerLimits, suite_reach
from harness.batch_check import check_batches
from harness.executor import open_executor
from harness.generate.backend import Backend
from harness.generate.elsewhere import backend_elsewhere
from harness.generate.local import Generator
from harness.generate.settings import GenerationSettings
from harness.generate.verdict import Verdict
from harness.manifest import build_manifest, deciding_part, model_entry
from harness.measure import measure
from harness.model.identity import adapter_hashes
from harness.model.load import LoadedModel, Precision, choose_precision, load_model, renderer_for
from harness.model.prompt import PromptRenderer, few_shot_examples
from harness.processes import refuse_many
from harness.profile.load import ModelSpec, base_weights
from harness.profile.schema import DType, Quantization, Training, Weights
from harness.progress import Narrator
from harness.request import Resolved, RunRequest, resolve, training_suite_name
from harness.rundir import REPORTS_FOLDER, RunFolder, check_run_folder, row_key
from harness.suite.load import find_suite
from harness.suite.reach import UNKNOWN_LIMIT, Reach
from harness.suite.split import stratified
from harness.suite_records import compare_parts, task_lines
from harness.train.callbacks import Progress
from harness.train.card import base_on_the_hub, write_card
from harness.train.data import DataReport
from harness.train.plan import fitting_layout
from harness.train.settings import check_names
from harness.train.sft import TrainedAdapter, train_adapter
from harness.types import Row, Suite, Task
from harness.watch import watched_rows


@dataclass(frozen=True)
class Contender:
    """A model that is ready to answer: its generator, and what its training saw."""

    spec: ModelSpec
    generator: Backend
    trained: TrainedAdapter | None = None
    training: Training | None = None
    trained_on: frozenset[str] = frozenset()
    """`prompt_sha` of every row that the model has seen: it gets no score on them."""
    limits: Mapping[str, Reach] = field(default_factory=dict)
    """By measured suite, how long its answers may be."""

    def on(self, suite: str) -> Backend:
        """Return the model as it answers that suite."""
        limit = self.limits.get(suite)
        return self.generator if limit is None else self.generator.limited(limit.max_new_tokens)


def run(request: RunRequest, narrator: Narrator | None = None, reports: Path = REPORTS_FOLDER) -> Path:
    """Train, generate, score, compare and report; return the run's folder.

    Called again with the same arguments it goes on where it was, and does no finished work twice.

    Raises:
        UsageError: the request does not fit together.
        HarnessError: something on this machine is missing or broken.
    """
    refuse_many("run")
    return carry_out(resolve(request), narrator or Narrator(), reports)


def carry_out(resolved: Resolved, narrator: Narrator, reports: Path = REPORTS_FOLDER) -> Path:
    """Do what a request asks for, once every word of it means something.

    Raises:
        HarnessError: something on this machine is missing or broken.
    """
    from harness.render.browser import find_browser

    request = resolved.request
    check_run_folder(reports / resolved.run_name)
    find_browser()
    profile = resolved.profile
    narrator.say(f"profile {profile.name}: {profile.why}")
    with RunFolder(resolved.run_name, reports) as folder, open_executor(request, narrator.say) as executor:
        narrator.say(f"run {folder.name}")
        shifts = compare_parts(resolved, narrator)
        contenders = proved(prepare(resolved, narrator, executor.precision), narrator, executor.decoder)
        trials = _self_test(resolved, narrator)
        manifest = build_manifest(resolved, [model_entry(contender) for contender in contenders], trials)
        for name, entry in manifest["suites"].items():
            entry |= {"shift": shifts[name], "reach": suite_reach([one.limits for one in contenders], name)}
        manifest["executor"] = executor.record()
        finished = {row_key(row): row for row in folder.begin(manifest, deciding_part(manifest))}
        rows = measure(resolved, contenders, folder, finished, trials, executor, narrator)
        checks = check_batches(resolved, contenders, rows, executor, narrator)
        return _finish(resolved, contenders, folder, manifest, rows, checks, narrator)


def _self_test(resolved: Resolved, narrator: Narrator) -> dict[str, dict[str, Any]]:
    """Let every metric prove itself on references and their mutants of each suite before its numbers are given."""
    from harness.cache import cache_folder
    from harness.render import Renderer
    from harness.render.batch import render_task_pages
    from harness.score.selftest import RUN_RENDERED, self_test

    trials = {}
    with (
        Renderer(cache_dir=cache_folder("renders")) as renderer,
        narrator.stage("metrics prove themselves on spoilt references", len(resolved.measured)) as stage,
    ):
        render = partial(render_task_pages, renderer)
        for measured in resolved.measured:
            report = self_test(measured.tasks, render=render, rendered=RUN_RENDERED)
            trials[measured.suite.name] = report.as_dict()
            stage.advance("all hold" if not report.refused else f"refused: {', '.join(report.refused)}")
    return trials


def prepare(
    resolved: Resolved, narrator: Narrator, precision_of: Callable[[Quantization, DType], Precision] = choose_precision
) -> list[Contender]:
    """Load weights once for each profile, and train what has to be trained.

    Args:
        resolved: What is asked.
        narrator: Says how it goes.
        precision_of: How weights are held, given the profile's quantisation and dtype.

    Raises:
        UsageError: a training has a wrong setting; said before anything is fetched.
        HarnessError: weights cannot be had, or a training does not fit the GPU.
    """
    for spec in resolved.specs:
        if spec.file.train is not None:
            check_names(spec.file.train.sft, spec.file.train.lora)
    loaded: dict[tuple[Weights, Precision], LoadedModel] = {}
    contenders: list[Contender] = []
    limits = AnswerLimits(resolved, narrator.say)
    for spec in resolved.specs:
        if spec.file.backend in ("openai", "file"):
            contenders.append(_elsewhere(spec, resolved, limits))
            continue
        file, weights = spec.profile.file, base_weights(spec.profile)
        precision = precision_of(spec.quantization or resolved.request.quantization or file.quantization, file.dtype)
        key = (weights, precision)
        if key not in loaded:
            with narrator.stage(f"weights {weights}"):
                loaded[key] = load_model(weights, precision)
                loaded[key].notice = narrator.say
        contenders += _contenders(spec, loaded[key], resolved, limits, narrator)
    return contenders


def proved(
    contenders: Sequence[Contender], narrator: Narrator, decoder_of: Callable[[Generator], Verdict] = Generator.decoder
) -> list[Contender]:
    """Let the decoder of each model on these machines prove itself, before any of its answers counts.

    Args:
        contenders: The models.
        narrator: Says which of them transformers' own `generate` answers for, and why.
        decoder_of: Proves, or remembers, where the model will answer.

    Raises:
        HarnessError: `generate` itself fails on a model.
    """
    done = []
    for contender in contenders:
        generator = contender.generator
        if isinstance(generator, Generator):
            verdict = generator.remembered_decoder()
            if verdict is None:
                with narrator.stage(f"the decoder of {generator.name} proves itself against transformers' generate"):
                    verdict = decoder_of(generator)
            line = verdict.line(generator.name)
            if line is not None:
                narrator.say(line)
            contender = replace(contender, generator=replace(generator, proved=verdict))
        done.append(contender)
    return done


def _contenders(
    spec: ModelSpec, loaded: LoadedModel, resolved: Resolved, limits: AnswerLimits, narrator: Narrator
) -> list[Contender]:
    file, request = spec.profile.file, resolved.request
    renderer = PromptRenderer(file.prompt, file.chat, loaded.tokenizer)
    settings = GenerationSettings(
        file.max_new_tokens or UNKNOWN_LIMIT,
        file.batch_size,
        temperature=request.temperature,
        samples=request.samples,
    )
    learnt_from = resolved.training_suites.get(find_suite(training_suite_name(spec, resolved.specs)).name)
    if spec.file.train is not None:
        assert learnt_from is not None
        untrained = Generator(name=spec.name, loaded=loaded, renderer=renderer, settings=settings)
        within = limits.of(untrained, file)
        untrained = replace(
            untrained, settings=replace(settings, max_new_tokens=limits.on(learnt_from, untrained, file))
        )
        return [
            replace(_train(spec, replace(untrained, name=name), training, learnt_from, narrator), limits=within)
            for name, training in _seeded(spec.name, spec.file.train, request.seeds)
        ]
    examples = few_shot_examples(learnt_from.train, spec.file.few_shot) if learnt_from else ()
    adapter = Path(spec.file.adapter) if spec.file.adapter else None
    renderer, its_own = renderer_for(renderer, adapter)
    if its_own:
        narrator.say(f"{spec.name} is asked with what its adapter brings: {its_own}")
    generator = Generator(
        name=spec.name,
        loaded=loaded,
        renderer=renderer,
        settings=settings,
        adapter_folder=adapter,
        adapter_sha256=adapter_hashes(adapter).identity if adapter else None,
        examples=examples,
    )
    within = limits.of(generator, file)
    widest = max((one.max_new_tokens for one in within.values()), default=limits.on(learnt_from, generator, file))
    generator = replace(generator, settings=replace(settings, max_new_tokens=widest))
    seen = frozenset(task.prompt_sha for task in examples)
    return [Contender(spec, _decoded(spec, generator), trained_on=seen, limits=within)]


def _elsewhere(spec: ModelSpec, resolved: Resolved, limits: AnswerLimits) -> Contender:
    """Return a model that answers, or has answered, outside this process."""
    examples: tuple[Task, ...] = ()
    if spec.file.few_shot:
        learnt_from = resolved.training_suites[find_suite(training_suite_name(spec, resolved.specs)).name]
        examples = few_shot_examples(learnt_from.train, spec.file.few_shot)
    backend = backend_elsewhere(spec, resolved.request.temperature, resolved.request.samples, examples)
    within = limits.of(backend, spec.profile.file)
    return Contender(spec, backend, trained_on=frozenset(task.prompt_sha for task in examples), limits=within)


def _decoded(spec: ModelSpec, generator: Generator) -> Generator:
    """Return the model with what decodes for it, as its file says."""
    if spec.file.vllm is None:
        return generator
    from harness.generate.engine import on_engine

    return on_engine(generator, spec.file.vllm)


def _seeded(name: str, training: Training, seeds: int) -> list[tuple[str, Training]]:
    if seeds == 1:
        return [(name, training)]
    return [
        (f"{name}#seed{training.seed + number}", training.model_copy(update={"seed": training.seed + number}))
        for number in range(seeds)
    ]


def _train(spec: ModelSpec, generator: Generator, training: Training, suite: Suite, narrator: Narrator) -> Contender:
    name, loaded, renderer = generator.name, generator.loaded, generator.renderer

    def say(line: str) -> None:
        narrator.say(f"  {line}")

    learnable, watched = suite.train, None
    if training.watch is not None:
        learnable, watched = watched_rows(training.watch, suite, generator, say)
    tasks = stratified(learnable, training.rows)
    with narrator.stage(f"training {name} on {len(tasks)} rows of {suite.name}") as stage:

        def show(progress: Progress) -> None:
            stage.total(progress.steps)
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}"
            speed = "" if progress.tokens_per_second is None else f", {progress.tokens_per_second:.0f} tokens/s"
            stage.advance(f"{loss}{speed}", to=progress.step)

        def tell(report: DataReport) -> None:
            for line in report.lines():
                say(line)

        trained = train_adapter(
            loaded,
            renderer,
            training,
            tasks,
            on_progress=show,
            on_report=tell,
            on_notice=say,
            layout=fitting_layout(spec.profile.file, training, loaded.precision),
            watched=watched,
        )
        if trained.from_cache:
            stage.note = "from the cache"
    tuned = replace(generator, adapter_folder=trained.folder, adapter_sha256=trained.sha256)
    seen = {task.prompt_sha for task in (*tasks, *(watched.development if watched else ()))}
    return Contender(spec, _decoded(spec, tuned), trained, training, frozenset(seen))


def _finish(
    resolved: Resolved,
    contenders: Sequence[Contender],
    folder: RunFolder,
    manifest: dict[str, Any],
    rows: list[Row],
    checks: Mapping[str, dict[str, Any]],
    narrator: Narrator,
) -> Path:
    """Write the run's files, the comparison and the report, and print the answer.

    A shard's rows wait for the others': its folder holds them, and no report.
    """
    from harness.finish import write_answer, write_rows
    from harness.report import print_report

    manifest["models"] |= dict(model_entry(contender, rows) for contender in contenders)
    for name, check in checks.items():
        manifest["models"][name]["batch_check"] = check
    manifest["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    shard = resolved.request.shard
    with narrator.stage("comparing and reporting" if shard is None else "writing the rows"):
        tasks = list(task_lines(resolved.measured))
        ordered = write_rows(folder, manifest, tasks, rows)
        if shard is None:
            summary = write_answer(folder, manifest, tasks, ordered)
            for contender in contenders:
                if contender.trained is not None:
                    base = base_on_the_hub(base_weights(contender.spec.profile))
                    write_card(contender.trained.folder, contender.generator.name, base, manifest, summary)
    for name, entry in manifest["models"].items():
        price = (entry["cost"] or {}).get("price")
        if price:
            narrator.say(f"{name} cost {price['amount']:.4f} {price['currency']}")
    if shard is None:
        print_report(folder.path, narrator.console)
    else:
        narrator.say(f"shard {shard} is done; when all are here: python -m harness report {shard.whole(folder.name)}")
    return folder.path
