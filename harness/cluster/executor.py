"""The Ray executor: the workers of a cluster answer and score, this process reads and writes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from harness.cluster.actors import Actors, plan_workers
from harness.cluster.connect import joined, on_every_node
from harness.cluster.facts import NodeFacts, differences, node_facts, refuse_strangers
from harness.cluster.files import FileServer
from harness.cluster.pool import WorkerPool
from harness.cluster.retries import Lost
from harness.cluster.source import Shares, StreamedBatches
from harness.cluster.workers import GeneratorOrder, ModelWorker, Prompt, ScorerOrder, ScoreWorker, decoder_of
from harness.errors import HarnessError
from harness.generate.backend import Answers, GenerationRequests, StoredBackend, SuiteQuestions
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.strategy import TokenRequests
from harness.model.load import Precision, choose_precision
from harness.model.profile_schema import DType
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject
from harness.scoring.scorer import CHUNK, ShotWriter, unscored
from harness.types import Answer, Completion, Quantization, Task

if TYPE_CHECKING:
    from ray import ObjectRef, ObjectRefGenerator
    from ray.actor import ActorHandle

PromptT = TypeVar("PromptT")
_PASS_ROWS = 32
"""A pass over a model's weights takes about as long for so many rows as for one."""
_REFILLS = 16
"""A model's worker gets at most so many times the rows that it decodes side by side."""

_WORKER = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}


class RayExecutor:
    """Answers and scores on the workers of a Ray cluster.

    Args:
        address: The cluster's address; None starts one on this machine.
        actors: How many workers there are to be.
        say: Is told what happens, one line each.

    Raises:
        UsageError: ray is not installed.
        HarnessError: the cluster cannot be reached, or a node would not measure pages as this machine does.
    """

    def __init__(self, address: str | None, actors: Actors, say: Callable[[str], None]) -> None:
        self._open = contextlib.ExitStack()
        self._say = say
        self._ours = node_facts()
        self._ray = self._open.enter_context(joined(address))
        try:
            self._nodes = on_every_node(self._ray, node_facts)
            refuse_strangers(self._ours, self._nodes)
            self._warn_of_versions()
            self.counts = plan_workers(actors, self._ray.nodes())
            self._models = self._model_pool()
            self._scorers = self._score_pool()
            # when a node is gone, those of one kind may hold all that is left
            self._models.starved, self._scorers.starved = self._scorers.make_room, self._models.make_room
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self._models, self._scorers):
            with contextlib.suppress(Exception):
                pool.close()
        self._open.__exit__(kind, error, trace)

    def precision(self, quantization: Quantization, dtype: DType) -> Precision:
        """Return the precision of the models' workers, which may have GPUs where this machine has none."""
        if not self.counts.gpus:
            return choose_precision(quantization, dtype) if not _has_gpu() else _on_cpu(quantization, dtype)
        ask = self._ray.remote(num_cpus=0, num_gpus=self.counts.gpus, max_retries=2)(choose_precision)
        precision: Precision = self._ray.get(ask.remote(quantization, dtype))
        return precision

    def decoder(self, generator: Generator) -> Verdict:
        """Return which decoder writes for a model on the workers: proved on one of their kind.

        Raises:
            HarnessError: transformers' own `generate` fails on it.
        """
        if not self.counts.gpus or _has_gpu():
            try:
                return generator.decoder()
            finally:
                generator.loaded.release()  # the workers load their own
        order = GeneratorOrder.of(generator, proved=False)
        ask = self._ray.remote(num_cpus=self.counts.cpus, num_gpus=self.counts.gpus, max_calls=1, max_retries=2)(
            decoder_of
        )

        def find() -> Verdict:
            verdict: Verdict = self._ray.get(ask.remote(self._file_server(), order))
            return verdict

        return generator.decoder_found_by(find)

    def begin(self) -> None:
        """Start the workers, those of the models first: they need the larger pieces of a node."""
        counts = self.counts
        each = f" with {counts.gpus:g} GPU each" if counts.gpus else ""
        self._say(
            f"Ray: {len(self._nodes)} nodes, {counts.models} workers for models{each}, "
            f"{counts.scorers} for pages with {counts.browsers} browsers each"
        )
        self._models.recruit()
        self._scorers.recruit()

    def decode(self, backend: StoredBackend[PromptT], wanted: GenerationRequests[PromptT]) -> Answers:
        """Decode on the workers what the store lacks; a model behind a server is asked from here."""
        if isinstance(backend, Generator):
            yield from self._decode(backend, cast(TokenRequests, wanted))
        else:
            yield from backend.decode(wanted)

    def _decode(self, generator: Generator, wanted: TokenRequests) -> Answers:
        if not wanted:
            return
        generator.loaded.release()  # a training may have left it here; the workers load their own
        order = self._ray.put(GeneratorOrder.of(generator))
        source = Shares(wanted.items(), min(_PASS_ROWS, generator.at_once), _REFILLS * generator.at_once)

        def send(actor: ActorHandle, prompts: list[tuple[int, Prompt]]) -> ObjectRefGenerator:
            return actor.decode.options(num_returns="streaming").remote(order, prompts)

        def prepare(actor: ActorHandle) -> ObjectRef:
            return actor.prepare.remote(order)

        for results in self._models.map(source, send, prepare):
            for (place, _), result in results:
                yield place, Answer("", "error", unanswered=result.why) if isinstance(result, Lost) else result

    def answers(self, suites: Sequence[Sequence[SuiteQuestions]]) -> list[Iterator[Completion]]:
        """Return the completions of each suite as they come, for pages to be scored meanwhile."""
        return [self._answers(questions) for questions in suites]

    def _answers(self, questions: Sequence[SuiteQuestions]) -> Iterator[Completion]:
        for asked in questions:
            self._say(str(asked))
            for completion, _ in asked.backend.answers(asked.tasks, fresh=asked.fresh, decode=self.decode):
                yield completion

    def rows(
        self,
        suite: str,
        work: Iterable[tuple[Task, Completion]],
        refused: Mapping[str, str],
        write_shot: ShotWriter,
        on_page: Callable[[], None],
    ) -> Iterator[list[SampleRecord]]:
        """Yield finished rows as they come; `work` runs in a thread of its own, held back when pages pile up."""
        order = self._ray.put(ScorerOrder(suite, refused))

        def send(actor: ActorHandle, pages: list[tuple[int, tuple[Task, Completion]]]) -> ObjectRefGenerator:
            return actor.score.options(num_returns="streaming").remote(order, pages)

        ahead = CHUNK * self.counts.scorers
        with StreamedBatches(work, CHUNK, ahead) as source:
            for results in self._scorers.map(source, send):
                rows = []
                for (task, done), result in results:
                    if isinstance(result, Lost):
                        rows.append(unscored(suite, task, done, result.why))
                    else:
                        row, shots = result
                        for name, picture in shots.items():
                            write_shot(picture, name)
                        rows.append(row)
                    on_page()
                yield rows

    def record(self) -> JsonObject:
        """Return what the manifest says: nodes and workers."""
        counts = self.counts
        return {
            "name": "ray",
            "ray": self._ray.__version__,
            "nodes": [node.host for node in self._nodes],
            "models": {"workers": counts.models, "gpus": counts.gpus, "cpus": counts.cpus},
            "scorers": {"workers": counts.scorers, "browsers": counts.browsers},
        }

    def _model_pool(self) -> WorkerPool[Prompt, Answer]:
        actor = self._ray.remote(num_cpus=self.counts.cpus, num_gpus=self.counts.gpus, **_WORKER)(ModelWorker)
        server = self._file_server()

        # one batch at a time: they take minutes, and what waits at a slow worker could be with another
        return WorkerPool(
            "models",
            functools.partial(actor.remote, server),
            self.counts.models,
            self._welcome_model,
            self._say,
            depth=1,
        )

    def _score_pool(self) -> WorkerPool[tuple[Task, Completion], tuple[SampleRecord, dict[str, bytes]]]:
        actor = self._ray.remote(num_cpus=self.counts.scorer_cpus, **_WORKER)(ScoreWorker)

        start = functools.partial(actor.remote, self.counts.browsers)
        return WorkerPool("pages", start, self.counts.scorers, self._welcome_scorer, self._say)

    def _file_server(self) -> ActorHandle:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        return self._ray.remote(num_cpus=0, scheduling_strategy=here)(FileServer).remote()

    def _welcome_scorer(self, facts: NodeFacts) -> None:
        """A node that joined later is checked like the first ones."""
        refuse_strangers(self._ours, [facts])

    def _welcome_model(self, facts: NodeFacts) -> None:
        if facts.code != self._ours.code:
            raise HarnessError(f"node {facts.host} has another version of the harness", "install the same on all nodes")

    def _warn_of_versions(self) -> None:
        for node in self._nodes:
            others = differences(self._ours, node)
            if others:
                self._say(f"node {node.host} differs: {'; '.join(others)}")


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _on_cpu(quantization: Quantization, dtype: DType) -> Precision:
    return Precision(quantization, "float32" if dtype == "auto" else dtype, "cpu")
