from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.generate.llama.decoder import StreamDecoder
from harness.generate.settings import GenerationSettings
from harness.generate.store import CompletionStore
from harness.generate.transformers import continuous_batching
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.types import Answer, Completion, Task

TASKS = [Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess", "salt"))]


def generator(loaded: LoadedModel, **more: Any) -> Generator:
    renderer = PromptRenderer("Write: {{ prompt }}", False, loaded.tokenizer)
    settings = GenerationSettings(max_new_tokens=8, batch_size=2)
    return replace(Generator("base", loaded, renderer, settings), **more)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the prompts of every call of the decoder, those of its proof left out."""
    counts: list[int] = []
    proving: list[bool] = []
    real: Callable[..., Iterator[continuous_batching.Decoded]] = StreamDecoder.decode
    prove = TransformersDecoding._prove

    def counted(
        self: StreamDecoder, prompts: Sequence[continuous_batching.Prompt]
    ) -> Iterator[continuous_batching.Decoded]:
        if not proving:
            counts.append(len(prompts))
        return real(self, prompts)

    def proved(self: TransformersDecoding, model: Generator, plan: Any) -> Any:
        proving.append(True)
        try:
            return prove(self, model, plan)
        finally:
            proving.pop()

    monkeypatch.setattr(StreamDecoder, "decode", counted)
    monkeypatch.setattr(TransformersDecoding, "_prove", proved)
    return counts


def texts(completions: Sequence[Completion]) -> list[str]:
    return [done.text for done in completions]


def test_nothing_is_decoded_twice(own_answers: Path, tiny: LoadedModel, decoded: list[int]) -> None:
    first = generator(tiny).complete(TASKS[:3])
    again = generator(tiny).complete(TASKS[:3])
    more = generator(tiny).complete(TASKS)
    assert decoded == [3, 1]
    assert again == first == more[:3]
    assert [done.task for done in more] == ["t0", "t1", "t2", "t3"]


def test_another_name_and_batch_size_take_from_the_same_store(
    own_answers: Path, tiny: LoadedModel, decoded: list[int]
) -> None:
    first = generator(tiny).complete(TASKS)
    other = generator(tiny, name="other", settings=GenerationSettings(8, batch_size=4)).complete(TASKS)
    assert decoded == [4]
    assert texts(other) == texts(first)
    assert {done.model for done in other} == {"other"}


@pytest.mark.parametrize(
    "change",
    [
        {"settings": GenerationSettings(9, 2)},
        {"settings": GenerationSettings(8, 2, cut_loops=False)},
        {"settings": GenerationSettings(8, 2, temperature=0.5)},
        {"examples": (replace(TASKS[0], reference="<p>"),)},
        {"adapter_sha256": "a" * 64},
    ],
)
def test_whatever_decides_an_answer_has_a_store_of_its_own(tiny: LoadedModel, change: dict[str, Any]) -> None:
    assert generator(tiny, **change).identity() != generator(tiny).identity()


def test_other_weights_under_the_same_name_do_not_collide(
    own_answers: Path, tiny: LoadedModel, decoded: list[int]
) -> None:
    first = generator(tiny).complete(TASKS)
    tiny.weights = replace(tiny.weights, sha256="f" * 64)
    tiny.model.get_output_embeddings().weight.data.mul_(-1)
    tiny.fused = None  # as if other weights had been loaded
    other = generator(tiny).complete(TASKS)
    assert decoded == [4, 4]
    assert texts(other) != texts(first)


def test_fresh_decodes_anew_and_says_the_same(own_answers: Path, tiny: LoadedModel, decoded: list[int]) -> None:
    first = generator(tiny).complete(TASKS)
    assert texts(generator(tiny).complete(TASKS, fresh=True)) == texts(first)
    assert decoded == [4, 4]


def test_what_was_finished_before_a_kill_is_kept(
    own_answers: Path, tiny: LoadedModel, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[str] = []

    def dies(completion: Completion, stored: bool) -> None:
        finished.append(completion.task)
        if len(finished) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator(tiny).complete(TASKS, on_done=dies)
    store = CompletionStore(generator(tiny).identity())
    with store.path.open("ab") as stream:
        stream.write(b'{"key":"torn","te')
    kept: list[str] = []
    done = generator(tiny).complete(TASKS, on_done=lambda one, stored: kept.append(one.task) if stored else None)
    assert sorted(kept) == sorted(finished)
    assert decoded == [4, 2]
    monkeypatch.setenv("HARNESS_CACHE", str(own_answers / "other"))
    assert texts(done) == texts(generator(tiny).complete(TASKS))


def test_samples_are_drawn_apart_and_the_same_again(own_answers: Path, tiny: LoadedModel) -> None:
    drawing = generator(tiny, settings=GenerationSettings(8, 3, temperature=1.0, samples=3))
    first = drawing.complete(TASKS[:2])
    assert [(done.task, done.sample) for done in first] == [(t, s) for t in ("t0", "t1") for s in range(3)]
    assert len(set(texts(first))) == 6
    assert texts(drawing.complete(TASKS[:2], fresh=True)) == texts(first)
    reordered = drawing.complete(TASKS[1::-1], fresh=True)
    assert texts(reordered) == texts(first[3:]) + texts(first[:3])
    alone = replace(drawing, settings=replace(drawing.settings, batch_size=1))
    assert texts(alone.complete(TASKS[1:2], fresh=True)) == texts(first[3:])
    other = replace(drawing, settings=replace(drawing.settings, seed=1))
    assert not set(texts(other.complete(TASKS[:2]))) & set(texts(first))


def test_a_prompt_longer_than_the_context_is_a_named_failure(own_answers: Path, tiny: LoadedModel) -> None:
    endless = Task("long", "very " * 3000)
    found = generator(tiny).complete([TASKS[0], endless])
    assert found[0].finish_reason == "length"
    assert (found[1].text, found[1].finish_reason, found[1].completion_tokens) == ("", "error", 0)
    assert "is longer than the context of 2048" in found[1].note
    assert generator(tiny).complete([endless])[0].note == found[1].note


def test_too_little_memory_halves_the_batch_and_goes_on(
    own_answers: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = generator(tiny).complete(TASKS)
    sizes: list[int] = []
    real = StreamDecoder.decode

    def scarce(
        self: StreamDecoder, prompts: Sequence[continuous_batching.Prompt]
    ) -> Iterator[continuous_batching.Decoded]:
        sizes.append(self.batch_size)
        for number, row in enumerate(real(self, prompts)):
            if self.batch_size > 1 and number == 1:
                raise torch.OutOfMemoryError
            yield row

    monkeypatch.setattr(StreamDecoder, "decode", scarce)
    found = generator(tiny, settings=GenerationSettings(8, 4)).complete(TASKS, fresh=True)
    assert sizes == [4, 2, 1]
    assert texts(found) == texts(expected)


def test_a_store_reads_what_it_wrote(tmp_path: Path) -> None:
    store = CompletionStore({"weights": "a"}, tmp_path)
    said = Answer("<p>\ud800</p>", "stop", 3, 4, 0.5, "note")
    store.put("key", said)
    assert CompletionStore({"weights": "a"}, tmp_path).get("key") == said
    names = "schema key text finish_reason prompt_tokens completion_tokens seconds note decoder"
    assert json.loads(store.path.read_text()).keys() == set(names.split())
    assert CompletionStore({"weights": "b"}, tmp_path).get("key") is None
    assert CompletionStore.key((1, 2), 0, 0) != CompletionStore.key((1, 2), 1, 0) != CompletionStore.key((1, 2), 0, 1)
