"""Questions to several models, told apart by which of them decode in one queue, and their answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.generate.backend import SuiteQuestions
from harness.generate.transformers.generator import Generator
from harness.types import Completion


def queues(questions: Iterable[SuiteQuestions]) -> list[list[SuiteQuestions]]:
    """Return the questions by queue, in the order of each queue's first; a model that joins none stands alone.

    Within a queue models without an adapter go first: where one goes after the other, the others fill their end.
    """
    found: dict[object, list[SuiteQuestions]] = {}
    for asked in questions:
        model = asked.backend
        key = model.decoding.joint_key(model) if isinstance(model, Generator) else None
        found.setdefault(object() if key is None else key, []).append(asked)
    return [sorted(queue, key=_has_adapter) for queue in found.values()]


def answers(queue: Sequence[SuiteQuestions]) -> Iterator[tuple[int, Completion, bool]]:
    """Yield a question's number, a completion and whether it came from the store: those first."""
    if len(queue) == 1:
        for completion, stored in queue[0].backend.answers(queue[0].tasks, fresh=queue[0].fresh):
            yield 0, completion, stored
        return
    asked = []
    for number, questions in enumerate(queue):
        model = questions.backend
        assert isinstance(model, Generator)
        inquiry = model.inquire(questions.tasks, fresh=questions.fresh)
        for completion in inquiry.stored:
            yield number, completion, True
        if inquiry.wanted:
            asked.append((number, model, inquiry))
    if not asked:
        return
    # places that longer prompts give back are large enough for shorter ones
    asked.sort(key=lambda one: (_has_adapter(queue[one[0]]), -max(len(tokens) for tokens, _ in one[2].wanted.values())))
    wanted = [(model, inquiry.wanted) for _, model, inquiry in asked]
    for turn, place, answer in wanted[0][0].decoding.decode_together(wanted):
        number, _, inquiry = asked[turn]
        yield number, inquiry.settled(place, answer), False


def _has_adapter(asked: SuiteQuestions) -> bool:
    return isinstance(asked.backend, Generator) and asked.backend.adapter_sha256 is not None
