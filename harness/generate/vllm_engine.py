"""Completions from vLLM's offline engine: 4-bit weights by bitsandbytes, adapters by LoRA requests, nothing merged."""

from __future__ import annotations

import functools
import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any, Protocol

from harness.answer import thought_left_open
from harness.errors import HarnessError, UsageError
from harness.generate.backend import SampleKey
from harness.generate.stopping import StopRule, answer_text
from harness.generate.store import StoredCompletion
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import GenerationRequests, Generator, Tokens, end_tokens
from harness.model.identity import installed
from harness.model.load import LoadedModel
from harness.runs.manifest import BackendEntry
from harness.types import FinishReason

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

    def add_request(self, request_id: str, prompt: Any, params: Any, *, lora_request: Any = None) -> Any:
        """Queue a prompt."""

    def has_unfinished_requests(self) -> bool:
        """Return whether anything is queued or under way."""

    def step(self) -> Sequence[Any]:
        """Decode a token of each row under way; return outputs, finished or not."""


@dataclass(frozen=True)
class OpenEngine:
    """An engine that holds the base weights."""

    engine: Engine
    context: int | None
    """The longest sequence in tokens."""
    sampling: Callable[..., Any]
    """vLLM's SamplingParams."""
    adapter: Callable[[str, str], Any]
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


def open_engine(loaded: LoadedModel, arguments: Mapping[str, Any]) -> OpenEngine:
    """Load the base weights into an engine, once for all models that share weights, precision and arguments.

    Raises:
        HarnessError: the engine does not start.
    """
    loaded.drop_adapters()
    loaded.model = None  # what training left on the GPU makes room
    precision = loaded.precision
    own: dict[str, Any] = {"model": str(loaded.weights.folder), "dtype": precision.dtype}
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

    def adapter(sha256: str, folder: str) -> Any:
        return LoRARequest(sha256[:16], numbers.setdefault(sha256, len(numbers) + 1), folder)

    # without the growing output of every row at every step
    sampling = functools.partial(SamplingParams, output_kind=RequestOutputKind.FINAL_ONLY)
    return OpenEngine(engine, int(engine.model_config.max_model_len), sampling, adapter)


@dataclass(frozen=True)
class EngineGenerator(Generator):
    """A local model that vLLM decodes for."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of vLLM's EngineArgs."""
    opening: Callable[[LoadedModel, Mapping[str, Any]], OpenEngine] = open_engine

    @property
    def at_once(self) -> int:
        """How many rows the engine decodes side by side."""
        return int(self.arguments.get("max_num_seqs", SEQUENCES))

    def decoder(self) -> Verdict:
        """vLLM decodes, which is known without a proof: its answers are told apart from all others'."""
        return Verdict("vllm")

    def remembered_decoder(self) -> Verdict:
        """As `decoder`."""
        return self.decoder()

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what this model writes."""
        return super().identity() | {"engine": f"vllm {installed('vllm')}", "arguments": dict(self.arguments)}

    def manifest(self) -> BackendEntry:
        """Return what the manifest says of it; vLLM sizes its batches itself."""
        return super().manifest().with_(backend="vllm", batch_size=None, engine=dict(self.arguments))

    def decode(self, wanted: GenerationRequests) -> Iterator[tuple[SampleKey, str, StoredCompletion]]:
        """Queue all prompts and yield completions as the engine finishes them."""
        if not wanted:
            return
        opened = self.opening(self.loaded, self.arguments)
        thought = thought_left_open(self.renderer.tokenizer.decode(next(iter(wanted.values()))[1][-16:]))
        rule = self._rule(bool(thought))
        lora = None
        if self.adapter_folder is not None and self.adapter_sha256 is not None:
            lora = opened.adapter(self.adapter_sha256, str(self.adapter_folder))
        places: dict[str, SampleKey] = {}
        begun: dict[str, list[int]] = {}
        for number, (place, (key, tokens, seed)) in enumerate(wanted.items()):
            if opened.context is not None and len(tokens) + 1 > opened.context:
                note = f"the prompt of {len(tokens)} tokens is longer than the context of {opened.context}"
                yield place, key, StoredCompletion("", "error", len(tokens), 0, 0.0, note)
                continue
            places[str(number)] = place
            prompt = {"type": "token", "prompt_token_ids": list(tokens)}
            opened.engine.add_request(str(number), prompt, self._sampling(opened, tokens, seed), lora_request=lora)
        before = time.monotonic()
        while opened.engine.has_unfinished_requests():
            ready = [output for output in _step(opened.engine) if output.finished and output.request_id in places]
            ready = [output for output in ready if not self._goes_on(opened, rule, output, wanted, places, begun, lora)]
            if not ready:
                continue
            now = time.monotonic()
            for output in ready:
                place = places.pop(output.request_id)
                key, tokens, _ = wanted[place]
                tokens_so_far = [*begun.pop(output.request_id, []), *output.outputs[0].token_ids]
                written, reason = ended(rule, tokens_so_far, output.outputs[0].finish_reason)
                text = thought + answer_text(self.renderer.tokenizer, written, rule.marks)
                seconds = (now - before) / len(ready)
                yield place, key, StoredCompletion(text, reason, len(tokens), len(written), seconds)
            before = now
        if places:
            raise HarnessError(f"vLLM left {len(places)} prompts unanswered", "look at its messages above")

    def _goes_on(
        self,
        opened: OpenEngine,
        rule: StopRule,
        output: Any,
        wanted: GenerationRequests,
        places: Mapping[str, SampleKey],
        begun: dict[str, list[int]],
        lora: Any,
    ) -> bool:
        """Queue the rest of an answer that vLLM stopped at an end tag which ends nothing."""
        number, found = output.request_id, output.outputs[0]
        if getattr(found, "stop_reason", None) != END_TAG:
            return False
        so_far = [*begun.get(number, []), *found.token_ids]
        _, prompt, seed = wanted[places[number]]
        room = self.settings.max_new_tokens - len(so_far)
        if opened.context is not None:
            room = min(room, opened.context - len(prompt) - len(so_far))
        if room < 1 or any(
            rule.reason(so_far[:count]) for count in range(len(begun.get(number, [])) + 1, len(so_far) + 1)
        ):
            return False
        begun[number] = so_far
        whole = (*prompt, *so_far)
        params = self._sampling(opened, whole, seed, room)
        opened.engine.add_request(number, {"type": "token", "prompt_token_ids": list(whole)}, params, lora_request=lora)
        return True

    def _sampling(self, opened: OpenEngine, tokens: Tokens, seed: int, room: int | None = None) -> Any:
        room = self.settings.max_new_tokens if room is None else room
        if opened.context is not None:
            room = min(room, opened.context - len(tokens))
        return opened.sampling(
            temperature=self.settings.temperature,
            seed=seed if self.settings.temperature else None,
            max_tokens=room,
            stop=[END_TAG],
            include_stop_str_in_output=True,
        )

    def _rule(self, thinking: bool) -> StopRule:
        from transformers import GenerationConfig

        tokenizer, folder = self.renderer.tokenizer, self.loaded.weights.folder
        says = GenerationConfig.from_pretrained(str(folder)) if (folder / "generation_config.json").exists() else None
        ends = end_tokens(SimpleNamespace(generation_config=says), tokenizer)
        new_tokens, cut_loops = self.settings.max_new_tokens, self.settings.cut_loops
        return StopRule(tokenizer, ends, new_tokens, True, cut_loops, thinking)


def _step(engine: Engine) -> Sequence[Any]:
    try:
        return engine.step()
    except Exception as error:
        if type(error).__name__ != "EngineDeadError":  # named, for vLLM may not be installed and has moved it before
            raise
        raise EngineDied("vLLM's engine died", "look at its messages above; the same command goes on") from error


def ended(rule: StopRule, tokens: Sequence[int], word: str | None) -> tuple[list[int], FinishReason]:
    """Return the completion up to where our own decoding would have ended it, and why; the end token is left out."""
    for count in range(1, len(tokens) + 1):
        reason = rule.reason(tokens[:count])
        if reason is not None:
            return list(tokens[: count - 1 if reason == "eos" else count]), reason
    return list(tokens), "length" if word == "length" else "eos"


def on_engine(generator: Generator, arguments: Mapping[str, Any]) -> EngineGenerator:
    """Return the same model, decoded by vLLM."""
    same = {part.name: getattr(generator, part.name) for part in fields(generator)}
    return EngineGenerator(**same, arguments=arguments)
