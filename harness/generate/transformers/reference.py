"""Decoding by transformers' own `generate`: what every other decoder is measured by, and what answers in its place.

Sampling draws what `sampling` says for each row's own seed, as the other decoders do, from the scores that `generate`
would draw from: after the makers' processors (such as a repetition penalty), divided by the temperature. What cuts the
vocabulary (top-k, top-p) is left out, for it belongs to the settings of sampling, which are the harness's.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    StopStringCriteria,
)

from harness.generate.sampling import check_finite, drawn_by
from harness.generate.stopping import StopRule
from harness.generate.transformers.continuous_batching import Decoded, Prompt
from harness.types import FinishReason

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

_OURS = (
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("num_return_sequences", "max_length", "max_time", "penalty_alpha", "dola_layers", "prompt_lookup_num_tokens"),
    *("use_mtp", "assistant_early_exit", "speculation_type", "num_beam_groups", "diversity_penalty", "constraints"),
    *("force_words_ids", "prefill_chunk_size", "token_healing"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
)
"""Fields of a generation config that the harness sets itself or leaves out: one row, no beams, no search."""

_PROCESSORS = (
    *("repetition_penalty", "encoder_repetition_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
    *("bad_words_ids", "min_length", "min_new_tokens", "forced_bos_token_id", "forced_eos_token_id"),
    *("remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
    *("sequence_bias", "guidance_scale", "watermarking_config", "stop_strings"),
)
"""Fields by which makers change what greedy and sampled rows are chosen from, or where they end."""


def makers_processors(config: PretrainedConfig) -> list[str]:
    """Return which fields of a generation config change scores, in the makers' own words, such as `min_length=5`."""
    found = []
    for name in _PROCESSORS:
        value = getattr(config, name, None)
        neutral = value is None or value in ([], {}, ()) or (isinstance(value, int | float) and value in _neutral(name))
        if not neutral:
            found.append(f"{name}={value}"[:60])
    return found


def _neutral(name: str) -> tuple[float, ...]:
    return (1,) if name.endswith("penalty") or name == "guidance_scale" else (0,)


@dataclass
class ReferenceDecoder:
    """Greedy or sampled decoding by `generate`, with the interface of `Decoder`.

    Args:
        model: A model of transformers, with or without PEFT around it: PEFT's `generate` knows adapters that are more
            than changed layers.
        stop: When a completion ends.
        batch_size: How many prompts are padded to one batch; 1 pads none.
        temperature: 0 is greedy.
        forced: Tokens that are written in place of the chosen ones, by the prompt's key.
        observe: Called with the keys of the rows and the scores behind them, (rows, vocabulary), before each choice.
    """

    model: PreTrainedModel
    stop: StopRule
    batch_size: int = 1
    temperature: float = 0.0
    forced: Mapping[int, Sequence[int]] | None = None
    observe: Callable[[Sequence[int], torch.Tensor], None] | None = None

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        """Yield completions as they finish. Longest prompts go first, so that little is padded."""
        waiting = sorted(prompts, key=lambda prompt: (-len(prompt.tokens), prompt.key))
        for first in range(0, len(waiting), self.batch_size):
            yield from self._batch(waiting[first : first + self.batch_size])

    def _batch(self, prompts: Sequence[Prompt]) -> list[Decoded]:
        device = self.model.device
        width = max(len(prompt.tokens) for prompt in prompts)
        config = self._config(prompts)
        padded = [[config.pad_token_id] * (width - len(prompt.tokens)) + [*prompt.tokens] for prompt in prompts]
        mask = [[0] * (width - len(prompt.tokens)) + [1] * len(prompt.tokens) for prompt in prompts]
        choice = _Choice(self, prompts, width)
        ends = _Ends(self.stop, prompts, self._strings())
        with _generating_by(self.model, config):
            self.model.generate(
                input_ids=torch.tensor(padded, device=device),
                attention_mask=torch.tensor(mask, device=device),
                generation_config=config,
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList([ends]),
            )
        return [ends.decoded(number) for number in range(len(prompts))]

    def _config(self, prompts: Sequence[Prompt]) -> GenerationConfig:
        """Return the makers' settings, with ours for what is ours."""
        config = copy.deepcopy(self.model.generation_config)
        for name in _OURS:
            if getattr(config, name, None) is not None:
                setattr(config, name, None)
        config.do_sample, config.num_beams, config.return_dict_in_generate = False, 1, False
        config.max_new_tokens = max(_limit(prompt, self.stop) for prompt in prompts)
        config.eos_token_id = sorted(self.stop.end_tokens) or None
        if config.eos_token_id is None:  # a proof, which ends nothing, and this raises the end token's score
            config.exponential_decay_length_penalty = None
        config.stop_strings = None  # `_Ends` looks for them: behind a row that `generate` itself ended it writes on
        pads = (config.pad_token_id, getattr(self.stop.tokenizer, "pad_token_id", None), *sorted(self.stop.end_tokens))
        rows = self.model.get_input_embeddings().weight.shape[0]
        config.pad_token_id = next((number for number in pads if number is not None and 0 <= number < rows), 0)
        return config

    def _strings(self) -> StopStringCriteria | None:
        """Return what finds the makers' stop strings; None without any, and in a proof, which compares all steps."""
        found = self.model.generation_config.stop_strings
        if not found or self.observe is not None:
            return None
        return StopStringCriteria(self.stop.tokenizer, [found] if isinstance(found, str) else list(found))


@contextlib.contextmanager
def _generating_by(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Make `config` the model's own inside the block: `generate` fills fields that are None from the model's."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = plain.generation_config
    plain.generation_config = config
    try:
        yield
    finally:
        plain.generation_config = before


def _limit(prompt: Prompt, stop: StopRule) -> int:
    return stop.max_new_tokens if prompt.limit is None else min(prompt.limit, stop.max_new_tokens)


class _Choice(LogitsProcessor):  # type: ignore[misc]  # transformers ships no types for it
    """Stands behind the model's own processors: looks at the scores, and writes what is drawn or forced."""

    def __init__(self, settings: ReferenceDecoder, prompts: Sequence[Prompt], width: int) -> None:
        self.settings, self.prompts, self.width = settings, prompts, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        settings = self.settings
        check_finite(scores, scores.argmax(dim=-1))
        if settings.observe is not None:
            settings.observe([prompt.key for prompt in self.prompts], scores)
        step = input_ids.shape[1] - self.width
        if settings.forced is not None:
            rows = [settings.forced[prompt.key] for prompt in self.prompts]
            tokens = torch.tensor([row[min(step, len(row) - 1)] for row in rows], device=scores.device)
        elif settings.temperature:
            places = [(prompt.seed, len(prompt.tokens) + step - 1) for prompt in self.prompts]
            tokens = drawn_by(scores, settings.temperature, places)
        else:
            return scores
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Ends(StoppingCriteria):  # type: ignore[misc]  # transformers ships no types for it
    """Ends each row by the harness's own rule, and keeps what it wrote until then."""

    def __init__(self, stop: StopRule, prompts: Sequence[Prompt], strings: StopStringCriteria | None) -> None:
        self.stop, self.prompts, self.strings = stop, prompts, strings
        self.by_string: set[int] = set()
        """Rows that a stop string of the makers' ended."""
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.reasons: list[FinishReason | None] = [None for _ in prompts]
        self.seconds = [0.0 for _ in prompts]
        self.before = time.monotonic()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        now = time.monotonic()
        going = [number for number, reason in enumerate(self.reasons) if reason is None]
        share = (now - self.before) / max(1, len(going))
        self.before = now
        written = input_ids[:, -1].tolist()
        stopped = [] if self.strings is None else self.strings(input_ids, scores).tolist()
        for number in going:
            self.tokens[number].append(written[number])
            self.seconds[number] += share
            self.reasons[number] = self.prompts[number].ended(self.stop, self.tokens[number])
            if self.reasons[number] is None and stopped and stopped[number]:
                self.reasons[number] = "eos"
                self.by_string.add(number)
        return torch.tensor([reason is not None for reason in self.reasons], device=input_ids.device)

    def decoded(self, number: int) -> Decoded:
        """Return what a row wrote; one that `generate` ended itself ended there."""
        reason, tokens = self.reasons[number] or "eos", self.tokens[number]
        kept = tokens[:-1] if self.reasons[number] == "eos" and number not in self.by_string else tokens
        return Decoded(self.prompts[number].key, kept, reason, self.seconds[number])
