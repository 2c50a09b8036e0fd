"""What the user asked `run` to do, and everything that can be refused before the work begins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.cluster.actors import Actors, ExecutorName
from harness.errors import UsageError
from harness.generate.backends import check_elsewhere, check_given_tasks, given_models
from harness.model.profile import ModelSpec, Profile, check_adapter, check_names, names_whole_model
from harness.pipeline.data_option import check_data_option, data_by_folder
from harness.pipeline.models import (
    profile_of,
    profiles_of_weights,
    resolve_specs,
    training_locations,
    with_rows_to_learn,
)
from harness.runs.folder import REPORTS_FOLDER, is_unfinished
from harness.runs.shard import Shard, is_shard_folder
from harness.storage.cache import content_key, file_sha256
from harness.suite.load import SuiteLocation, find_suite, load_suite
from harness.suite.rows import data_sha256
from harness.suite.split import stratified
from harness.suite.split_option import check_split_option, chosen_split
from harness.types import CONTROL_NAMES, ComputeDType, Quantization, Suite, Task

DEFAULT_MODELS = ("base", "base-fewshot", "tuned")


@dataclass(frozen=True)
class RunConfig:
    """The arguments of `run`."""

    models: tuple[str, ...] = DEFAULT_MODELS
    profile: str | None = None
    weights: tuple[str, ...] = ()
    """Models on the hub or the disk, each of which is a profile by itself, instead of one under baselines/."""
    suites: tuple[str, ...] = ()
    train_on: str | None = None
    """The suite whose training part is learnt from, where a model file names none; None is the first measured one."""
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
    dtype: ComputeDType | None = None
    """What weights are held and computed in; None leaves it to the profile."""
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
        if self.dtype is None:  # names of before it could be asked for stay
            del deciding["dtype"]
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
    learns_from: Mapping[str, Suite]
    """By the names of models that are trained or see examples: the suite whose training part they learn from."""
    run_name: str
    notes: tuple[str, ...] = ()
    """What is left out of what was asked, for people."""

    @property
    def made_profiles(self) -> list[Profile]:
        """The profiles of its models that were made of weights alone."""
        return [spec.profile for spec in self.specs if spec.profile.models]

    def what_is_learnt(self) -> str:
        """Return in words what is trained on what, and measured on what."""
        by_suite: dict[str, list[str]] = {}
        for model, suite in self.learns_from.items():
            by_suite.setdefault(f"{suite.name} ({len(suite.train)} tasks)", []).append(model)
        learnt = [f"{' and '.join(models)} from the training part of {suite}" for suite, models in by_suite.items()]
        measured = " and ".join(f"{part.suite.name} ({len(part.tasks)} tasks)" for part in self.measured)
        learning = f"learning: {'; '.join(learnt)}. " if learnt else ""
        return f"{learning}measured: the held-out part of {measured}"


def resolve(config: RunConfig, *, models_only: bool = False, measured_later: bool = False) -> RunPlan:
    """Resolve profile, models and suites and read all data.

    With `models_only` no suite is to be measured; with `measured_later` those of the profile are, in a run to come.

    Raises:
        UsageError: a word means nothing, or the words do not fit together.
    """
    _check(config)
    words = [word for word in config.models if word not in CONTROL_NAMES]
    if not words:
        raise UsageError("--models names only controls", "name at least one model, such as base")
    weights = config.weights
    if not weights and config.profile is None and "base" not in words:  # a whole model alone is what is asked about
        weights = tuple(word for word in words if names_whole_model(word))[:1]
    held = config.quantization
    profiles = profiles_of_weights(weights, held) if weights else [profile_of(config.profile, held)]
    profile = profiles[0]
    wanted_suites = list(dict.fromkeys(config.suites or profile.file.suites))
    specs = resolve_specs(words, profiles, with_few_shot=not models_only)
    locations = _told_apart(find_suite(name) for name in ([] if models_only else wanted_suites))
    learnt = training_locations(specs, config.train_on or wanted_suites[0])
    if config.train_on is not None and not learnt and not models_only:
        raise UsageError("--train-on says what is learnt from, and no model here learns", "leave it out, or add one")
    if config.seeds > 1 and not any(spec.file.train for spec in specs):
        raise UsageError("--seeds is for models that are fine-tuned, and none here is", "leave it out, or add one")
    used = [*locations.values(), *learnt.values()]
    if measured_later:
        used += [find_suite(name) for name in profile.file.suites]
    check_data_option(config.data, used)
    check_split_option(config.split, used)
    suites = {name: _load(location, config) for name, location in locations.items()}
    for spec in specs:
        check_adapter(spec)
        check_elsewhere(spec)
        if spec.file.train and spec.file.train.evaluation:
            from harness.pipeline.dev_evaluation import check_metrics  # it brings the scorers along

            check_metrics(spec.file.train.evaluation)
        check_given_tasks(spec, suites.values())
    check_names(specs, config.models, profile)
    all_folders = {
        location.folder.resolve(): suites.get(name) or _load(location, config)
        for name, location in _told_apart([*locations.values(), *learnt.values()]).items()
    }
    learns_from = {model: all_folders[location.folder.resolve()] for model, location in learnt.items()}
    specs, notes = with_rows_to_learn(specs, learns_from)
    return RunPlan(
        config=config,
        profile=profile,
        specs=tuple(specs),
        controls=CONTROL_NAMES,
        measured=tuple(MeasuredSuite(suite, _measured_part(suite, config), config.shard) for suite in suites.values()),
        learns_from={spec.name: learns_from[spec.name] for spec in specs if spec.name in learns_from},
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
    check_data_option(config.data, [location])
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
        learns_from={},
        run_name=config.name or _dated(deciding),
    )


def _check(config: RunConfig) -> None:
    if not math.isfinite(config.temperature):
        raise UsageError(f"--temperature {config.temperature} is no temperature", "0 is greedy; try 0.7")
    if config.samples > 1 and config.temperature == 0:
        raise UsageError("--samples needs --temperature above 0", "greedy samples would all be equal: try 0.7")
    if config.limit is not None and config.limit < 2:
        raise UsageError("--limit must be at least 2", "a comparison needs more than one task")
    if config.limit is not None and config.full:
        raise UsageError("--limit and --full both say how many tasks are measured", "leave one of them out")
    if config.executor == "local" and (config.address is not None or config.actors != Actors()):
        raise UsageError("--address and --actors are for --executor ray", "add it, or leave them out")
    if config.weights and config.profile is not None:
        raise UsageError("--weights and --profile both say which models there are", "leave one of them out")
    if config.name is not None and not _is_folder_name(config.name):
        raise UsageError(f"'{config.name}' cannot be the name of a run", "use letters, digits, '.', '_' and '-'")
    if config.name is not None and is_shard_folder(Path(config.name)):
        raise UsageError(
            f"'{config.name}' is what a shard's folder is called",
            "name the run alone and add --shard I/N, or use another --name",
        )


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


def _load(location: SuiteLocation, config: RunConfig) -> Suite:
    data = data_by_folder(config.data).get(location.folder.resolve())
    suite = load_suite(location, data, chosen_split(location, config.split))
    for part, tasks in (("training", suite.train), ("held-out", suite.held_out)):
        if not tasks and not (part == "training" and suite.held_out_only):
            raise UsageError(f"suite {suite.name} has no {part} tasks", _why_empty(suite))
    return suite


def _why_empty(suite: Suite) -> str:
    if len(suite.train) + len(suite.held_out) > 1:
        return "all its rows are near-duplicates of one another, which stay in one part: add rows that differ"
    return "add rows to its data"


def _measured_part(suite: Suite, config: RunConfig) -> tuple[Task, ...]:
    count = config.limit or (None if config.full else suite.default_held_out)
    return stratified(suite.held_out, count)


def _run_name(config: RunConfig, profile: Profile) -> str:
    name = config.name or _dated({**config.cache_key_fields(), "profile": profile.name}, config.shard)
    return config.shard.folder_name(name) if config.shard else name


def _dated(deciding: Mapping[str, object], shard: Shard | None = None) -> str:
    """Return the date and a hash of what decides.

    The date is that of a run of these words that was begun on another day and lacks its end, or this shard's.
    """
    key = content_key(deciding)[:8]
    if shard is None:
        lacking = [folder.name for folder in REPORTS_FOLDER.glob(f"[0-9]*-{key}") if is_unfinished(folder)]
    else:
        siblings = REPORTS_FOLDER.glob(f"[0-9]*-{key}.shard-*-of-{shard.count}")
        own = {name: REPORTS_FOLDER / shard.folder_name(name) for name in (path.stem for path in siblings)}
        lacking = [name for name, folder in own.items() if not folder.exists() or is_unfinished(folder)]
    return max(lacking, default=f"{datetime.now(UTC):%Y-%m-%d}-{key}")
