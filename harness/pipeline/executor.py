"""Where the work of a run is done. The classes that do it are the same everywhere."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from harness.generate.backend import Answers, GenerationRequests, PromptT, StoredBackend, SuiteQuestions
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.together import answers, queues
from harness.model.load import Precision, choose_precision
from harness.model.profile_schema import DType
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject
from harness.storage.cache import cache_folder
from harness.types import Completion, Quantization, Task

if TYPE_CHECKING:
    from harness.cluster.executor import RayExecutor
    from harness.pipeline.config import RunConfig
    from harness.progress import ProgressReporter
    from harness.render import Renderer
    from harness.scoring.scorer import ShotWriter


class Executor(Protocol):
    """Answers prompts and scores answers."""

    def precision(self, quantization: Quantization, dtype: DType) -> Precision:
        """Return how weights are held where they answer."""

    def decoder(self, generator: Generator) -> Verdict:
        """Return which decoder writes for a model where it answers, proved there.

        Raises:
            HarnessError: transformers' own `generate` fails on it.
        """

    def begin(self) -> None:
        """Called when training is over and the measuring begins."""

    def decode(self, backend: StoredBackend[PromptT], wanted: GenerationRequests[PromptT]) -> Answers:
        """Yield a model's answers to what is not in the store."""

    def answers(self, suites: Sequence[Sequence[SuiteQuestions]]) -> Sequence[Iterable[Completion]]:
        """Return the completions of each suite: as they come where pages are scored meanwhile, else when all are there.

        Args:
            suites: What each model is asked of each suite.
        """

    def rows(
        self,
        suite: str,
        work: Iterable[tuple[Task, Completion]],
        refused: Mapping[str, str],
        write_shot: ShotWriter,
        on_page: Callable[[], None],
    ) -> Iterator[list[SampleRecord]]:
        """Yield the finished rows of a suite as they come, in any order.

        Args:
            suite: The suite's name.
            work: Tasks with their answers, read only as fast as they are scored.
            refused: Metrics whose numbers are not given, and why.
            write_shot: Stores a screenshot.
            on_page: Called after each page.
        """

    def record(self) -> JsonObject:
        """Return what the manifest says of it."""


def open_executor(
    config: RunConfig, reporter: ProgressReporter
) -> contextlib.AbstractContextManager[LocalExecutor | RayExecutor]:
    """Return the executor that was asked for; the reporter is told how its work goes.

    Raises:
        UsageError: its package is not installed.
        HarnessError: its cluster is out of reach, or does not measure as this machine does.
    """
    if config.executor == "local":
        return LocalExecutor(reporter)
    from harness.cluster.executor import RayExecutor

    return RayExecutor(config.address, config.actors, reporter.say)


class LocalExecutor:
    """Everything in this process and its browsers."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter
        self._renderer: Renderer | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def precision(self, quantization: Quantization, dtype: DType) -> Precision:
        """Return the precision for this machine."""
        return choose_precision(quantization, dtype)

    def decoder(self, generator: Generator) -> Verdict:
        """Return which decoder writes for a model in this process."""
        return generator.decoder()

    def begin(self) -> None:
        """Nothing is to be made ready: browsers start with the first page."""

    def decode(self, backend: StoredBackend[PromptT], wanted: GenerationRequests[PromptT]) -> Answers:
        """Let the model decode in this process."""
        return backend.decode(wanted)

    def answers(self, suites: Sequence[Sequence[SuiteQuestions]]) -> list[list[Completion]]:
        """Let all models answer before anything is scored: those on the same weights in one queue, where they can."""
        found = {}
        for queue in queues(question for questions in suites for question in questions):
            found.update(self._answers(queue))
        return [[done for question in questions for done in found[id(question)]] for questions in suites]

    def _answers(self, queue: Sequence[SuiteQuestions]) -> dict[int, list[Completion]]:
        """Return the completions of one queue by the `id` of the questions."""
        done: list[list[Completion]] = [[] for _ in queue]
        tally = _Tally()
        for asked in queue:
            tally.totals[asked.backend.name] += len(asked.tasks) * asked.backend.samples
        with self._reporter.stage(_title(queue), tally.totals.total()) as stage:
            for number, completion, stored in answers(queue):
                done[number].append(completion)
                tally.add(completion, stored)
                stage.advance(str(tally))
        return {id(asked): asked.backend.in_order(its, asked.tasks) for asked, its in zip(queue, done, strict=True)}

    def rows(
        self,
        suite: str,
        work: Iterable[tuple[Task, Completion]],
        refused: Mapping[str, str],
        write_shot: ShotWriter,
        on_page: Callable[[], None],
    ) -> Iterator[list[SampleRecord]]:
        """Yield finished rows, a chunk at a time; the browsers stay open for the next suite."""
        from harness.render import Renderer
        from harness.scoring.scorer import Scorer

        if self._renderer is None:
            self._renderer = self._open.enter_context(Renderer(cache_dir=cache_folder("renders")))
        return Scorer(suite, self._renderer, write_shot, refused).rows(work, on_page)

    def record(self) -> JsonObject:
        """Return the executor's name."""
        return {"name": "local"}


@dataclass
class _Tally:
    """How far the models of a queue are."""

    totals: Counter[str] = field(default_factory=Counter)
    """How many answers each model owes."""
    done: Counter[str] = field(default_factory=Counter)
    stored: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, completion: Completion, stored: bool) -> None:
        """Count an answer."""
        self.done[completion.model] += 1
        self.stored += stored
        if not stored:
            self.tokens, self.seconds = self.tokens + completion.completion_tokens, self.seconds + completion.seconds

    def __str__(self) -> str:
        speed = f"{self.tokens / self.seconds:.0f} tokens/s" if self.seconds else f"{self.stored} from the store"
        each = [f"{name} {self.done[name]}/{total}" for name, total in self.totals.items()]
        return ", ".join([speed, *(each if len(each) > 1 else [])])


def _title(queue: Sequence[SuiteQuestions]) -> str:
    if len(queue) == 1:
        return str(queue[0])
    names, suites = (
        list(dict.fromkeys(words)) for words in zip(*((q.backend.name, q.suite) for q in queue), strict=True)
    )
    return f"{_listed(names)} answer {_listed(suites)} in one queue"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
