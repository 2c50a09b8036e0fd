"""What one training makes an adapter of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.load import LoadedModel
from harness.model.profile_schema import Training
from harness.model.prompt import PromptRenderer
from harness.train.evaluation import TrainingEvaluation
from harness.types import Task


@dataclass(frozen=True)
class TrainingJob:
    """A model, what it learns, and how."""

    loaded: LoadedModel
    """The base weights; left as they were, without an adapter."""
    renderer: PromptRenderer
    """The profile's prompt renderer."""
    training: Training
    """Settings of the model file."""
    tasks: Sequence[Task]
    """Training rows; never held-out ones."""
    evaluation: TrainingEvaluation | None = None
    """What the training is evaluated on, and by what; None keeps the last step's weights."""
