"""The model's worker without a cluster: any class of generator travels and answers as it does in its own process."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cluster import workers
from harness.cluster.workers import GeneratorOrder, ModelWorker
from harness.errors import HarnessError
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.generate.vllm_engine import EngineDecoding, EngineDied, OpenEngine
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.pipeline.batch_invariance import alone
from harness.types import Task

TASKS = [Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess", "tea"))]


class EngineDeadError(Exception):
    """As vLLM's is called."""


class Parrot:
    """An engine that repeats each prompt, the last one first; it dies over a text."""

    def __init__(self, deadly: Sequence[int] = ()) -> None:
        self._deadly = list(deadly)
        self._waiting: list[tuple[str, list[int], Any]] = []

    def add_request(self, request_id: str, prompt: Any, params: Any, *, lora_request: Any = None) -> None:
        self._waiting.append((request_id, prompt["prompt_token_ids"], lora_request))

    def has_unfinished_requests(self) -> bool:
        return bool(self._waiting)

    def step(self) -> list[Any]:
        request_id, tokens, lora = self._waiting.pop()
        if tokens == self._deadly:
            raise EngineDeadError
        said = SimpleNamespace(token_ids=tokens + ([1] if lora else []), finish_reason="length")
        return [SimpleNamespace(request_id=request_id, finished=True, outputs=[said])]


@dataclass(frozen=True)
class Open:
    """Opens a parrot in whichever process asks."""

    deadly: tuple[int, ...] = ()

    def __call__(self, loaded: LoadedModel, arguments: Mapping[str, Any]) -> OpenEngine:
        return OpenEngine(Parrot(self.deadly), 2048, SimpleNamespace, lambda sha, folder: (sha, folder))


@pytest.fixture
def plain(own_cache: Path, tiny: LoadedModel) -> Generator:
    renderer = PromptRenderer("Write: {{ prompt }}", False, tiny.tokenizer)
    return Generator("base", tiny, renderer, GenerationSettings(24, 2), examples=(TASKS[0],))


def by_worker(generator: Generator) -> dict[str, str]:
    """What a worker answers that has nothing but the order, as it travels."""
    order = pickle.loads(pickle.dumps(GeneratorOrder.of(generator)))
    prompts = [((task.id, 0), (generator.prompt(task), 0)) for task in TASKS]
    found: dict[int, Any] = {}
    for together in ModelWorker(None).decode(order, list(enumerate(prompts))):
        assert not found.keys() & dict(together).keys()
        found.update(together)
    return {TASKS[number].id: answer.text for number, answer in found.items()}


def here(generator: Generator) -> dict[str, str]:
    return {done.task: done.text for done in generator.complete(TASKS, fresh=True)}


def test_whatever_decodes_for_a_generator_it_answers_on_a_worker_as_here(
    plain: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cluster.workers.check_engine", lambda: None)
    engine = replace(plain, decoding=EngineDecoding({"max_num_seqs": 4}, Open()))
    for generator in (plain, alone(plain), engine):
        assert by_worker(generator) == here(generator)
    assert here(engine) != here(plain)
    assert (plain.at_once, engine.at_once, replace(plain, decoding=EngineDecoding()).at_once) == (2, 4, 256)


def test_a_worker_without_the_engine_says_so(plain: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(HarnessError, match=r"vLLM is not installed on node .*pip install vllm"):
        by_worker(replace(plain, decoding=EngineDecoding()))


def test_a_worker_whose_template_differs_is_refused(plain: Generator) -> None:
    order = replace(GeneratorOrder.of(plain), template="Other: {{ prompt }}")
    with pytest.raises(HarnessError, match="another template or other settings"):
        list(ModelWorker(None).decode(order, [(0, (("t0", 0), ("t0", (1, 2), 0)))]))


def test_an_engine_that_dies_is_one_line_here_and_the_end_of_its_worker(
    plain: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cluster.workers.check_engine", lambda: None)
    doomed = replace(plain, decoding=EngineDecoding(opening=Open(plain.prompt(TASKS[2]))))
    with pytest.raises(EngineDied, match="vLLM's engine died"):
        doomed.complete(TASKS)

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(workers.os, "_exit", leave)
    with pytest.raises(SystemExit, match="1"):
        by_worker(doomed)
