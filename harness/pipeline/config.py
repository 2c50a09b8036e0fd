"""What the user asked `run` to do, and everything that can be refused before the work begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.cluster.actors import Actors
from harness.errors import UsageError, did_you_mean
from harness.generate.backends import check_elsewhere, check_given_tasks, given_models
from harness.model.profile import (
    ModelSpec,
    Profile,
    check_adapter,
    check_names,
    load_profile,
    model_names,
    resolve_model,
)
from harness.model.profile_schema import Quantization
from harness.runs.shard import Shard
from harness.storage.cache import content_key, file_sha256
from harness.suite.load import SuiteLocation, find_suite, load_suite
from harness.suite.rows import SUFFIXES, data_sha256
from harness.suite.split import stratified
from harness.suite.split_option import check_split_option, chosen_split
from harness.types import CONTROL_NAMES, Suite, Task

ExecutorName = Literal["local", "ray"]
DEFAULT_MODELS = ("base", "base-fewshot", "tuned")
FEW_SHOT_BASE = "base-fewshot"


@dataclass(frozen=True)
class RunConfig:
    """The arguments of `run`."""

    models: tuple[str, ...] = DEFAULT_MODELS
    profile: str | None = None
    suites: tuple[str, ...] = ()
    data: Mapping[str, Path] = field(default_factory=dict)
    split: tuple[str, ...] = ()
    """Splits that suites take instead of their default: NAME, or SUITE=NAME."""
    limit: int | None = None
    full: bool = False
    name: str | None = None
    samples: int = 1
    temperature: float = 0.0
    seeds: int = 1
    fresh: bool = False
    quantization: Quantization | None = None
    shard: Shard | None = None
    check_batch: int = 0
    """So many tasks are also decoded alone, to count those whose answer depends on the batch."""
    executor: ExecutorName = "local"
    address: str | None = None
    actors: Actors = field(default_factory=Actors)

    def cache_key_fields(self) -> dict[str, object]:
        """Return the arguments that decide the result, with data files by content; the run's name is made of them."""
        deciding = asdict(replace(self, name=None, fresh=False, data={}, shard=None))
        for where in ("shard", "check_batch", "executor", "address", "actors"):
            del deciding[where]
        deciding["data"] = {suite: data_sha256(path) for suite, path in self.data.items()}
        return deciding


@dataclass(frozen=True)
class MeasuredSuite:
    """A suite and the part of its held-out tasks that this run measures."""

    suite: Suite
    tasks: tuple[Task, ...]
    shard: Shard | None = None

    @property
    def own(self) -> tuple[Task, ...]:
        """The tasks that this process answers and scores: all of them, or those of its shard."""
        return self.shard.part(self.tasks) if self.shard else self.tasks


@dataclass(frozen=True)
class RunPlan:
    """A configuration in which every word means something that exists."""

    config: RunConfig
    profile: Profile
    specs: tuple[ModelSpec, ...]
    controls: tuple[str, ...]
    measured: tuple[MeasuredSuite, ...]
    training_suites: Mapping[str, Suite]
    run_name: str
    notes: tuple[str, ...] = ()
    """What is left out of what was asked, for people."""


def resolve(config: RunConfig, *, models_only: bool = False) -> RunPlan:
    """Resolve profile, models and suites and read all data; with `models_only` no suite is to be measured.

    Raises:
        UsageError: a word means nothing, or the words do not fit together.
    """
    _check(config)
    profile = load_profile(config.profile)
    if config.quantization is not None:
        profile = replace(profile, file=profile.file.model_copy(update={"quantization": config.quantization}))
    suite_names = [] if models_only else list(dict.fromkeys(config.suites or profile.file.suites))
    _data_by_folder(config.data)
    words = [word for word in config.models if word not in CONTROL_NAMES]
    if not words:
        raise UsageError("--models names only controls", "name at least one model, such as base")
    specs = [resolve_model(word, profile) for word in words]
    locations = _told_apart(find_suite(name) for name in suite_names)
    check_split_option(config.split, [*locations.values(), *_learnt_from(specs)])
    suites = {name: _load(location, config) for name, location in locations.items()}
    for spec in specs:
        check_adapter(spec)
        check_elsewhere(spec)
        if spec.file.train and spec.file.train.evaluation:
            from harness.pipeline.dev_evaluation import check_metrics  # it brings the scorers along

            check_metrics(spec.file.train.evaluation)
        check_given_tasks(spec, suites.values())
    tuned = any(spec.kind == "tuned" for spec in specs)
    if tuned and not models_only and FEW_SHOT_BASE not in words and FEW_SHOT_BASE in model_names(profile):
        specs.insert(len([spec for spec in specs if spec.kind == "base"]), resolve_model(FEW_SHOT_BASE, profile))
    check_names(specs, config.models, profile)
    learnt = _learnt_from(specs)
    _told_apart([*locations.values(), *learnt])
    training_suites = {
        name: suites.get(name) or _load(location, config) for name, location in _told_apart(learnt).items()
    }
    specs, notes = _with_rows_to_learn(specs, training_suites)
    return RunPlan(
        config=config,
        profile=profile,
        specs=tuple(specs),
        controls=CONTROL_NAMES,
        measured=tuple(MeasuredSuite(suite, _measured_part(suite, config), config.shard) for suite in suites.values()),
        training_suites=training_suites,
        run_name=_run_name(config, profile),
        notes=notes,
    )


def resolve_given(config: RunConfig, answers: Path) -> RunPlan:
    """Resolve a configuration whose models are those of a file of answers, and whose one suite they answer.

    Raises:
        UsageError: the file or the suite is missing or broken, or they do not fit together.
    """
    _check(replace(config, samples=1))
    (word,) = config.suites
    location = find_suite(word)
    check_split_option(config.split, [location])
    suite = _load(location, config)
    profile, specs, samples = given_models(answers, suite)
    config = replace(config, models=tuple(spec.name for spec in specs), samples=samples)
    deciding = {**config.cache_key_fields(), "answers": file_sha256(answers)}
    return RunPlan(
        config=config,
        profile=profile,
        specs=tuple(specs),
        controls=CONTROL_NAMES,
        measured=(MeasuredSuite(suite, _measured_part(suite, config)),),
        training_suites={},
        run_name=config.name or f"{datetime.now(UTC):%Y-%m-%d}-{content_key(deciding)[:8]}",
    )


def training_suite_name(spec: ModelSpec, specs: Sequence[ModelSpec]) -> str:
    """Return the name of the suite whose training part this model learns from or takes its examples from.

    A few-shot model takes its examples from where the first trained model of the run learns: both know the same.
    """
    trainings = [other.file.train for other in ([spec] if spec.file.train else specs) if other.file.train]
    return (trainings[0].suite if trainings else None) or spec.profile.file.training_suite


def _check(config: RunConfig) -> None:
    if config.samples > 1 and config.temperature == 0:
        raise UsageError("--samples needs --temperature above 0", "greedy samples would all be equal: try 0.7")
    if config.limit is not None and config.limit < 2:
        raise UsageError("--limit must be at least 2", "a comparison needs more than one task")
    if config.executor == "local" and (config.address is not None or config.actors != Actors()):
        raise UsageError("--address and --actors are for --executor ray", "add it, or leave them out")
    if config.name is not None and not _is_folder_name(config.name):
        raise UsageError(f"'{config.name}' cannot be the name of a run", "use letters, digits, '.', '_' and '-'")


def _is_folder_name(name: str) -> bool:
    return name[:1].isalnum() and all(letter.isalnum() or letter in "._-" for letter in name) and len(name) <= 100


def _told_apart(locations: Iterable[SuiteLocation]) -> dict[str, SuiteLocation]:
    """Return suites by name, each folder once.

    Raises:
        UsageError: two folders have names that cannot be told apart: results are filed under a suite's name.
    """
    found: dict[str, SuiteLocation] = {}
    folded: dict[str, SuiteLocation] = {}
    for location in locations:
        other = folded.setdefault(location.name.casefold(), location)
        if other.folder.resolve() != location.folder.resolve():
            raise UsageError(
                f"two suites are called '{location.name}': {other.folder} and {location.folder}",
                "rename one of the folders",
            )
        found.setdefault(other.name, other)
    return found


def _data_by_folder(data: Mapping[str, Path]) -> dict[Path, Path]:
    """Return the files given by `--data`, by the folder of their suite.

    Raises:
        UsageError: a suite does not exist, or gets two files.
    """
    found: dict[Path, Path] = {}
    for name, path in data.items():
        if found.setdefault(find_suite(name).folder.resolve(), path) != path:
            raise UsageError(f"--data gives the suite '{name}' two files", "give one")
    return found


def _load(location: SuiteLocation, config: RunConfig) -> Suite:
    data = _data_by_folder(config.data).get(location.folder.resolve())
    suite = load_suite(location, data, chosen_split(location, config.split))
    for part, tasks in (("training", suite.train), ("held-out", suite.held_out)):
        if not tasks and not (part == "training" and suite.held_out_only):
            raise UsageError(f"suite {suite.name} has no {part} tasks", _why_empty(suite))
    return suite


def _why_empty(suite: Suite) -> str:
    if len(suite.train) + len(suite.held_out) > 1:
        return "all its rows are near-duplicates of one another, which stay in one part: add rows that differ"
    return "add rows to its data"


def _learnt_from(specs: Sequence[ModelSpec]) -> list[SuiteLocation]:
    """The suites that models learn from or take examples from, as their files name them."""
    return [find_suite(training_suite_name(spec, specs)) for spec in specs if spec.file.train or spec.file.few_shot]


def _with_rows_to_learn(
    specs: Sequence[ModelSpec], training_suites: Mapping[str, Suite]
) -> tuple[list[ModelSpec], tuple[str, ...]]:
    """Return the models that have rows to learn from, and a line for each few-shot model that has none.

    Raises:
        UsageError: a model is to be trained on a suite that is held out as a whole, or none is left.
    """
    kept, notes = [], []
    for spec in specs:
        learns = spec.file.train is not None or spec.file.few_shot > 0
        suite = training_suites[find_suite(training_suite_name(spec, specs)).name] if learns else None
        if suite is None or not suite.held_out_only:
            kept.append(spec)
        elif spec.file.train is not None:
            raise UsageError(
                f"{spec.name} cannot learn from {suite.name}, which is held out as a whole",
                "name a suite with training rows: `train: {suite: ...}` in its model file, or the profile's "
                "`training_suite`",
            )
        else:
            notes.append(f"{spec.name} is left out: {suite.name} is held out as a whole, so it has no examples to show")
    if not kept:
        raise UsageError(notes[0], "name another model")
    return kept, tuple(notes)


def _measured_part(suite: Suite, config: RunConfig) -> tuple[Task, ...]:
    count = config.limit or (None if config.full else suite.default_held_out)
    return stratified(suite.held_out, count)


def _run_name(config: RunConfig, profile: Profile) -> str:
    name = config.name or _default_name(config, profile)
    return config.shard.folder_name(name) if config.shard else name


def _default_name(config: RunConfig, profile: Profile) -> str:
    deciding = {**config.cache_key_fields(), "profile": profile.name}
    return f"{datetime.now(UTC):%Y-%m-%d}-{content_key(deciding)[:8]}"


def parse_data_options(options: Sequence[str]) -> dict[str, Path]:
    """Parse `--data SUITE=FILE`.

    Raises:
        UsageError: an option has another form, or the file is missing.
    """
    data: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--data {option} is not SUITE=FILE", "for example --data html_alpaca=rows.jsonl")
        if not Path(path).exists():
            near = [file.name for file in Path(path).parent.glob("*") if file.suffix in SUFFIXES]
            raise UsageError(f"there is no data file {path}", did_you_mean(Path(path).name, near) if near else "")
        if name in data and data[name] != Path(path):
            raise UsageError(f"--data gives the suite '{name}' two files", "give one")
        data[name] = Path(path)
    return data
