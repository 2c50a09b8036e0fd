"""What every way of getting completions has in common, and the way through the store that most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

from typing_extensions import override

from harness.generate.settings import GenerationSettings
from harness.generate.store import CompletionStore
from harness.runs.manifest import BackendEntry, Price
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject
from harness.types import Answer, Completion, Task

PromptT = TypeVar("PromptT")
SampleKey = tuple[str, int]
"""Task id and sample number."""

GenerationRequests = dict[SampleKey, tuple[PromptT, int]]
"""What is to be answered: by place the prompt as the backend takes it, and the seed."""

Answers = Iterator[tuple[SampleKey, Answer]]
"""What came of each request, as they finish and in any order."""


class Decode(Protocol):
    """Gets the answers of a model that are not in the store: an executor's `decode`."""

    def __call__(self, backend: StoredBackend[PromptT], wanted: GenerationRequests[PromptT], /) -> Answers:
        """Yield them as they come."""
        ...


def decode_here(backend: StoredBackend[PromptT], wanted: GenerationRequests[PromptT]) -> Answers:
    """Let a model decode in this process, or ask its server from it."""
    return backend.decode(wanted)


class Backend(ABC):
    """One model that is ready to answer, wherever it runs."""

    name: str

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many completions each task gets."""

    @abstractmethod
    def answers(
        self, tasks: Sequence[Task], *, fresh: bool = False, decode: Decode = decode_here
    ) -> Iterator[tuple[Completion, bool]]:
        """Yield each completion and whether it was there already: those first, the others as they finish.

        Args:
            tasks: What is asked.
            fresh: Answer anew even what the store holds.
            decode: Gets what the store lacks.
        """

    def limited(self, max_new_tokens: int) -> Self:
        """Return the same model with answers of at most so many tokens; answers that are there stay as they are."""
        return self

    @abstractmethod
    def manifest(self) -> BackendEntry:
        """Return what the manifest says of it: see docs/files.md."""

    def price(self, rows: Sequence[SampleRecord]) -> Price | None:
        """Return what these rows cost, None where nothing is charged by the token."""
        return None

    def complete(
        self,
        tasks: Sequence[Task],
        *,
        fresh: bool = False,
        decode: Decode = decode_here,
        on_done: Callable[[Completion, bool], None] | None = None,
    ) -> list[Completion]:
        """Return the completions of all tasks, in their order, samples of a task together.

        Args:
            tasks: What is asked.
            fresh: Answer anew even what the store holds.
            decode: Gets what the store lacks.
            on_done: Called with each completion as it finishes, and whether it was there already.
        """
        done = []
        for completion, stored in self.answers(tasks, fresh=fresh, decode=decode):
            done.append(completion)
            if on_done:
                on_done(completion, stored)
        return self.in_order(done, tasks)

    def in_order(self, completions: Iterable[Completion], tasks: Sequence[Task]) -> list[Completion]:
        """Return this model's completions in the order of the tasks, samples of a task together."""
        done = {(one.task, one.sample): one for one in completions}
        return [done[task.id, sample] for task in tasks for sample in range(self.samples)]


@dataclass(frozen=True, slots=True)
class SuiteQuestions:
    """What one model is asked of one suite."""

    backend: Backend
    suite: str
    tasks: Sequence[Task]
    fresh: bool
    """Answer anew even what the store holds."""

    def __str__(self) -> str:
        return f"{self.backend.name} answers {self.suite}"


class StoredBackend(Backend, Generic[PromptT]):
    """A backend whose answers are kept in the append-only store, each as it comes, and never asked for twice."""

    settings: GenerationSettings

    @property
    @override
    def samples(self) -> int:
        return self.settings.samples

    @override
    def limited(self, max_new_tokens: int) -> Self:
        settings = replace(self.settings, max_new_tokens=max_new_tokens)
        return replace(self, settings=settings)  # type: ignore[type-var]  # each subclass is a dataclass

    @abstractmethod
    def identity(self) -> JsonObject:
        """Return everything that decides what this model writes, and nothing that does not."""

    @abstractmethod
    def prompt(self, task: Task) -> PromptT:
        """Return a task's prompt as the backend takes it: made of lists, mappings, texts and numbers."""

    @abstractmethod
    def decode(self, wanted: GenerationRequests[PromptT]) -> Answers:
        """Yield places and their answers as they finish, in any order."""

    def in_turn(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return tasks in the order in which they had best be answered."""
        return tasks

    def inquire(self, tasks: Sequence[Task], *, fresh: bool = False) -> Inquiry[PromptT]:
        """Return what the store has of these tasks' answers and what it lacks; nothing if they are asked `fresh`."""
        found = Inquiry(self, CompletionStore(self.identity(), model=self.name))
        for task in self.in_turn(tasks):
            prompt = self.prompt(task)
            for sample in range(self.settings.samples):
                seed = self.settings.row_seed(task.id, sample) if self.settings.temperature else 0
                key = CompletionStore.key(prompt, sample, seed)
                stored = None if fresh else found.store.get(key)
                if stored is not None:
                    found.stored.append(stored.at(task.id, self.name, sample))
                else:
                    found.wanted[task.id, sample], found.keys[task.id, sample] = (prompt, seed), key
        return found

    def answers(
        self, tasks: Sequence[Task], *, fresh: bool = False, decode: Decode = decode_here
    ) -> Iterator[tuple[Completion, bool]]:
        """Yield each completion and whether it came from the store: those first, the others as they finish."""
        inquiry = self.inquire(tasks, fresh=fresh)
        for completion in inquiry.stored:
            yield completion, True
        for place, answer in decode(self, inquiry.wanted):
            yield inquiry.settled(place, answer), False


@dataclass
class Inquiry(Generic[PromptT]):
    """What a model is asked: what its store has, and what is wanted of it."""

    backend: StoredBackend[PromptT]
    store: CompletionStore
    stored: list[Completion] = field(default_factory=list)
    wanted: GenerationRequests[PromptT] = field(default_factory=dict)
    keys: dict[SampleKey, str] = field(default_factory=dict)
    """The store's keys of what is wanted."""

    def settled(self, place: SampleKey, answer: Answer) -> Completion:
        """Store an answer that came, unless there is none, and return it at its place."""
        task, sample = place
        if not answer.unanswered:
            key = self.keys[place]
            self.store.put(CompletionStore.key_by(key, answer.decoder) if answer.decoder else key, answer)
        return answer.at(task, self.backend.name, sample)
