"""The limit of new tokens of each model on each suite of a run: by its own tokenizer, within its own context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from harness.generate.backend import Backend, StoredBackend
from harness.generate.openai.backend import ServedModel
from harness.generate.transformers.generator import Generator
from harness.model.context import folder_context
from harness.model.profile_schema import ProfileFile
from harness.model.reach import UNKNOWN_LIMIT, Reach, answer_limit, estimated_tokens, reach
from harness.pipeline.config import RunPlan
from harness.runs.manifest import ReachEntry
from harness.types import Suite, Task

_BODY_LIMITS = ("max_completion_tokens", "max_tokens")
"""Fields of a request to a server that limit its answer."""


@dataclass
class AnswerLimits:
    """Counts each text once for each tokenizer, and says each suite's limit once."""

    plan: RunPlan
    say: Callable[[str], None]
    _lengths: dict[int, dict[str, int]] = field(default_factory=dict)
    _said: dict[str, Reach] = field(default_factory=dict)

    def of(self, backend: Backend, profile: ProfileFile) -> dict[str, Reach]:
        """Return the limit and what is out of reach of it for every measured suite; nothing for answers in a file."""
        if not isinstance(backend, StoredBackend):
            return {}
        count, estimated = self._counter(backend)
        found = {}
        for part in self.plan.measured:
            limit = _explicit(backend) or answer_limit(part.suite, count, profile.max_new_tokens)
            room = _room(backend)
            found[part.suite.name] = one = reach(limit, part.tasks, count, room, estimated=estimated)
            if self._said.get(part.suite.name) != one:
                self._said[part.suite.name] = one
                self.say(f"{part.suite.name}, {backend.name}: {one}")
        return found

    def on(self, suite: Suite | None, backend: Backend, profile: ProfileFile) -> int:
        """Return the limit on one suite, measured or not; without one, the profile's."""
        if suite is None or not isinstance(backend, StoredBackend):
            return profile.max_new_tokens or UNKNOWN_LIMIT
        return answer_limit(suite, self._counter(backend)[0], profile.max_new_tokens)

    def _counter(self, backend: Backend) -> tuple[Callable[[str], int], bool]:
        """How long a text is in the model's tokens, and whether that is an estimate."""
        tokenizer = backend.loaded.tokenizer if isinstance(backend, Generator) else None
        if tokenizer is None:
            return estimated_tokens, True
        lengths = self._lengths.setdefault(id(tokenizer), {})

        def count(text: str) -> int:
            if text not in lengths:
                lengths[text] = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            return lengths[text]

        return count, False


def _explicit(backend: Backend) -> int | None:
    """A limit that a server's model file sets for every request."""
    if not isinstance(backend, ServedModel):
        return None
    limits = [backend.served.body.get(name) for name in _BODY_LIMITS]
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def _room(backend: Backend) -> Callable[[Task], int | None]:
    """How many tokens the context leaves behind a task's prompt."""
    context = folder_context(backend.loaded.weights.folder) if isinstance(backend, Generator) else None
    if context is None or not isinstance(backend, Generator):
        return lambda _: None
    return lambda task: max(0, context - len(backend.prompt(task)))


def suite_reach(all_limits: Iterable[Mapping[str, Reach]], suite: str) -> ReachEntry | None:
    """Return a suite's entry in the manifest: of the model for which most references are out of reach."""
    found = [limits[suite] for limits in all_limits if suite in limits]
    return ReachEntry(**max(found, key=lambda one: one.out_of_reach).as_dict()) if found else None
