"""The lines of tasks.jsonl and samples.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

from pydantic import Field, JsonValue, field_serializer, field_validator

from harness.runs.record import VERSION, Count, Name, Number, Record
from harness.types import CheckResult, Message

Statistic = Annotated[Number, Field(ge=0)]


class TaskKey(NamedTuple):
    """A task of a suite."""

    suite: str
    task: str


class RecordKey(NamedTuple):
    """What makes a sample unique in a run, and the order of samples.jsonl."""

    suite: str
    task: str
    model: str
    sample: int


class TaskRecord(Record):
    """One measured task."""

    version: int = VERSION
    suite: str
    task: str
    group: str | None = None
    """The id of the first task of its group of near-duplicates; its own where it is alone."""
    prompt: str = ""
    input: str = ""
    reference: str = ""
    category: str | None = ""
    difficulty: str | None = ""
    scope: str = "document"
    ignore: tuple[str, ...] = ()
    prompt_sha: str = ""

    @property
    def key(self) -> TaskKey:
        """Suite and task."""
        return TaskKey(self.suite, self.task)

    def section(self, name: str) -> str:
        """Return the task's `category` or `difficulty`; empty where it has none."""
        return (self.category if name == "category" else self.difficulty) or ""


class Extraction(Record):
    """How the page was found in the completion."""

    kind: str = "none"
    truncated: bool = False


class RenderFacts(Record):
    """What the browser measured on the page, without its pictures and texts."""

    detail: str = ""
    visible_characters: int = 0
    painted_share: float | None = None
    errors: tuple[str, ...] = ()
    console_errors: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    overflow: dict[str, int] = {}
    text_faults: dict[str, int] = {}
    accessibility: tuple[dict[str, JsonValue], ...] | None = None
    dom_hash: str = ""
    stable: bool | None = None


class Timing(Record):
    """The only part that differs between two equal runs."""

    generate_s: float = 0.0
    render_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class SampleRecord(Record):
    """What became of one answer: a line of the journal and of samples.jsonl."""

    version: int = VERSION
    suite: Name
    task: Name
    model: Name
    sample: Count
    prompt_sha: str = ""
    """SHA-256 over the task's prompt and input; empty where it is not known: only a comparison of runs needs it."""
    completion: str = ""
    page: str = ""
    extraction: Extraction = Extraction()
    finish_reason: str | None = None
    outcome: str = "unscored"
    scores: dict[str, Number | None]
    """By metric; None is "not measured". A metric that does not apply to the task is absent."""
    notes: dict[str, str] = {}
    counts: dict[str, tuple[Statistic, ...] | None] = {}
    """The sufficient statistics of corpus metrics."""
    messages: tuple[Message, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    render: RenderFacts | None = None
    shots: dict[str, str] = {}
    timing: Timing = Timing()

    @field_validator("counts", mode="before")
    @classmethod
    def _no_counts(cls, value: object) -> object:
        return {} if value is None else value

    @field_validator("render", mode="before")
    @classmethod
    def _not_rendered(cls, value: object) -> object:
        return value or None

    @field_serializer("render", mode="wrap")
    def _empty(self, value: RenderFacts | None, write: Callable[[RenderFacts], object]) -> object:
        return {} if value is None else write(value)

    @property
    def key(self) -> RecordKey:
        """What makes it unique in its run."""
        return RecordKey(self.suite, self.task, self.model, self.sample)

    @property
    def of_task(self) -> TaskKey:
        """Suite and task."""
        return TaskKey(self.suite, self.task)

    @property
    def measured(self) -> bool:
        """Whether any metric has a number."""
        return any(score is not None for score in self.scores.values())
