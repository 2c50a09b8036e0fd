"""Answers at batch 1 beside those of a batch."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.generate.llama.decoder import StreamDecoder
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.pipeline.batch_invariance import alone, check_batches
from harness.pipeline.executor import LocalExecutor
from harness.progress import ProgressReporter
from harness.runs.manifest import BatchCheck
from harness.runs.samples import SampleRecord
from harness.types import Task

TASKS = tuple(Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess")))


@dataclass
class ModelUnderTest:
    generator: Generator

    def on(self, suite: str) -> Generator:
        return self.generator


def test_answers_that_differ_are_counted(own_answers: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = StreamDecoder.decode
    generator = Generator("base", tiny, PromptRenderer("{{ prompt }}", False, tiny.tokenizer), GenerationSettings(8, 3))
    assert alone(generator).identity() != generator.identity()  # and the decoder has proved itself by now
    monkeypatch.setattr(
        StreamDecoder,
        "decode",
        lambda self, prompts: (sizes.append(self.batch_size), real(self, prompts))[1],
    )
    rows = [
        SampleRecord(
            suite="s",
            task=d.task,
            model="base",
            sample=0,
            completion=d.text,
            finish_reason=d.finish_reason,
            scores={},
        )
        for d in generator.complete(TASKS)
    ]
    part = SimpleNamespace(own=TASKS, suite=SimpleNamespace(name="s"))
    plan: Any = SimpleNamespace(config=SimpleNamespace(check_batch=3), measured=[part])
    reporter = ProgressReporter(Console(file=io.StringIO()))

    def check() -> BatchCheck:
        return check_batches(plan, [ModelUnderTest(generator)], rows, LocalExecutor(reporter), reporter)["base"]

    assert check() == BatchCheck(batch_size=3, answers=3, differ=0)
    assert sizes == [3, 1]
    rows[1] = rows[1].with_(completion=rows[1].completion + "!")
    assert check() == BatchCheck(batch_size=3, answers=3, differ=1, tasks=(f"s/{rows[1].task}",))
    assert sizes == [3, 1]  # from the store
    plan.config.check_batch = 0
    assert check_batches(plan, [ModelUnderTest(generator)], rows, LocalExecutor(reporter), reporter) == {}
