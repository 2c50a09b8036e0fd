"""Models that answer, or have answered, outside this process: made from their files, and refused at once if need be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.profile.load import ModelSpec
from harness.types import Task

if TYPE_CHECKING:
    from harness.generate.backend import Backend


def check_elsewhere(spec: ModelSpec) -> None:
    """Refuse what would fail later, before any work begins.

    Raises:
        UsageError: the server's key is not in the environment, or the file of answers is missing or broken.
    """
    if spec.file.openai is not None:
        from harness.generate.server import key_of

        key_of(spec.file.openai)
    if spec.file.file is not None:
        from harness.generate.given import answers_of, read_answers

        answers_of(spec.name, read_answers(_answers_file(spec)))


def _answers_file(spec: ModelSpec) -> Path:
    return spec.profile.folder / str(spec.file.file)


def backend_elsewhere(spec: ModelSpec, temperature: float, samples: int, examples: tuple[Task, ...]) -> Backend:
    """Return the backend of a model with `openai:` or `file:`.

    Args:
        spec: The model.
        temperature: 0 is greedy.
        samples: Completions for each task.
        examples: Answered tasks that stand before each request.
    """
    if spec.file.file is not None:
        from harness.generate.given import GivenAnswers

        return GivenAnswers.read(spec.name, _answers_file(spec), samples)
    from harness.generate.served import ServedModel
    from harness.generate.settings import GenerationSettings
    from harness.model.prompt import PromptRenderer

    file, served = spec.profile.file, spec.file.openai
    assert served is not None
    settings = GenerationSettings(
        file.max_new_tokens, served.concurrency, temperature=temperature, samples=samples, cut_loops=False
    )
    chat = file.chat if served.api is None else served.api == "chat"
    return ServedModel(spec.name, served, PromptRenderer(file.prompt, chat), settings, examples)
