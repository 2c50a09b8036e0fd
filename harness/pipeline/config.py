"""What the user asked `run` to do, and everything that can be refused before the work begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from harness.cluster.actors import Actors, ExecutorName
from harness.errors import UsageError, did_you_mean
from harness.generate.backends import check_elsewhere, check_given_tasks, given_models
from harness.model.adhoc_profile import adhoc_profile
from harness.model.profile import (
    ModelSpec,
    Profile,
    check_adapter,
    check_names,
    load_profile,
    model_names,
    names_whole_model,
    resolve_model,
)
from harness.runs.shard import Shard
from harness.storage.cache import content_key, file_sha256
from harness.suite.load import SuiteLocation, find_suite, load_suite
from harness.suite.rows import SUFFIXES
from harness.suite.split import stratified
from harness.suite.split_option import check_split_option, chosen_split
from harness.types import CONTROL_NAMES, Quantization, Suite, Task

DEFAULT_MODELS = ("base", "base-fewshot", "tuned")
FEW_SHOT_BASE = "base-fewshot"


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
        deciding["data"] = {suite: file_sha256(path) for suite, path in self.data.items()}
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
    profiles = _profiles(config, words)
    profile = profiles[0]
    wanted_suites = list(dict.fromkeys(config.suites or profile.file.suites))
    specs = _specs(words, profiles, with_few_shot=not models_only)
    locations = _told_apart(find_suite(name) for name in ([] if models_only else wanted_suites))
    learnt = _learnt_from(specs, config.train_on or wanted_suites[0])
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
    return RunPlan(
        config=config,
        profile=profile,
        specs=tuple(specs),
        controls=CONTROL_NAMES,
        measured=tuple(MeasuredSuite(suite, _measured_part(suite, config), config.shard) for suite in suites.values()),
        learns_from={model: all_folders[location.folder.resolve()] for model, location in learnt.items()},
        run_name=_run_name(config, profile),
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
        run_name=config.name or f"{datetime.now(UTC):%Y-%m-%d}-{content_key(deciding)[:8]}",
    )


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


def check_data_option(data: Mapping[str, Path], locations: Iterable[SuiteLocation]) -> dict[Path, Path]:
    """Return the files given by `--data`, by the folder of their suite, which is one of those in use.

    Raises:
        UsageError: the suite does not exist, gets two files, or is not used; the hint names those that are.
    """
    used = {location.folder.resolve(): location for location in locations}
    found = _data_by_folder(data)
    for folder, path in found.items():
        if folder not in used:
            # of two suites of one name, the folder says which is meant
            names = {str(one.folder) if one.name == folder.name else one.name for one in used.values()}
            hint = f"in use: {', '.join(sorted(names))}" if used else "leave --data out"
            raise UsageError(f"--data {folder.name}={path}: the suite '{folder.name}' is not used here", hint)
    return found


def _load(location: SuiteLocation, config: RunConfig) -> Suite:
    data = _data_by_folder(config.data).get(location.folder.resolve())
    suite = load_suite(location, data, chosen_split(location, config.split))
    for part, tasks in (("training", suite.train), ("held-out", suite.held_out)):
        if not tasks:
            raise UsageError(f"suite {suite.name} has no {part} tasks", _why_empty(suite))
    return suite


def _why_empty(suite: Suite) -> str:
    if len(suite.train) + len(suite.held_out) > 1:
        return "all its rows are near-duplicates of one another, which stay in one part: add rows that differ"
    return "add rows to its data"


def _profiles(config: RunConfig, words: Sequence[str]) -> list[Profile]:
    """Return the profiles whose models are asked for: one, or one for each of several `--weights`.

    A whole model among `--models` is the profile where neither option names one and no base is asked for beside it.
    """
    if config.weights and config.profile is not None:
        raise UsageError("--weights and --profile both say which models there are", "leave one of them out")
    weights = config.weights
    if not weights and config.profile is None and "base" not in words:
        weights = tuple(word for word in words if names_whole_model(word))[:1]
    if not weights:
        profile = load_profile(config.profile)
        if config.quantization is not None:
            profile = replace(profile, file=profile.file.model_copy(update={"quantization": config.quantization}))
        return [profile]
    profiles = [adhoc_profile(word, config.quantization) for word in dict.fromkeys(weights)]
    names = [profile.name.casefold() for profile in profiles]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UsageError(f"two of --weights are called '{profiles[number].name}'", "rename one of the folders")
    return profiles


def _specs(words: Sequence[str], profiles: Sequence[Profile], *, with_few_shot: bool) -> list[ModelSpec]:
    """Return the models that the words name, of several profiles each as `profile/model`.

    With `with_few_shot`, examples in the prompt are tried wherever something is tuned: what a user gets without it.
    """
    specs: list[ModelSpec] = []
    for profile in profiles:
        of_profile = [word for word in words if profile is profiles[0] or word in model_names(profile)]
        found = [resolve_model(word, profile) for word in of_profile]
        tuned = any(spec.kind == "tuned" for spec in found)
        if with_few_shot and tuned and FEW_SHOT_BASE not in words and FEW_SHOT_BASE in model_names(profile):
            found.insert(len([spec for spec in found if spec.kind == "base"]), resolve_model(FEW_SHOT_BASE, profile))
        own = model_names(profile) if len(profiles) > 1 else []
        specs += [replace(spec, name=f"{profile.name}/{spec.name}") if spec.name in own else spec for spec in found]
    return specs


def _learnt_from(specs: Sequence[ModelSpec], usual: str) -> dict[str, SuiteLocation]:
    """Return the suites that models learn from or take examples from, by the models' names.

    That is the one which the model file names, else the `usual` one. A few-shot model takes its examples from where the
    first trained model of the run learns: both know the same.
    """
    first = next((spec.file.train for spec in specs if spec.file.train), None)
    found = {}
    for spec in specs:
        training = spec.file.train or first
        if spec.file.train or spec.file.few_shot:
            found[spec.name] = find_suite((training.suite if training else None) or usual)
    return found


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
        if not Path(path).is_file():
            near = [file.name for file in Path(path).parent.glob("*") if file.suffix in SUFFIXES]
            raise UsageError(f"there is no data file {path}", did_you_mean(Path(path).name, near) if near else "")
        if name in data and data[name] != Path(path):
            raise UsageError(f"--data gives the suite '{name}' two files", "give one")
        data[name] = Path(path)
    return data
