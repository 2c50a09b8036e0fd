"""How far the scores that one decoder chooses from are from another's, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from harness.generate.transformers.continuous_batching import Prompt

LIMITS = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}
"""Largest relative difference of logits, ‖ours − generate's‖ / ‖generate's − their mean‖, at any step. In float32 the
tokens must be equal as well. In 16 bit two right ways of summing differ by up to about 0.1 in bfloat16."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two decoders are from each other on some prompts."""

    logits: float
    """The largest relative difference at any step; infinite where one excludes a token that the other does not."""
    tokens: int
    """Steps at which the likeliest token is another one."""
    distribution: float
    """The largest total variation distance, from 0 to 1, between what they draw from at temperature 1."""

    def why(self, dtype: str) -> str | None:
        """Return in what they differ too much, or None."""
        limit = LIMITS.get(dtype, LIMITS["float32"])
        if not self.logits <= limit:
            return f"logits differ by {self.logits:.2g} of their spread, the limit is {limit:g}"
        if dtype == "float32" and self.tokens:
            return f"{self.tokens} tokens differ"
        return None


Finding = tuple[str | None, Difference | None]
"""In what a decoder differs too much, None for nothing; and how far it is from `generate`, None if it did not run."""


@dataclass
class Trace:
    """The scores behind each prompt, step by step, as a decoder chose from them."""

    scores: dict[int, list[torch.Tensor]] = field(default_factory=dict)

    def __call__(self, keys: Sequence[int], scores: torch.Tensor) -> None:
        """Keep the scores of one step, (rows, vocabulary)."""
        kept = scores.detach().float().cpu()
        for row, key in enumerate(keys):
            self.scores.setdefault(key, []).append(kept[row].clone())

    def tokens(self) -> dict[int, list[int]]:
        """Return the likeliest token of each step, by prompt."""
        return {key: [int(step.argmax()) for step in steps] for key, steps in self.scores.items()}


def compare(ours: Trace, theirs: Trace, prompts: Sequence[Prompt]) -> Difference:
    """Return how far `ours` is from `theirs` over all steps of all prompts."""
    logits, tokens, distribution = 0.0, 0, 0.0
    for prompt in prompts:
        for mine, other in zip(ours.scores[prompt.key], theirs.scores[prompt.key], strict=True):
            logits = max(logits, relative_difference(mine, other))
            tokens += int(mine.argmax()) != int(other.argmax())
            shares = torch.softmax(mine.double(), -1), torch.softmax(other.double(), -1)
            distribution = max(distribution, float((shares[0] - shares[1]).abs().sum()) / 2)
    return Difference(logits, tokens, distribution)


def relative_difference(mine: torch.Tensor, other: torch.Tensor) -> float:
    """Return ‖mine − other‖ / ‖other − its mean‖; infinite where one excludes a token that the other does not."""
    within = torch.isfinite(other)
    if mine.shape != other.shape or not torch.equal(within, torch.isfinite(mine)):
        return float("inf")
    mine, other = mine[within].double(), other[within].double()
    off = float((mine - other).norm())
    return off / max(float((other - other.mean()).norm()), 1e-30) if off else 0.0
