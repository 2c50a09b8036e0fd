"""The lines of tasks.jsonl and samples.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from pydantic import ConfigDict, Field, field_serializer, field_validator

from harness.runs.record import ABSENT, VERSION, Count, FreeJson, Name, Number, Record, Text
from harness.types import sha256

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
    suite: Text
    task: Text
    group: Text | None = None
    """The id of the first task of its group of near-duplicates; its own where it is alone."""
    prompt: Text = ""
    input: Text = ""
    reference: Text = ""
    category: Text | None = ""
    difficulty: Text | None = ""
    scope: Text = "document"
    ignore: tuple[Text, ...] = ()
    prompt_sha: Text = ""
    reference_sha: Text | None = ABSENT
    """Of the reference in frozen scores, which do not hold it."""
    checks_sha: Text | None = ABSENT
    """Of its `must` checks; None where it has none, or older files do not tell."""

    @property
    def key(self) -> TaskKey:
        """Suite and task."""
        return TaskKey(self.suite, self.task)

    @property
    def known_reference(self) -> str | None:
        """The SHA-256 of its reference; None where it has none, or frozen scores of before do not tell."""
        return sha256(self.reference) if self.reference else self.reference_sha

    def section(self, name: str) -> str:
        """Return the task's `category` or `difficulty`; empty where it has none."""
        return (self.category if name == "category" else self.difficulty) or ""


class Extraction(Record):
    """How the page was found in the completion."""

    kind: Text = "none"
    truncated: bool = False


class RenderFacts(Record):
    """What the browser measured on the page, without its pictures and texts."""

    detail: Text = ""
    visible_characters: int = 0
    painted_share: float | None = None
    errors: tuple[Text, ...] = ()
    console_errors: tuple[Text, ...] = ()
    blocked: tuple[Text, ...] = ()
    overflow: dict[Text, int] = {}
    text_faults: dict[Text, int] = {}
    accessibility: tuple[dict[Text, FreeJson], ...] | None = None
    dom_hash: Text = ""
    stable: bool | None = None


class Timing(Record):
    """The only part that differs between two equal runs."""

    generate_s: float = 0.0
    render_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class MessageRecord(Record):
    """One complaint of a parser or checker."""

    model_config = ConfigDict(from_attributes=True)

    source: Text
    text: Text
    line: int | None = None
    column: int | None = None
    code: Text = ""


class CheckRecord(Record):
    """Whether one task check held in the browser."""

    model_config = ConfigDict(from_attributes=True)

    why: Text
    level: Literal["must", "should"]
    passed: bool
    detail: Text = ""


class SampleRecord(Record):
    """What became of one answer: a line of the journal and of samples.jsonl."""

    version: int = VERSION
    suite: Name
    task: Name
    model: Name
    sample: Count
    prompt_sha: Text = ""
    """SHA-256 over the task's prompt and input; empty where it is not known: only a comparison of runs needs it."""
    completion: Text = ""
    page: Text = ""
    extraction: Extraction = Extraction()
    finish_reason: Text | None = None
    outcome: Text = "unscored"
    scores: dict[Text, Number | None]
    """By metric; None is "not measured". A metric that does not apply to the task is absent."""
    notes: dict[Text, Text] = {}
    counts: dict[Text, tuple[Statistic, ...] | None] = {}
    """The sufficient statistics of corpus metrics."""
    messages: tuple[MessageRecord, ...] = ()
    checks: tuple[CheckRecord, ...] = ()
    render: RenderFacts | None = None
    shots: dict[Text, Text] = {}
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
