"""A model as a run measures it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.generate.backend import Backend
from harness.model.profile import ModelSpec
from harness.model.profile_schema import Training
from harness.model.reach import Reach
from harness.train.sft import TrainedAdapter
from harness.types import Suite


@dataclass(frozen=True)
class ModelUnderTest:
    """A model that is ready to answer: its generator, and what its training saw."""

    spec: ModelSpec
    generator: Backend
    trained: TrainedAdapter | None = None
    training: Training | None = None
    learnt_from: Suite | None = None
    """The suite of its training, or of the examples in its prompt."""
    trained_on: frozenset[str] = frozenset()
    """`prompt_sha` of every row that the model has seen: it gets no score on them."""
    limits: Mapping[str, Reach] = field(default_factory=dict)
    """By measured suite, how long its answers may be."""

    def on(self, suite: str) -> Backend:
        """Return the model as it answers that suite."""
        limit = self.limits.get(suite)
        return self.generator if limit is None else self.generator.limited(limit.max_new_tokens)
