"""Decoders compared with `generate` on a small random twin, whose windows and rotary lengths a few tokens pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from harness.errors import HarnessError
from harness.generate.transformers.adapter_kinds import active_configs, unwrapped
from harness.generate.transformers.comparison import Difference, Finding
from harness.generate.transformers.continuous_batching import Prompt
from harness.generate.transformers.decoder_check import DecoderCheck, Making, rows_of_vocabulary
from harness.generate.transformers.decoder_verdict import Kind, Memory, device_name
from harness.generate.transformers.reference import makers_processors
from harness.generate.transformers.twin import LENGTH, NoTwinError, small_twin

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_STEPS = 24
_LENGTHS = (5, 13, 40, 24)
_SHARED = 20
"""Tokens that all prompts of a second round begin with: the decoders compute them once."""


class TwinChecks:
    """The trials on a small random twin, made when the first is asked for."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, with_adapter: bool) -> None:
        self.plain, self.tokenizer = unwrapped(model), tokenizer
        self.model = model if with_adapter else None
        self.adapters = active_configs(model) if with_adapter else []
        self._checks: list[DecoderCheck] | str | None = None

    def differs(self, kind: Kind, making: Making) -> Finding:
        """Return in what a decoder differs from `generate` on the twin."""

        def prove(check: DecoderCheck) -> Finding:
            reason, found = check.differs(making)
            return reason or check.draws_differ(making), found

        return self._remembered(kind, prove)

    def padding_differs(self) -> Finding:
        """Return in what padded batches of `generate` differ from single prompts on the twin."""
        return self._remembered("padded", lambda check: check.padding_differs())

    def _remembered(self, what: str, prove: Callable[[DecoderCheck], Finding]) -> Finding:
        """A twin is random: what was found on it holds for every model of its config."""

        def find() -> list[object]:
            reason, found = self._each(prove)
            return [reason, None if found is None else asdict(found)]

        config = self.plain.config.to_dict()
        for name in ("_name_or_path", "transformers_version", "dtype"):
            config.pop(name, None)
        about = {
            "twin": type(self.plain).__name__,
            "config": json.loads(json.dumps(config, default=str)),
            "processors": makers_processors(self.plain.generation_config),
            "attention": self.plain.config._attn_implementation,
            "adapters": [json.loads(json.dumps(one.to_dict(), default=str, sort_keys=True)) for one in self.adapters],
            "device": device_name(self.plain.device.type),
            "what": what,
        }
        reason, found = Memory(about).found_or(find)
        return reason, None if found is None else Difference(**found)

    def _each(self, prove: Callable[[DecoderCheck], Finding]) -> Finding:
        checks = self._made()
        if isinstance(checks, str):
            return checks, None
        worst: Difference | None = None
        for check in checks:
            try:
                reason, found = prove(check)
            except HarnessError as error:
                return f"on a small twin {error.message}", None
            if reason is not None:
                return f"on a small twin {reason}", found
            if found is not None and (worst is None or found.logits > worst.logits):
                worst = found
        return None, worst

    def _made(self) -> list[DecoderCheck] | str:
        if self._checks is None:
            try:
                twin = small_twin(self.plain, self.model)
            except NoTwinError as error:
                self._checks = f"no small twin can be made of it ({error})"
            else:
                self._checks = [
                    DecoderCheck(twin, self.tokenizer, prompts, _STEPS, "float32") for prompts in _prompts(twin)
                ]
        return self._checks


def _prompts(twin: PreTrainedModel) -> list[tuple[Prompt, ...]]:
    """Return two rounds of random prompts, shorter and longer than window and original length; one shares a prefix."""
    rows = rows_of_vocabulary(twin)
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(min(3, rows - 1), rows, (count,), generator=generator).tolist())

    shared = some(_SHARED)
    rounds = []
    for prefix in ((), shared):
        prompts = [
            Prompt(number, (*prefix, *some(length)), limit=_STEPS - number) for number, length in enumerate(_LENGTHS)
        ]
        assert all(len(prompt.tokens) + _STEPS < LENGTH for prompt in prompts)
        rounds.append(tuple(prompts))
    return rounds
