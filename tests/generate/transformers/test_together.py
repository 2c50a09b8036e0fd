"""Models that decode in one queue: each answer is the one that its model gives alone, and goes to its store."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from harness.generate.backend import SuiteQuestions
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.continuous_batching import Decoded, Prompt
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.together import answers, queues
from harness.model.identity import adapter_hashes
from harness.model.load import LoadedModel
from harness.model.profile import Profile
from harness.model.prompt import PromptRenderer
from harness.pipeline.executor import LocalExecutor
from harness.progress import ProgressReporter
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.split import stratified
from harness.types import Completion, Task
from tests.conftest import ROOT, load_fp32
from tests.model.kinds import make_adapter

TASKS = tuple(Task(f"t{n}", f"A page about {word}") for n, word in enumerate(("bread", "rain", "chess", "salt", "tea")))
EXAMPLE = Task("seen", "A page about stones", reference="<!DOCTYPE html><html><body><p>Stones</p></body></html>")
FUSED = TransformersDecoding(Verdict("fused"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The models of the prompts of each decoding."""
    seen: list[list[int]] = []
    real = StreamDecoder.decode

    def watched(self: StreamDecoder, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        seen.append([prompt.model for prompt in prompts])
        return real(self, prompts)

    monkeypatch.setattr(StreamDecoder, "decode", watched)
    return seen


def adapter_of(folder: Path, kind: str, to: Path) -> Path:
    """A random adapter on a fresh load of these weights."""
    return make_adapter(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), kind, to / kind)


def models(loaded: LoadedModel, adapters: Sequence[Path], **settings: Any) -> list[Generator]:
    """One for each adapter, which stand first, then the base with an example and without."""
    renderer = PromptRenderer("Write: {{ prompt }}\n", False, loaded.tokenizer)
    base = Generator(
        "base",
        loaded,
        renderer,
        GenerationSettings(**{"max_new_tokens": 16, "batch_size": 3} | settings),
        decoding=FUSED,
    )
    tuned = [
        replace(base, name=path.name, adapter_folder=path, adapter_sha256=adapter_hashes(path).identity)
        for path in adapters
    ]
    return [*tuned, replace(base, name="base-fewshot", examples=(EXAMPLE,)), base]


def asked(found: Sequence[Generator], tasks: Sequence[Task] = TASKS, fresh: bool = False) -> list[SuiteQuestions]:
    return [SuiteQuestions(model, "small", tasks, fresh) for model in found]


def together(found: Sequence[Generator], tasks: Sequence[Task] = TASKS) -> dict[str, list[Completion]]:
    """All answers by model, decoded anew in one queue."""
    (queue,) = queues(asked(found, tasks, fresh=True))
    said: dict[str, list[Completion]] = {one.backend.name: [] for one in queue}
    for number, completion, stored in answers(queue):
        assert completion.model == queue[number].backend.name
        assert not stored
        said[completion.model].append(completion)
    return {one.backend.name: one.backend.in_order(said[one.backend.name], tasks) for one in queue}


def alone(found: Sequence[Generator], tasks: Sequence[Task] = TASKS) -> dict[str, list[Completion]]:
    return {model.name: model.complete(tasks, fresh=True) for model in found}


def untimed(said: dict[str, list[Completion]]) -> dict[str, list[Completion]]:
    return {name: [replace(one, seconds=0.0) for one in its] for name, its in said.items()}


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_each_answer_is_the_one_that_its_model_gives_alone(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, decoded: list[list[int]], batch_size: int
) -> None:
    adapters = [adapter_of(tiny_folder, kind, tmp_path) for kind in ("lora", "rank-pattern", "rslora")]
    found = models(tiny, adapters, batch_size=batch_size)
    found[1] = found[1].limited(9)  # another suite, say
    said = together(found)
    assert len(decoded) == 1
    assert set(decoded[0]) == {0, 1, 2, 3, 4}
    assert untimed(said) == untimed(alone(found))
    assert len({one[0].text for one in said.values()}) == 5
    assert {one.completion_tokens for one in said["rank-pattern"]} == {9}


def test_answers_to_a_suites_requests_are_those_given_alone(
    own_cache: Path, embedded_profile: Profile, shallow_folder: Path, tmp_path: Path
) -> None:
    loaded = load_fp32(shallow_folder)
    suite = load_suite(SuiteLocation("html_starter", ROOT / "tasks" / "html_starter"))
    file, tasks = embedded_profile.file, stratified(suite.held_out, 3)
    base = Generator(
        "base",
        loaded,
        PromptRenderer(file.prompt, file.chat, loaded.tokenizer),
        GenerationSettings(12, 2),
        decoding=FUSED,
    )
    adapter = adapter_of(shallow_folder, "lora", tmp_path)
    sha256 = adapter_hashes(adapter).identity
    found = [
        base,
        replace(base, name="base-fewshot", examples=tuple(stratified(suite.train, 1))),
        replace(base, name="tuned", adapter_folder=adapter, adapter_sha256=sha256),
    ]
    said = together(found, tasks)
    assert untimed(said) == untimed(alone(found, tasks))
    assert len({its[0].text for its in said.values()}) == 3


def test_samples_are_drawn_as_alone(own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path) -> None:
    found = models(tiny, [adapter_of(tiny_folder, "lora", tmp_path)], temperature=1.0, samples=2)
    said = together(found, TASKS[:3])
    assert untimed(said) == untimed(alone(found, TASKS[:3]))
    assert len({one.text for one in said["lora"]}) == 6


def test_what_was_stored_before_a_kill_is_not_decoded_again(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, decoded: list[list[int]]
) -> None:
    found = models(tiny, [adapter_of(tiny_folder, "lora", tmp_path)])
    (queue,) = queues(asked(found))
    under_way = answers(queue)
    kept = [next(under_way)[1] for _ in range(7)]
    under_way.close()  # type: ignore[attr-defined]
    rest = list(answers(queue))
    assert {(one.model, one.task) for one in kept} == {(one.model, one.task) for _, one, stored in rest if stored}
    assert [len(prompts) for prompts in decoded] == [15, 8]
    for model in found:
        model.complete(TASKS)
    assert all(stored for _, _, stored in answers(queue))
    assert len(decoded) == 2


def test_too_little_memory_means_fewer_rows_and_then_each_model_for_itself(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = models(tiny, [adapter_of(tiny_folder, "lora", tmp_path)], batch_size=4)
    expected = alone(found)
    calls: list[tuple[int, int]] = []
    real = StreamDecoder.decode

    def scarce(self: StreamDecoder, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        names = {prompt.model for prompt in prompts}
        calls.append((self.batch_size, len(names)))
        for number, row in enumerate(real(self, prompts)):
            if number == 2 or (self.batch_size == 1 and self.fused.adapter_of == (1,)):
                raise torch.OutOfMemoryError
            yield row

    monkeypatch.setattr(StreamDecoder, "decode", scarce)
    monkeypatch.setattr(TransformersDecoding, "_proved", lambda *_: Verdict("slots"))
    said = together(found)
    assert [size for size, models_ in calls if models_ == 3] == [4, 2, 1]
    assert {models_ for _, models_ in calls[3:]} == {1}
    for name, its in said.items():
        assert [one.text for one in its] == [one.text for one in expected[name]]
    notes = {one.note for one in said["lora"] if one.note}
    assert notes == {"decoded by slots, not by fused: the memory ran out"}
    assert all(one.decoder == ("slots" if one.note else "") for its in said.values() for one in its)


def test_an_adapter_that_changes_the_base_keeps_to_itself(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, decoded: list[list[int]]
) -> None:
    found = models(tiny, [adapter_of(tiny_folder, kind, tmp_path) for kind in ("lora", "pissa")])
    said = together(found)
    assert all(set(prompts) == {0} for prompts in decoded)
    assert untimed(said) == untimed(alone(found))


def test_a_prompt_beyond_the_context_is_its_models_own_failure(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path
) -> None:
    """There is room for it without an example before it."""
    found = models(tiny, [adapter_of(tiny_folder, "lora", tmp_path)])
    lengths = [len(found[-1].prompt(Task("long", "very " * count))) for count in (100, 200)]
    count = 100 + (2048 - 20 - lengths[0]) * 100 // (lengths[1] - lengths[0])
    tasks = (*TASKS[:2], Task("long", "very " * count))
    said = together(found, tasks)
    assert said["base-fewshot"][2].finish_reason == "error"
    assert "is longer than the context of 2048" in said["base-fewshot"][2].note
    assert said["base"][2].completion_tokens == said["lora"][2].completion_tokens == 16


def test_tasks_with_long_references_are_decoded_first(own_cache: Path, tiny: LoadedModel) -> None:
    tasks = [Task(f"t{length}", "A page", reference="x" * length) for length in (3, 50, 7)]
    model = models(tiny, [])[1]
    assert [task for task, _ in model.inquire(tasks).wanted] == ["t50", "t7", "t3"]
    assert [one.task for one in model.complete(tasks)] == ["t3", "t50", "t7"]


def test_models_join_by_weights_decoder_and_batch(own_cache: Path, tiny: LoadedModel, tiny_folder: Path) -> None:
    base = models(tiny, [])[1]
    other = replace(base, name="elsewhere", loaded=replace(tiny))
    slots = replace(base, name="slots", decoding=TransformersDecoding(Verdict("slots")))
    unknown = replace(base, name="unknown", decoding=TransformersDecoding())
    small = replace(base, name="small", settings=replace(base.settings, batch_size=1))
    found = queues(asked([slots, base, other, unknown, replace(base, name="again"), small]))
    assert [[one.backend.name for one in queue] for queue in found] == [
        ["slots"], ["base", "again"], ["elsewhere"], ["unknown"], ["small"],
    ]  # fmt: skip


def test_an_executor_gives_each_suite_its_completions_in_order(
    own_cache: Path, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, decoded: list[list[int]]
) -> None:
    found = models(tiny, [adapter_of(tiny_folder, "lora", tmp_path)])
    expected = alone(found)
    decoded.clear()
    console = Console(file=io.StringIO(), width=200)
    suites = [
        [SuiteQuestions(model, "one", TASKS[:2], True) for model in found],
        [SuiteQuestions(model, "two", TASKS[2:], True) for model in found],
    ]
    with LocalExecutor(ProgressReporter(console)) as executor:
        said = executor.answers(suites)
    assert len(decoded) == 1
    for tasks, completions in zip((TASKS[:2], TASKS[2:]), said, strict=True):
        own = [one for model in found for one in expected[model.name] if one.task in {task.id for task in tasks}]
        assert [replace(one, seconds=0.0) for one in completions] == [replace(one, seconds=0.0) for one in own]
    lines = console.file.getvalue()  # type: ignore[attr-defined]
    assert "base-fewshot, base and lora answer one and two in one queue: 15 in" in lines
    assert "base-fewshot 5/5, base 5/5, lora 5/5)" in lines
