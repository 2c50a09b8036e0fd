"""The values that pass between the stages. Small, frozen, free of behaviour beyond derived facts.

Data moves one way: Suite → Completion → Page → Score → Comparison → report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from harness.checks.words import Check

Scope = Literal["document", "fragment"]
FinishReason = Literal["stop", "eos", "length", "loop", "error"]
Quantization = Literal["none", "nf4"]
ComputeDType = Literal["float32", "bfloat16", "float16"]
"""What weights are held and computed in, as torch spells it."""
GpuName = Literal["t4", "l4", "a10", "a100", "h100"]
"""GPUs that a training can be planned for without having one."""
Scale = Literal["binary", "share", "percent"]
"""Of a metric: yes or no, a share from 0 to 1, or from 0 to 100."""
PageKind = Literal["raw", "fenced", "wrapped", "other", "none"]
BlockKind = Literal["text", "control", "graphic", "box"]
Outcome = Literal[
    "unscored",
    "crash",
    "timeout",
    "too-large",
    "navigated-away",
    "script-error",
    "blank",
    "blocked-resource",
    "ok",
]
"""What became of a page in the browser; the first that applies, in this order."""

OVERRAN = "over the limit: "
"""How the note of a score begins that is null because its page was too large or took too long to measure."""

CONTROL_NAMES = ("reference", "nearest", "shuffled", "empty", "prompt")
"""Rows that no model wrote, scored like models: see docs/controls.md."""


SUITE_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""What the name of a suite may be, wherever one is made, found or named in a rule."""


def sha256(text: str) -> str:
    """Return the SHA-256 of `text` in UTF-8 as 64 hex digits; lone surrogates are kept apart by `surrogatepass`."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with its reference answer."""

    id: str
    prompt: str
    input: str = ""
    reference: str = ""
    category: str = "other"
    difficulty: str = ""
    scope: Scope = "document"
    ignore: frozenset[str] = frozenset()
    checks: tuple[Check, ...] = ()

    @property
    def prompt_sha(self) -> str:
        """SHA-256 over prompt and input, full length: equal exactly when two tasks ask the same."""
        return sha256(self.prompt + "\n\n" + self.input)


@dataclass(frozen=True, slots=True)
class Suite:
    """A named set of tasks, already split."""

    name: str
    title: str
    scope: Scope
    ignore: frozenset[str]
    revision: str
    """Where the rows came from: SHA-256 of the data file, or the hub revision."""
    train: tuple[Task, ...]
    held_out: tuple[Task, ...]
    split_hash: str
    """SHA-256 over the ids of both parts: equal exactly when two runs trained on and measured the same rows."""
    default_held_out: int | None = None
    """How many held-out tasks a run takes unless told otherwise (a fixed, stratified part); None is all."""
    split: str = "default"
    """The name of the split, as `--split` takes it."""
    notes: tuple[str, ...] = ()
    """What had to be done to read its rows, for people."""
    held_out_only: bool = False
    """Whether it is a benchmark, of which nothing is to be learnt: `train` is empty because its file says so."""
    rows_sha256: str = ""
    """SHA-256 of its rows in order (`harness.suite.pinned`); empty where its files are split already."""
    known_rows: str = ""
    """What they are of the published rows, in words; empty where the suite pins none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one prompt, wherever it was answered; without names, which may change while the content stays."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Wall-clock share of this answer: its batch's time divided over the batch."""
    note: str = ""
    decoder: str = ""
    """Which decoder wrote it, where it is another one than the identity names: the memory ran out on the way."""
    unanswered: str = ""
    """Why there is no answer through no fault of the model: it is not stored, and its row stays unscored."""

    def at(self, task: str, model: str, sample: int) -> Completion:
        """Return it as what a model answered to a task."""
        return Completion(**asdict(self), task=task, model=model, sample=sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Answer):
    """An answer at its place in a run."""

    task: str
    model: str
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """The HTML inside a completion, cut out and never repaired."""

    html: str
    kind: PageKind
    truncated: bool
    """True where the page has no end although it should: the completion ran into the limit, or a fence never closed."""
    note: str = ""
    """What the completion holds instead of a page, where that is known."""

    @property
    def found(self) -> bool:
        """Whether there is a page at all."""
        return self.kind not in ("other", "none")


@dataclass(frozen=True, slots=True)
class Score:
    """One number of one metric for one page; None is "not measured", never 0, and `note` says why."""

    value: float | None
    note: str = ""
    counts: tuple[float, ...] | None = None
    """For corpus metrics: the sufficient statistics of this row, which sum over rows."""


@dataclass(frozen=True, slots=True)
class Message:
    """One complaint of a parser or checker."""

    source: str
    text: str
    line: int | None = None
    column: int | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether one task check held in the browser."""

    why: str
    level: Literal["must", "should"]
    passed: bool
    detail: str = ""


class Violation(TypedDict, total=False):
    """A rule of axe-core that a page breaks."""

    id: str
    impact: str | None
    help: str
    nodes: list[str]
    """Selectors of the first ten elements."""
    count: int
    """How many elements there are."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something that a reader sees on a page at 1280 px: a run of text, a form control, a graphic or a painted box.

    Place and size are CSS px from the page's top left corner, which are the desktop screenshot's pixels.
    """

    kind: BlockKind
    text: str
    """What it says, white space collapsed; empty where it says nothing."""
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Rendering:
    """What the closed browser measured on one page."""

    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0
    visible_text: str = ""
    visible_characters: int = 0
    painted_share: float | None = None
    """Share of viewport pixels that differ from the background, 0 to 1."""
    errors: tuple[str, ...] = ()
    console_errors: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    """URLs of missing or blocked resources."""
    overflow: Mapping[str, int] = field(default_factory=dict)
    """Horizontal overflow in CSS px by viewport width, e.g. {"1280": 0, "375": 12}."""
    text_faults: Mapping[str, int] = field(default_factory=dict)
    """Counts of text elements that are clipped, zero-size or invisible."""
    accessibility: tuple[Violation, ...] | None = None
    """None when axe did not run."""
    dom_hash: str = ""
    stable: bool | None = None
    """False where two renderings differed; None where only one was made."""
    screenshots: Mapping[str, bytes] = field(default_factory=dict)
    """PNG bytes by "desktop" and "phone"."""
    blocks: tuple[Block, ...] | None = None
    """What is laid out at 1280 px; None where the page was not measured."""
    checks: tuple[CheckResult, ...] | None = None
    checks_unmeasured: str = ""
    """Why a page that was measured has no `checks`."""


@dataclass(frozen=True, slots=True)
class TrainingCurvePoint:
    """One logged step of a training."""

    step: int
    loss: float | None = None
    tokens: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
