"""The vLLM backend up to the engine, which a stand-in of the same calls takes the place of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import UsageError
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.generate.vllm_engine import EngineDecoding, OpenEngine, check_engine
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.types import Task

TASKS = [Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess"))]


@dataclass
class StandIn:
    """Writes the same tokens for every prompt, finishing the last prompt first."""

    writes: list[int]
    word: str = "stop"
    waiting: list[tuple[str, Any, Any, Any]] = field(default_factory=list)
    seen: list[tuple[str, Any, Any, Any]] = field(default_factory=list)

    def add_request(self, request_id: str, prompt: Any, params: Any, *, lora_request: Any = None) -> None:
        self.waiting.append((request_id, prompt, params, lora_request))
        self.seen.append(self.waiting[-1])

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Any]:
        request_id, *_ = self.waiting.pop()
        output = SimpleNamespace(token_ids=self.writes, finish_reason=self.word)
        under_way = [SimpleNamespace(request_id=one[0], finished=False) for one in self.waiting]
        return [*under_way, SimpleNamespace(request_id=request_id, finished=True, outputs=[output])]


def model(loaded: LoadedModel, engine: StandIn, context: int | None = 2048, **more: Any) -> Generator:
    renderer = PromptRenderer("Write: {{ prompt }}", False, loaded.tokenizer)

    def opening(loaded: LoadedModel, arguments: Mapping[str, Any]) -> OpenEngine:
        return OpenEngine(engine, context, SimpleNamespace, lambda sha, folder: (sha, folder))

    decoding = EngineDecoding({"max_lora_rank": 8}, opening)
    return replace(Generator("base", loaded, renderer, GenerationSettings(400, 2), decoding=decoding), **more)


def test_answers_end_where_our_own_decoding_ends(own_cache: Path, tiny: LoadedModel) -> None:
    tokenizer = tiny.tokenizer
    page = tokenizer("<p>Hi</p></HTML>", add_special_tokens=False)["input_ids"]
    chatter = tokenizer(" And so on", add_special_tokens=False)["input_ids"]
    loop = tokenizer(" again", add_special_tokens=False)["input_ids"] * 300
    for writes, word, text, reason in (
        (page + chatter, "length", "<p>Hi</p></HTML>", "stop"),
        ([*chatter, tokenizer.eos_token_id], "stop", " And so on", "eos"),
        (chatter, "stop", " And so on", "eos"),
        (chatter, "length", " And so on", "length"),
        (loop, "length", " again" * 160, "loop"),
    ):
        done = model(tiny, StandIn(writes, word)).complete(TASKS, fresh=True)
        assert [one.task for one in done] == ["t0", "t1", "t2"]
        assert {(one.text, one.finish_reason) for one in done} == {(text, reason)}


def test_the_engine_is_asked_once_with_the_adapter_and_the_rules(
    own_cache: Path, tiny: LoadedModel, tmp_path: Path
) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    engine = StandIn(tiny.tokenizer("<p>Hi", add_special_tokens=False)["input_ids"])
    tuned = model(tiny, engine, adapter_folder=tmp_path, adapter_sha256="a" * 64)
    first = tuned.complete(TASKS)
    assert tuned.complete(TASKS) == first
    assert len(engine.seen) == 3
    _, prompt, params, adapter = engine.seen[0]
    assert prompt == {"type": "token", "prompt_token_ids": tiny.tokenizer("Write: A page about bread")["input_ids"]}
    assert (params.max_tokens, params.temperature, params.seed, params.stop) == (400, 0.0, None, ["</html>"])
    assert adapter == ("a" * 64, str(tmp_path))
    plain = model(tiny, engine)
    plain.complete(TASKS)
    assert engine.seen[-1][3] is None
    assert plain.identity() != tuned.identity() != replace(tuned, decoding=EngineDecoding()).identity()
    assert (tuned.manifest().backend, tuned.manifest().engine) == ("vllm", {"max_lora_rank": 8})


def test_samples_have_seeds_and_long_prompts_fail_by_name(own_cache: Path, tiny: LoadedModel) -> None:
    engine = StandIn(tiny.tokenizer("<p>Hi", add_special_tokens=False)["input_ids"])
    drawing = model(tiny, engine, context=50, settings=GenerationSettings(400, 2, temperature=1.0, samples=2))
    done = drawing.complete([TASKS[0], Task("long", "very " * 60)])
    assert [one.finish_reason for one in done] == ["eos", "eos", "error", "error"]
    assert "longer than the context of 50" in done[2].note
    assert len({params.seed for _, _, params, _ in engine.seen}) == 2
    assert all(params.max_tokens < 50 for _, _, params, _ in engine.seen)


def test_a_missing_engine_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"vLLM is not installed .pip install vllm vllm-bnb-plugin"):
        check_engine()


def test_an_end_tag_in_a_thought_lets_the_engine_go_on(own_cache: Path, tiny: LoadedModel) -> None:
    def tokens(text: str) -> list[int]:
        return list(tiny.tokenizer(text, add_special_tokens=False)["input_ids"])

    parts = [tokens("<think>no <html></html>"), tokens("</think><html>Hi</html>")]

    class InParts(StandIn):
        """Stops at each end tag, as vLLM does."""

        def step(self) -> list[Any]:
            request_id, prompt, *_ = self.waiting.pop()
            begun = prompt["prompt_token_ids"][-len(parts[0]) :] == parts[0]
            output = SimpleNamespace(token_ids=parts[begun], finish_reason="stop", stop_reason="</html>")
            return [SimpleNamespace(request_id=request_id, finished=True, outputs=[output])]

    engine = InParts([])
    (done,) = model(tiny, engine).complete(TASKS[:1])
    assert (done.text, done.finish_reason) == ("<think>no <html></html></think><html>Hi</html>", "stop")
    assert done.completion_tokens == len(parts[0]) + len(parts[1])
    assert [params.max_tokens for _, _, params, _ in engine.seen] == [400, 400 - len(parts[0])]
