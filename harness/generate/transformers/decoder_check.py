"""One model on which decoders are compared with transformers' own `generate`, and the prompts for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from harness.errors import HarnessError
from harness.generate.stopping import StopRule
from harness.generate.transformers.adapter_kinds import unwrapped
from harness.generate.transformers.comparison import LIMITS, Finding, Trace, compare, relative_difference
from harness.generate.transformers.continuous_batching import Decoded, Prompt
from harness.generate.transformers.reference import ReferenceDecoder
from harness.model.context import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STEPS = 10
_TEXTS = (
    "Write a page about bread.",
    "<!DOCTYPE html>\n<html><head><title>Tea</title></head><body><h1>Green tea</h1><p>",
    "A table of three planets with their names and their distances from the sun, in a page of its own, with a heading",
)
_DRAWN_AT, _DRAWN_TOKENS, _DRAWN_ROWS, _TIES = 0.7, 4, 24, 1
"""Temperature, tokens, and rows of which so many may go another way than `generate`: by scores as good as equal."""

Observe = Callable[[Sequence[int], torch.Tensor], None]


class Decodes(Protocol):
    """A decoder, whichever."""

    def decode(self, prompts: Sequence[Prompt], /) -> Iterator[Decoded]:
        """Yield completions as they finish."""


Making = Callable[["PreTrainedModel", StopRule, int, float, Observe | None], Decodes]
"""Makes a decoder of a model, a stop rule, rows at once, a temperature and an observer."""


@dataclass(frozen=True)
class _AllSteps(StopRule):
    """A stop rule by which a prompt's own limit alone ends it."""

    def __post_init__(self) -> None:
        """Leave the vocabulary alone, which nothing is looked up in."""

    def reason(self, tokens: Sequence[int]) -> None:
        """Never end."""


@dataclass(frozen=True)
class DecoderCheck:
    """One model on which decoders are compared with `generate`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: tuple[Prompt, ...]
    steps: int
    dtype: str

    def differs(self, making: Making) -> Finding:
        """Return in what a decoder differs from `generate`, None for nothing, and how far."""
        ours = Trace()
        try:
            for _ in making(self.model, self._rule(), 2, 0.0, ours).decode(self.prompts):
                pass
            unobserved = self._unobserved(making)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # another architecture may break it anywhere
            return f"it does not run: {type(error).__name__}: {error}".splitlines()[0][:160], None
        for prompt in self.prompts:  # what runs ahead of its answers takes a step too many
            del ours.scores[prompt.key][prompt.limit :]
        theirs = self.reference(1, ours.tokens())
        found = compare(ours, theirs, self.prompts)
        if unobserved is not None and unobserved != ours.tokens():
            return "other tokens when its scores are not recorded", found
        return found.why(self.dtype), found

    def generate_leaves_out(self) -> bool:
        """Whether `generate` says another thing of the first token than the model itself, called once.

        A library that puts virtual tokens into a cache may miss the one that another library's `generate` reads.
        """
        prompt = replace(self.prompts[0], limit=1)
        generated = replace(self, prompts=(prompt,)).reference(1).scores[prompt.key][0]
        ids = torch.tensor([prompt.tokens], device=self.model.device)
        with torch.inference_mode():
            called = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].float().cpu()
        within = torch.isfinite(generated)
        return relative_difference(generated[within], called[within]) > LIMITS["bfloat16"]

    def _unobserved(self, making: Making) -> dict[int, list[int]] | None:
        """Return what is decoded without an observer, where that goes another way: captured steps on CUDA."""
        if self.model.device.type != "cuda" or self.dtype != "float32":
            return None
        rows = making(self.model, self._rule(), 2, 0.0, None).decode(self.prompts)
        return {row.key: row.tokens for row in rows}

    def draws_differ(self, making: Making) -> str | None:
        """Return in what a decoder draws other tokens than are drawn from `generate`'s scores, None for nothing."""
        asked = [self.prompts[number % len(self.prompts)] for number in range(_DRAWN_ROWS)]
        rows = [Prompt(number, prompt.tokens, 7919 * number + 1, _DRAWN_TOKENS) for number, prompt in enumerate(asked)]
        ours, theirs = (
            {row.key: row.tokens for row in decoder.decode(rows)}
            for decoder in (
                making(self.model, self._rule(), len(self.prompts), _DRAWN_AT, None),
                ReferenceDecoder(self.model, self._rule(), temperature=_DRAWN_AT),
            )
        )
        others = sum(ours[row.key] != theirs[row.key] for row in rows)
        return None if others <= _TIES else f"{others} of {len(rows)} rows are drawn otherwise than from its scores"

    def padding_differs(self) -> Finding:
        """Return in what `generate` on one padded batch differs from `generate` on each prompt alone."""
        alone = self.reference(1)
        together = self.reference(len(self.prompts), alone.tokens())
        found = compare(together, alone, self.prompts)
        return found.why(self.dtype), found

    def reference(self, rows: int, forced: Mapping[int, Sequence[int]] | None = None) -> Trace:
        """Return what `generate` chooses from, `rows` prompts at a time, led along `forced` where it is given.

        Raises:
            HarnessError: `generate` itself fails.
        """
        seen = Trace()
        decoder = ReferenceDecoder(self.model, self._rule(), rows, forced=forced, observe=seen)
        try:
            for _ in decoder.decode(self.prompts):
                pass
        except (HarnessError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            name = type(unwrapped(self.model)).__name__
            raise HarnessError(
                f"transformers' own generate fails on this {name}: {reason:.160}", "the harness cannot measure it"
            ) from error
        for prompt in self.prompts:  # a batch goes on until its last row ends
            del seen.scores[prompt.key][prompt.limit :]
        return seen

    def _rule(self) -> StopRule:
        return _AllSteps(self.tokenizer, frozenset(), self.steps, at_end_tag=False, cut_loops=False)


def rows_of_vocabulary(plain: PreTrainedModel) -> int:
    """Return how many tokens a model of transformers knows."""
    return int(plain.get_input_embeddings().weight.shape[0])


def real_prompts(plain: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[Prompt, ...]:
    """Return a few short prompts of different lengths, with limits that let rows leave at different times."""
    rows = rows_of_vocabulary(plain)
    longest = max(2, min(40, (context_length(plain.config) or 512) // 2 - STEPS))
    prompts = []
    for number, text in enumerate(_TEXTS):
        tokens = [token for token in tokenizer(text)["input_ids"] if token < rows] or [0]
        prompts.append(Prompt(number, tuple(tokens[:longest]), limit=STEPS - 2 * number))
    return tuple(prompts)
