"""Where the work of a run is done. The classes that do it are the same everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from harness.generate.backend import Answers, GenerationRequests, PromptT, StoredBackend, SuiteQuestions
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
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

    def answers(self, questions: Iterable[SuiteQuestions]) -> Iterable[Completion]:
        """Return all completions: each as it comes where pages are scored meanwhile, else when all are there."""

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

    def answers(self, questions: Iterable[SuiteQuestions]) -> list[Completion]:
        """Let one model after the other answer, before anything is scored."""
        return [completion for asked in questions for completion in self._answers(asked)]

    def _answers(self, asked: SuiteQuestions) -> list[Completion]:
        with self._reporter.stage(str(asked), len(asked.tasks) * asked.backend.samples) as stage:
            tokens, seconds, cached = 0, 0.0, 0

            def show(completion: Completion, stored: bool) -> None:
                nonlocal tokens, seconds, cached
                cached += stored
                if not stored:
                    tokens, seconds = tokens + completion.completion_tokens, seconds + completion.seconds
                speed = f"{tokens / seconds:.0f} tokens/s" if seconds else ""
                stage.advance(speed or f"{cached} from the store")

            return asked.backend.complete(asked.tasks, fresh=asked.fresh, decode=self.decode, on_done=show)

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
