"""What manifest.json holds: everything that decides a run's numbers, and what the run cost."""

from __future__ import annotations

from harness.runs.record import ABSENT, VERSION, Count, FreeJson, Record, Text
from harness.types import CONTROL_NAMES, Scale

TUNED, FEW_SHOT, BASE, CONTROL = "tuned", "few-shot", "base", "control"


class ProfileEntry(Record):
    """The profile that the run was made with."""

    name: Text = ""
    title: Text = ""
    why: Text = ""
    weights: FreeJson = None
    quantization: Text | None = None
    dtype: Text | None = None
    template_sha: Text | None = None
    max_new_tokens: int | None = None


class Price(Record):
    """What a model's answers cost where they are charged by the token."""

    amount: float
    currency: Text = ""


class Cost(Record):
    """What a model's answers took; tokens a second are those of one process at a time."""

    seconds: float = 0.0
    completion_tokens: int = 0
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    price: Price | None = ABSENT


class CurvePoint(Record):
    """One logged step of a training."""

    step: int | None = None
    loss: float | None = None
    tokens: int | None = None
    scores: dict[Text, float | None] = {}


class EvaluationEntry(Record):
    """Which step's weights were kept, by evaluations on rows that were kept out of the training."""

    settings: dict[Text, FreeJson] = {}
    development: tuple[Text, ...] = ()
    kept_step: int | None = None
    stopped_early: bool = False


class TrainingEntry(Record):
    """The training of a model: what it saw and what it took."""

    suite: Text = ""
    rows: int | None = None
    seed: int | None = None
    steps: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    settings: dict[Text, FreeJson] = {}
    layout: dict[Text, FreeJson] = {}
    out_of_memory: tuple[FreeJson, ...] = ()
    peak_memory_bytes: int | None = None
    data: dict[Text, FreeJson] = {}
    evaluation: EvaluationEntry | None = None
    curve: tuple[CurvePoint, ...] = ()


class BatchCheck(Record):
    """Of how many answers how many differ between batch 1 and the batch used."""

    batch_size: int
    answers: int
    differ: int
    tasks: tuple[Text, ...] = ()


class BackendEntry(Record):
    """What a backend says of itself; what does not apply to it is None."""

    weights_sha256: Text | None = None
    config_sha256: Text | None = None
    tokenizer_sha256: Text | None = None
    adapter_sha256: Text | None = None
    adapter_config_sha256: Text | None = None
    adapter_tokenizer_sha256: Text | None = None
    quantization: Text | None = None
    dtype: Text | None = None
    device: Text | None = ABSENT
    template_sha: Text | None = None
    examples: tuple[Text, ...] | None = ABSENT
    backend: Text | None = None
    batch_size: int | None = None
    decoder: FreeJson = ABSENT
    decoding: dict[Text, FreeJson] | None = ABSENT
    generation: dict[Text, FreeJson] | None = None
    server: dict[Text, FreeJson] | None = ABSENT
    file: dict[Text, FreeJson] | None = ABSENT
    engine: dict[Text, FreeJson] | None = ABSENT


class _ModelFile(Record):
    """What the model's file says of it."""

    kind: Text = "model"
    family: Text | None = None
    """The name under which trainings of one model are compared."""
    description: Text | None = ABSENT
    weights: Text | None = ABSENT


class ModelEntry(BackendEntry, _ModelFile):
    """One model of a run: what it is made of, how it answered, how it was trained and what that took."""

    training: TrainingEntry | None = None
    cost: Cost | None = None
    batch_check: BatchCheck | None = ABSENT


class Leakage(Record):
    """Held-out tasks that are near-duplicates of training rows."""

    flagged: tuple[Text, ...] = ()
    near: dict[Text, list[Text]] = {}


class ShiftEntry(Record):
    """How a suite's held-out rows compare with those that models learn from."""

    auc: float | None = None
    low: float | None = None
    high: float | None = None
    told_apart: bool = False
    differs_in: tuple[Text, ...] = ()
    training: Text = ""


class ReachEntry(Record):
    """How many references are longer than an answer can be."""

    max_new_tokens: int | None = None
    out_of_reach: int = 0
    references: int | None = None
    estimated: bool = False


class SuiteEntry(Record):
    """One measured suite."""

    title: Text = ""
    revision: Text = ""
    rows_sha256: Text | None = None
    """Of the rows in order; None where files are split already."""
    known_rows: Text | None = None
    """What they are of the published rows, in words; None where the suite pins none."""
    split: Text = "default"
    split_hash: Text | None = None
    scope: Text = "document"
    ignore: tuple[Text, ...] = ()
    train: int | None = None
    held_out: int | None = None
    measured: int | None = None
    leakage: Leakage = Leakage()
    shift: ShiftEntry | None = None
    reach: ReachEntry | None = None


class ScorerEntry(Record):
    """One metric as the run measured it."""

    version: int | None = None
    label: Text = ""
    kind: Text
    scale: Scale
    primary: bool = False
    description: Text = ""
    corpus: bool = False


class MetricCheck(Record):
    """One metric against one kind of perturbed reference."""

    metric: Text
    perturbation: Text
    reference_wins: Count = 0
    perturbation_wins: Count = 0
    ties: Count = 0
    unmeasured: Count = 0

    @property
    def measured(self) -> int:
        """Pairs with a number on both sides."""
        return self.reference_wins + self.perturbation_wins + self.ties


class SelfTest(Record):
    """How the metrics proved themselves on a suite. Numbers of refused ones mean nothing."""

    tasks: Count = 0
    checks: tuple[MetricCheck, ...] = ()
    refused: dict[Text, Text] = {}
    """Metric → why its numbers mean nothing: they are null in this run."""
    untested: tuple[Text, ...] = ()
    """Metrics that no perturbation could be measured with (no browser, no Java, no reference)."""


class Hardware(Record):
    """The machine that the run was made on."""

    cpu: Text | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    gpu: Text | None = None


class GitState(Record):
    """The commit of the harness' own checkout, and whether files differed from it."""

    commit: Text | None = None
    dirty: bool | None = None


class ShardEntry(Record):
    """One part of a run that was measured in parts."""

    shard: Text | None = None
    hardware: Hardware = Hardware()
    finished: Text | None = None


class Manifest(Record):
    """manifest.json."""

    version: int = VERSION
    run: Text = ""
    harness: Text = ""
    started: Text | None = None
    finished: Text | None = None
    """None while the run goes on."""
    command: tuple[Text, ...] | Text = ()
    arguments: dict[Text, FreeJson] = {}
    shard: Text | None = None
    shards: tuple[ShardEntry, ...] | None = ABSENT
    profile: ProfileEntry = ProfileEntry()
    models: dict[Text, ModelEntry] = {}
    suites: dict[Text, SuiteEntry] = {}
    scorers: dict[Text, ScorerEntry] = {}
    self_test: dict[Text, SelfTest] = {}
    tools: dict[Text, FreeJson] = {}
    packages: dict[Text, Text | None] = {}
    hardware: Hardware = Hardware()
    git: GitState = GitState()
    seeds: tuple[int, ...] = ()
    executor: dict[Text, FreeJson] = {}
    deciding: Text | None = ABSENT
    """A hash over all that decides the run's rows: they are kept on resume where it is the same."""

    def is_control(self, model: str) -> bool:
        """Whether no model wrote these rows."""
        entry = self.models.get(model)
        return model in CONTROL_NAMES if entry is None else entry.kind == CONTROL

    @property
    def flagged(self) -> dict[str, tuple[str, ...]]:
        """By suite, the tasks that look like training rows."""
        return {name: suite.leakage.flagged for name, suite in self.suites.items()}
