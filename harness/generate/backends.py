"""Models that answer, or have answered, outside this process: made from their files, and refused at once if need be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.model.profile import ModelSpec, Profile
from harness.types import CONTROL_NAMES, Suite, Task

if TYPE_CHECKING:
    from harness.generate.backend import Backend

_MODEL_NAME = re.compile(r"[\w][\w./@+-]{0,79}")


def check_elsewhere(spec: ModelSpec) -> None:
    """Refuse what would fail later, before any work begins.

    Raises:
        UsageError: the server's key is not in the environment, the file of answers is missing or broken, or vLLM is
            not installed.
    """
    if spec.file.vllm is not None:
        from harness.generate.vllm_engine import check_engine

        check_engine()
    if spec.file.openai is not None:
        from harness.generate.openai.client import key_of

        key_of(spec.file.openai)
    if spec.file.file is not None:
        from harness.generate.completions_file import answers_of, read_answers

        answers_of(spec.name, read_answers(_answers_file(spec)))


def _answers_file(spec: ModelSpec) -> Path:
    return spec.profile.folder / str(spec.file.file)


def check_given_tasks(spec: ModelSpec, suites: Iterable[Suite]) -> None:
    """Refuse answers in a file to tasks that none of the measured suites holds out.

    Raises:
        UsageError: a line names an unknown task, or one that models are trained on.
    """
    suites = list(suites)
    if spec.file.file is not None and suites:
        from harness.generate.completions_file import check_tasks, read_answers

        check_tasks(read_answers(_answers_file(spec)), suites)


def given_models(path: Path, suite: Suite) -> tuple[Profile, list[ModelSpec], int]:
    """Return a profile for the answers in a file, its models, and how many samples of a task the file numbers.

    Raises:
        UsageError: the file is missing or broken, or does not answer this suite.
    """
    from harness.generate.completions_file import check_tasks, read_answers
    from harness.model.profile_schema import ModelFile, ProfileFile

    file = read_answers(path)
    check_tasks(file, [suite])
    for name in file.written:
        if name in CONTROL_NAMES or not _MODEL_NAME.fullmatch(name):
            raise UsageError(f"a model in {path} cannot be called '{name}'", "use letters, digits and . _ - / @ +")
    about = ProfileFile(
        title=f"Answers in {path.name}",
        prompt="{{ prompt }}",
        chat=False,
        suites=[suite.name],
    )
    profile = Profile("given", path.resolve().parent, about, f"the answers are in {path.name}")
    specs = [ModelSpec(name, profile, ModelFile(file=path.name)) for name in file.written]
    return profile, specs, 1 + max(answer.sample for answer in file.answers.values())


def backend_elsewhere(spec: ModelSpec, temperature: float, samples: int, examples: tuple[Task, ...]) -> Backend:
    """Return the backend of a model with `openai:` or `file:`.

    Args:
        spec: The model.
        temperature: 0 is greedy.
        samples: Completions for each task.
        examples: Answered tasks that stand before each request.
    """
    if spec.file.file is not None:
        from harness.generate.completions_file import GivenAnswers

        return GivenAnswers.read(spec.name, _answers_file(spec), samples)
    from harness.generate.openai.backend import ServedModel
    from harness.generate.settings import GenerationSettings
    from harness.model.prompt import PromptRenderer
    from harness.model.reach import UNKNOWN_LIMIT

    file, served = spec.profile.file, spec.file.openai
    assert served is not None
    settings = GenerationSettings(
        file.max_new_tokens or UNKNOWN_LIMIT,
        served.concurrency,
        temperature=temperature,
        samples=samples,
        cut_loops=False,
    )
    chat = file.chat if served.api is None else served.api == "chat"
    return ServedModel(spec.name, served, PromptRenderer(file.prompt, chat), settings, examples)
