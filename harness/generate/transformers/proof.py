"""A decoder proves itself on the model at hand before its answers count; where it differs, `generate` answers.

The reference is transformers' own `generate`, one prompt at a time, through PEFT where there is an adapter. A decoder
writes a few tokens behind a few prompts; `generate` is led along the same tokens, and at every step its scores, from
which it would choose or draw, are compared with the decoder's. Windows, rotary scalings and positions, which short
prompts do not reach, are compared on a small random twin of the model (`harness.generate.transformers.twin`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from harness.errors import HarnessError
from harness.generate.stopping import StopRule
from harness.generate.transformers.adapter_kinds import active_configs, beyond_layers
from harness.generate.transformers.continuous_batching import Prompt
from harness.generate.transformers.decoder_verdict import Kind, Memory, Verdict, device_name
from harness.generate.transformers.reference import ReferenceDecoder, makers_processors
from harness.generate.transformers.twin import LENGTH, NoTwinError, small_twin
from harness.model.context import context_length

LIMITS = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2}
"""Largest relative difference of logits, ‖ours − generate's‖ / ‖generate's − their mean‖, at any step. In float32 the
tokens must be equal as well. In 16 bit two right ways of summing differ by up to about 0.1 in bfloat16."""

STEPS = 10
_TEXTS = (
    "Write a page about bread.",
    "<!DOCTYPE html>\n<html><head><title>Tea</title></head><body><h1>Green tea</h1><p>",
    "A table of three planets with their names and their distances from the sun, in a page of its own, with a heading",
)
_DRAWS, _GROUPS, _DRAWN_AT, _DRAWN_LIMIT = 1024, 8, 0.7, 0.1
"""So many draws in so many groups at that temperature stay 0.036 from their distribution on average."""
_TWIN_STEPS = 24
_TWIN_LENGTHS = (5, 13, 40, 24)
_TWIN_SHARED = 20
"""Tokens that all prompts of a second round begin with: the decoders compute them once."""

Observe = Callable[[Sequence[int], torch.Tensor], None]
Making = Callable[[Any, StopRule, int, float, Observe | None], Any]
"""Makes a decoder of a model, a stop rule, rows at once, a temperature and an observer."""


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
            logits = max(logits, _relative(mine, other))
            tokens += int(mine.argmax()) != int(other.argmax())
            shares = torch.softmax(mine.double(), -1), torch.softmax(other.double(), -1)
            distribution = max(distribution, float((shares[0] - shares[1]).abs().sum()) / 2)
    return Difference(logits, tokens, distribution)


def _relative(mine: torch.Tensor, other: torch.Tensor) -> float:
    within = torch.isfinite(other)
    if mine.shape != other.shape or not torch.equal(within, torch.isfinite(mine)):
        return float("inf")
    mine, other = mine[within].double(), other[within].double()
    off = float((mine - other).norm())
    return off / max(float((other - other.mean()).norm()), 1e-30) if off else 0.0


@dataclass(frozen=True)
class _AllSteps:
    """A stop rule by which a prompt's own limit alone ends it."""

    tokenizer: Any
    max_new_tokens: int
    end_tokens: frozenset[int] = frozenset()

    def reason(self, tokens: Sequence[int]) -> None:
        """Never end."""


@dataclass(frozen=True)
class DecoderCheck:
    """One model on which decoders are compared with `generate`."""

    model: Any
    tokenizer: Any
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
        return _relative(generated[within], called[within]) > LIMITS["bfloat16"]

    def _unobserved(self, making: Making) -> dict[int, list[int]] | None:
        """Return what is decoded without an observer, where that goes another way: captured steps on CUDA."""
        if self.model.device.type != "cuda" or self.dtype != "float32":
            return None
        rows = making(self.model, self._rule(), 2, 0.0, None).decode(self.prompts)
        return {row.key: row.tokens for row in rows}

    def draws_differ(self, making: Making) -> str | None:
        """Return in what a decoder draws another first token than `generate`'s scores say, None for nothing.

        What was drawn behind one prompt by many seeds is counted in groups of about equal probability.
        """
        first = Prompt(0, self.prompts[0].tokens, limit=1)
        (scores,) = replace(self, prompts=(first,)).reference(1).scores[0]
        shares = torch.softmax(scores.double() / _DRAWN_AT, -1)
        likeliest = shares.argsort(descending=True)
        groups = torch.empty_like(likeliest)
        groups[likeliest] = (shares[likeliest].cumsum(0) * _GROUPS).long().clamp(max=_GROUPS - 1)
        expected = torch.zeros(_GROUPS, dtype=torch.double).index_add_(0, groups, shares)
        rows = [replace(first, key=number, seed=7919 * number + 1) for number in range(_DRAWS)]
        drawn = [row.tokens[0] for row in making(self.model, self._rule(), _DRAWS, _DRAWN_AT, None).decode(rows)]
        found = torch.bincount(groups[torch.tensor(drawn)], minlength=_GROUPS).double() / _DRAWS
        distance = float((found - expected).abs().sum()) / 2
        return None if distance < _DRAWN_LIMIT else f"draws are {distance:.2f} away from the distribution"

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
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            name = type(_unwrapped(self.model)).__name__
            raise HarnessError(
                f"transformers' own generate fails on this {name}: {reason:.160}", "the harness cannot measure it"
            ) from error
        for prompt in self.prompts:  # a batch goes on until its last row ends
            del seen.scores[prompt.key][prompt.limit :]
        return seen

    def _rule(self) -> Any:
        return _AllSteps(self.tokenizer, self.steps)


def prove(model: Any, tokenizer: Any, kinds: Mapping[Kind, Making], dtype: str) -> Verdict:
    """Return which decoder answers for a model: the first of `kinds` that holds, else `generate`.

    Args:
        model: On its device, its adapter on or off as it will answer.
        tokenizer: Its tokenizer.
        kinds: Decoders, the fastest first.
        dtype: What computes, as torch spells it.

    Raises:
        HarnessError: `generate` itself fails on this model.
    """
    plain = _unwrapped(model)
    real = DecoderCheck(model, tokenizer, _real_prompts(plain, tokenizer), STEPS, dtype)
    twins = _Twins(model, tokenizer, with_adapter=dtype != "float32" and bool(active_configs(model)))
    reasons: list[str] = []
    evidence: dict[str, Any] = {}
    why = not_for_ours(model)
    if why is not None:
        reasons.append(why)
        if active_configs(model) and real.generate_leaves_out():
            reasons.append("PEFT's generate scores its first token otherwise than PEFT's model does")
    else:
        for kind, making in kinds.items():
            reason, found = real.differs(making)
            if found is not None:
                evidence[f"{kind}: weights"] = asdict(found)
            if reason is None:
                reason, found = twins.differs(kind, making)
                if found is not None:
                    evidence[f"{kind}: twin"] = asdict(found)
            if reason is None:
                return Verdict(kind, evidence=evidence, why="; ".join(reasons))
            reasons.append(f"{kind}: {reason}")
    padded = _padding_holds(real, twins, evidence)
    return Verdict("generate", padded=padded, evidence=evidence, why="; ".join(reasons))


def _padding_holds(real: DecoderCheck, twins: _Twins, evidence: dict[str, Any]) -> bool:
    """Whether padded batches of `generate` say what it says of single prompts."""
    real.reference(1)  # where this fails, so would every answer, and the error says so
    for name, differs in (("weights", real.padding_differs), ("twin", twins.padding_differs)):
        try:
            reason, found = differs()
        except HarnessError:  # it runs on single prompts alone
            return False
        if found is not None:
            evidence[f"padded: {name}"] = asdict(found)
        if reason is not None:
            return False
    return True


class _Twins:
    """The trials on a small random twin, made when the first is asked for."""

    def __init__(self, model: Any, tokenizer: Any, with_adapter: bool) -> None:
        self.plain, self.tokenizer = _unwrapped(model), tokenizer
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

        def find() -> list[Any]:
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
                    DecoderCheck(twin, self.tokenizer, prompts, _TWIN_STEPS, "float32")
                    for prompts in _twin_prompts(twin)
                ]
        return self._checks


def not_for_ours(model: Any) -> str | None:
    """Return what about a model is outside its layers, so that no decoder of ours would do it; None for nothing."""
    beyond = beyond_layers(model)
    if beyond is not None:
        return beyond
    processors = makers_processors(_unwrapped(model).generation_config)
    return f"its generation config sets {', '.join(processors)}" if processors else None


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _rows_of_vocabulary(plain: Any) -> int:
    return int(plain.get_input_embeddings().weight.shape[0])


def _real_prompts(plain: Any, tokenizer: Any) -> tuple[Prompt, ...]:
    """Return a few short prompts of different lengths, with limits that let rows leave at different times."""
    rows = _rows_of_vocabulary(plain)
    longest = max(2, min(40, (context_length(plain.config) or 512) // 2 - STEPS))
    prompts = []
    for number, text in enumerate(_TEXTS):
        tokens = [token for token in tokenizer(text)["input_ids"] if token < rows] or [0]
        prompts.append(Prompt(number, tuple(tokens[:longest]), limit=STEPS - 2 * number))
    return tuple(prompts)


def _twin_prompts(twin: Any) -> list[tuple[Prompt, ...]]:
    """Return two rounds of random prompts, shorter and longer than window and original length; one shares a prefix."""
    rows = _rows_of_vocabulary(twin)
    generator = torch.Generator().manual_seed(1)

    def some(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(min(3, rows - 1), rows, (count,), generator=generator).tolist())

    shared = some(_TWIN_SHARED)
    rounds = []
    for prefix in ((), shared):
        prompts = [
            Prompt(number, (*prefix, *some(length)), limit=_TWIN_STEPS - number)
            for number, length in enumerate(_TWIN_LENGTHS)
        ]
        assert all(len(prompt.tokens) + _TWIN_STEPS < LENGTH for prompt in prompts)
        rounds.append(tuple(prompts))
    return rounds


def check_causal(model: Any, tokenizer: Any, config: Mapping[str, Any]) -> None:
    """Refuse models that write nothing by themselves: `generate` may run on them, and its answers mean nothing.

    Args:
        model: On its device.
        tokenizer: Its tokenizer.
        config: Its folder's config.json; what was loaded of it may be a part only.

    Raises:
        HarnessError: it is an encoder with a decoder, or its tokens see those behind them.
    """
    plain = _unwrapped(model)
    name = type(plain).__name__
    hint = "take a causal language model"
    if config.get("is_encoder_decoder"):
        raise HarnessError(f"{name} is half of an encoder-decoder model, which needs its encoder's input", hint)
    if not plain.can_generate():
        raise HarnessError(f"{name} is no model that generates text", hint)
    first = list(_real_prompts(plain, tokenizer)[0].tokens)
    other = [*first[:-1], (first[-1] + 1) % _rows_of_vocabulary(plain)]
    try:
        with torch.inference_mode():
            said = [plain(input_ids=torch.tensor([ids], device=plain.device)).logits[0, :-1] for ids in (first, other)]
    except Exception:  # what only `generate` can call is left to it
        return
    if len(first) > 1 and _relative(said[1][0].float().cpu(), said[0][0].float().cpu()) > LIMITS["bfloat16"] / 10:
        raise HarnessError(f"{name} lets tokens see those behind them, as masked language models do", hint)
