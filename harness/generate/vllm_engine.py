"""Completions from vLLM's offline engine: 4-bit weights by bitsandbytes, adapters by LoRA requests, nothing merged."""

from __future__ import annotations

import functools
import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue
from typing_extensions import override

from harness.errors import HarnessError, UsageError
from harness.generate.backend import Answers, SampleKey
from harness.generate.settings import GenerationSettings
from harness.generate.stopping import StopRule, answer_text, end_tokens
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.strategy import (
    DecodingStrategy,
    TokenRequests,
    Tokens,
    beyond_context,
    decoder_identity,
    opened_thought,
)
from harness.model.identity import installed
from harness.model.load import LoadedModel
from harness.runs.schema import JsonObject
from harness.storage.json_file import read_object
from harness.types import Answer, FinishReason

if TYPE_CHECKING:
    from vllm import RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

    from harness.generate.transformers.generator import Generator

SEQUENCES = 256
"""Rows that vLLM decodes side by side unless `vllm: {max_num_seqs: ...}` says otherwise."""

END_TAG = "</html>"
"""Where vLLM hands an answer back. One that stood in a thought or a script ends nothing: the answer then goes on."""

LORA_RANK = 64
"""The largest rank of an adapter unless `vllm: {max_lora_rank: ...}` says otherwise."""


class EngineDied(HarnessError):
    """The process that decodes for vLLM is gone; what it had finished is kept."""


class Engine(Protocol):
    """What is used of vLLM's LLMEngine."""

    def add_request(
        self, request_id: str, prompt: object, params: SamplingParams, *, lora_request: LoRARequest | None = None
    ) -> str:
        """Queue a prompt."""

    def has_unfinished_requests(self) -> bool:
        """Return whether anything is queued or under way."""

    def step(self) -> Sequence[RequestOutput]:
        """Decode a token of each row under way; return outputs, finished or not."""


class Sampling(Protocol):
    """vLLM's SamplingParams."""

    def __call__(
        self,
        *,
        temperature: float,
        seed: int | None,
        max_tokens: int,
        stop: list[str],
        include_stop_str_in_output: bool,
    ) -> SamplingParams:
        """Return how one prompt is decoded."""


@dataclass(frozen=True)
class OpenEngine:
    """An engine that holds the base weights."""

    engine: Engine
    context: int | None
    """The longest sequence in tokens."""
    sampling: Sampling
    adapter: Callable[[str, str], LoRARequest]
    """Makes a LoRARequest of a SHA-256 and a folder."""


def check_engine() -> None:
    """Refuse a model file with `vllm:` where vLLM is missing.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UsageError("vLLM is not installed", "pip install vllm vllm-bnb-plugin, or take `vllm:` out of the file")


def _bitsandbytes() -> str:
    """Return vLLM's name for 4-bit weights made while loading.

    Raises:
        UsageError: this vLLM left them to a plugin that is not installed.
    """
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    name = "bitsandbytes"
    if name not in QUANTIZATION_METHODS and importlib.util.find_spec("vllm_bnb_plugin") is None:
        raise UsageError("this vLLM reads no 4-bit weights by itself", "pip install vllm-bnb-plugin")
    return name


def open_engine(loaded: LoadedModel, arguments: Mapping[str, JsonValue]) -> OpenEngine:
    """Load the base weights into an engine, once for all models that share weights, precision and arguments.

    Raises:
        HarnessError: the engine does not start.
    """
    loaded.drop_adapters()
    loaded.model = None  # what training left on the GPU makes room
    precision = loaded.precision
    own: dict[str, JsonValue] = {"model": str(loaded.weights.folder), "dtype": precision.dtype}
    own |= {"enable_lora": True, "max_lora_rank": LORA_RANK}
    if precision.quantization == "nf4":
        own["quantization"] = _bitsandbytes()
    return _open(json.dumps(own | dict(arguments), sort_keys=True))


@functools.lru_cache(maxsize=1)
def _open(arguments: str) -> OpenEngine:
    import torch
    from vllm import EngineArgs, LLMEngine, SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import RequestOutputKind

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        engine = LLMEngine.from_engine_args(EngineArgs(**json.loads(arguments)))
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise HarnessError(f"vLLM does not start: {reason:.160}", "look at `vllm:` in the model file") from error
    numbers: dict[str, int] = {}

    def adapter(sha256: str, folder: str) -> LoRARequest:
        return LoRARequest(sha256[:16], numbers.setdefault(sha256, len(numbers) + 1), folder)

    # without the growing output of every row at every step
    sampling = functools.partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY)
    return OpenEngine(engine, int(engine.model_config.max_model_len), sampling, adapter)


@dataclass(frozen=True)
class EngineDecoding(DecodingStrategy):
    """vLLM decodes, which is known without a proof: its answers are told apart from all others'."""

    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    """Of vLLM's EngineArgs."""
    opening: Callable[[LoadedModel, Mapping[str, JsonValue]], OpenEngine] = open_engine

    @override
    def at_once(self, settings: GenerationSettings) -> int:
        return int(str(self.arguments.get("max_num_seqs", SEQUENCES)))

    @override
    def verdict(self, model: Generator) -> Verdict:
        return Verdict("vllm")

    @override
    def identity(self, model: Generator) -> JsonObject:
        decoder = decoder_identity(model, self.verdict(model))
        return {"decoder": decoder, "engine": f"vllm {installed('vllm')}", "arguments": dict(self.arguments)}

    def manifest(self, model: Generator) -> JsonObject:
        """Return what the manifest says of it; vLLM sizes its batches itself."""
        return {
            "backend": "vllm",
            "batch_size": None,
            "decoder": decoder_identity(model, self.verdict(model)),
            "decoding": {"why": "", "proof": {}},
            "engine": dict(self.arguments),
        }

    @override
    def prepare(self, model: Generator) -> None:
        self.opening(model.loaded, self.arguments)

    def decode(self, model: Generator, wanted: TokenRequests) -> Answers:
        """Queue all prompts and yield completions as the engine finishes them."""
        opened = self.opening(model.loaded, self.arguments)
        tokenizer = model.renderer.tokenizer
        thought = opened_thought(tokenizer, wanted)
        rule = _stop_rule(model, thought)
        lora = None
        if model.adapter_folder is not None and model.adapter_sha256 is not None:
            lora = opened.adapter(model.adapter_sha256, str(model.adapter_folder))
        queue = _Queue(opened, model.settings, rule, lora)
        places: dict[str, SampleKey] = {}
        for number, (place, (tokens, seed)) in enumerate(wanted.items()):
            if opened.context is not None and len(tokens) + 1 > opened.context:
                yield place, beyond_context(tokens, opened.context)
            else:
                places[str(number)] = place
                queue.add(str(number), _Row(tokens, seed))
        before = time.monotonic()
        while opened.engine.has_unfinished_requests():
            ready = queue.finished(_step(opened.engine))
            now = time.monotonic()
            for name, row in ready.items():
                text = thought + answer_text(tokenizer, row.written, rule.marks)
                seconds = (now - before) / len(ready)
                yield places.pop(name), Answer(text, row.reason, len(row.prompt), len(row.written), seconds)
            before = now if ready else before
        if places:
            raise HarnessError(f"vLLM left {len(places)} prompts unanswered", "look at its messages above")


@dataclass
class _Row:
    """A prompt and what has been written behind it so far."""

    prompt: Tokens
    seed: int
    written: list[int] = field(default_factory=list)
    reason: FinishReason = "eos"


@dataclass
class _Queue:
    """The requests that an engine holds."""

    opened: OpenEngine
    settings: GenerationSettings
    rule: StopRule
    lora: LoRARequest | None
    rows: dict[str, _Row] = field(default_factory=dict)

    def add(self, number: str, row: _Row) -> None:
        """Let the engine write on behind a prompt and what there is of its answer."""
        self.rows[number] = row
        params = self.opened.sampling(
            temperature=self.settings.temperature,
            seed=row.seed if self.settings.temperature else None,
            max_tokens=self._room(row),
            stop=[END_TAG],
            include_stop_str_in_output=True,
        )
        prompt = {"type": "token", "prompt_token_ids": [*row.prompt, *row.written]}
        self.opened.engine.add_request(number, prompt, params, lora_request=self.lora)

    def _room(self, row: _Row) -> int:
        room = self.settings.max_new_tokens - len(row.written)
        if self.opened.context is not None:
            room = min(room, self.opened.context - len(row.prompt) - len(row.written))
        return room

    def finished(self, outputs: Iterable[RequestOutput]) -> dict[str, _Row]:
        """Return the rows that have ended; one that vLLM stopped at an end tag which ends nothing goes on."""
        found = {}
        for output in outputs:
            if not output.finished or output.request_id not in self.rows:
                continue
            row, said = self.rows.pop(output.request_id), output.outputs[0]
            reason = self.rule.extend(row.written, said.token_ids)  # where our own decoding would have ended
            if reason is None and getattr(said, "stop_reason", None) == END_TAG and self._room(row) > 0:
                self.add(output.request_id, row)
                continue
            row.reason = reason or ("length" if said.finish_reason == "length" else "eos")
            found[output.request_id] = row
        return found


def _stop_rule(model: Generator, thought: str) -> StopRule:
    from transformers import GenerationConfig

    tokenizer, folder = model.renderer.tokenizer, model.loaded.weights.folder
    if (folder / "generation_config.json").exists():
        says = GenerationConfig.from_pretrained(str(folder))
    else:  # as transformers does
        says = GenerationConfig(eos_token_id=read_object(folder / "config.json").get("eos_token_id"))
    ends = end_tokens(SimpleNamespace(generation_config=says), tokenizer)
    return StopRule(tokenizer, ends, model.settings.max_new_tokens, True, model.settings.cut_loops, thought)


def _step(engine: Engine) -> Sequence[RequestOutput]:
    try:
        return engine.step()
    except Exception as error:
        if type(error).__name__ != "EngineDeadError":  # named, for vLLM may not be installed and has moved it before
            raise
        raise EngineDied("vLLM's engine died", "look at its messages above; the same command goes on") from error
