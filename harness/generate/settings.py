"""How completions are made: everything that decides what a model writes, apart from the model and the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from harness.runs.schema import JsonObject
from harness.types import sha256

DRAWS = 2
"""Raised when the same seed can draw another token (`sampling`); at first each decoder drew in its own way."""


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Greedy unless `temperature` is above 0; then `samples` completions are drawn for each task."""

    max_new_tokens: int
    batch_size: int
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0
    cut_loops: bool = True

    def cache_key_fields(self) -> JsonObject:
        """Return what decides a completion. The batch size does not, up to the rounding of floating point."""
        deciding: JsonObject = {"max_new_tokens": self.max_new_tokens, "cut_loops": self.cut_loops}
        if self.temperature:
            deciding |= {"temperature": self.temperature, "seed": self.seed}
        return deciding

    def row_seed(self, task_id: str, sample: int) -> int:
        """Return the seed of one sample of one task: independent of every other row."""
        return int(sha256(f"{self.seed}\0{task_id}\0{sample}")[:15], 16)
