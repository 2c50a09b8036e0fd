"""Completions made elsewhere: a JSON Lines file, one answer a line, by task and sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import override

from harness.answer import page_end
from harness.errors import UsageError, did_you_mean
from harness.generate.backend import Backend, Decode, SampleKey, decode_here
from harness.generate.openai.protocol import FINISH_WORDS, TOOL_WORDS, finish, text_of
from harness.runs.manifest import BackendEntry
from harness.storage.cache import file_sha256
from harness.storage.yaml import validate
from harness.types import Answer, Completion, Suite, Task

FORM = '{"task": ID, "completion": TEXT, "model": NAME, "sample": NUMBER}, the last two if need be'
_NO_ANSWER = "the file holds null in the place of an answer"


class _Line(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    task: str
    completion: str | None
    """None where whoever made the file got no answer: an error of that row."""
    model: str | None = None
    sample: int = Field(default=0, ge=0)
    finish_reason: str | None = None
    """In our words or a server's. None is `stop` where the answer's page ends by `</html>`, else `eos`."""

    @field_validator("task", "model", mode="before")
    @classmethod
    def _number_as_name(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("completion", mode="before")
    @classmethod
    def _parts_joined(cls, value: object) -> object:
        return text_of(value) if isinstance(value, list | dict) else value

    @field_validator("finish_reason")
    @classmethod
    def _known(cls, word: str | None) -> str | None:
        if word is not None and word.strip().lower() not in FINISH_WORDS and word.strip().lower() not in TOOL_WORDS:
            raise ValueError(f"'{word}' is not understood: write stop, length, error, or leave it out")
        return word

    def answer(self) -> Answer:
        """Return what stands in it as an answer."""
        if self.completion is None:
            return Answer("", "error", note=finish(self.finish_reason, closed=True)[1] or _NO_ANSWER)
        reason, note = finish(self.finish_reason or "eos", closed=page_end(self.completion) is not None)
        return Answer(self.completion, reason, note=note)


@dataclass(frozen=True, slots=True)
class AnswersFile:
    """A file of answers, read."""

    path: Path
    answers: Mapping[int, Completion]
    """By line."""
    written: Mapping[str, str]
    """The names of its models in their order, as a run calls them and as they stand in the file.

    The file's own name is that of lines without one. A colon becomes `@`, as in qwen2.5@0.5b: it stands between RUN and
    MODEL, and between the models of a pair.
    """
    torn: bool
    """Whether its last line was left out, because whoever wrote it was stopped in the middle."""


def read_answers(path: Path) -> AnswersFile:
    """Read a file of answers; a torn last line is left out.

    Raises:
        UsageError: the file is missing or empty, or a line of it is no answer or answers a second time.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", f"it holds one line for each answer: {FORM}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    answers: dict[int, Completion] = {}
    written: dict[str, str] = {}
    places: dict[tuple[str, SampleKey], int] = {}
    lines = text.split("\n")
    torn = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # no newline behind it
                torn = True
                continue
            raise UsageError(f"{place} is not valid JSON: {error}", f"each line is {FORM}") from None
        if not isinstance(content, dict):
            raise UsageError(f"{place} is no object", f"each line is {FORM}")
        said = validate(_Line, content, place)
        model = said.model or path.stem
        name = model.replace(":", "@")
        if written.setdefault(name, model) != model:
            raise UsageError(
                f"{path}: '{written[name]}' and '{model}' would be one model", f"a run writes {name} for both"
            )
        first = places.setdefault((name, (said.task, said.sample)), number)
        if first != number:
            raise UsageError(
                f"{place} answers task {said.task} again: line {first} did", "number several answers by `sample`"
            )
        answers[number] = said.answer().at(said.task, name, said.sample)
    if not answers:
        raise UsageError(f"{path} holds no answers", f"each line is {FORM}")
    return AnswersFile(path, answers, written, torn)


def answers_of(name: str, file: AnswersFile) -> dict[SampleKey, Completion]:
    """Return one model's answers by task and sample: all lines where the file knows one model only.

    Raises:
        UsageError: the file holds several models, and none of that name.
    """
    own = [one for one in file.answers.values() if len(file.written) == 1 or one.model == name]
    if not own:
        raise UsageError(f"{file.path} holds no answers of '{name}'", did_you_mean(name, file.written))
    return {(answer.task, answer.sample): replace(answer, model=name) for answer in own}


def check_tasks(file: AnswersFile, suites: Iterable[Suite]) -> None:
    """Refuse answers to tasks that no suite holds out.

    Raises:
        UsageError: a line names an unknown task, or one that models are trained on.
    """
    suites = list(suites)
    names = " and ".join(suite.name for suite in suites)
    held_out = {task.id for suite in suites for task in suite.held_out}
    train = {task.id for suite in suites for task in suite.train}
    for line, answer in file.answers.items():
        place = f"{file.path}, line {line}"
        if answer.task in train - held_out:
            raise UsageError(f"{place}: {answer.task} is a training task of {names}", "only held-out tasks are scored")
        if answer.task not in held_out:
            raise UsageError(f"{place}: {names} has no task '{answer.task}'", did_you_mean(answer.task, held_out))


@dataclass(frozen=True)
class GivenAnswers(Backend):
    """A model whose answers are there already."""

    name: str
    path: Path
    sha256: str
    number: int
    by_place: Mapping[SampleKey, Completion] = field(repr=False)

    @classmethod
    def read(cls, name: str, path: Path, samples: int) -> GivenAnswers:
        """Return the answers of the model `name` in the file.

        Raises:
            UsageError: the file is missing or broken, or holds none of them.
        """
        return cls(name, path, file_sha256(path), samples, answers_of(name, read_answers(path)))

    @property
    @override
    def samples(self) -> int:
        return self.number

    def answers(
        self, tasks: Sequence[Task], *, fresh: bool = False, decode: Decode = decode_here
    ) -> Iterator[tuple[Completion, bool]]:
        """Yield what is in the file; a missing answer is not measured, which is neither a pass nor a failure."""
        missing = Answer("", "error", unanswered=f"{self.path.name} holds no answer to this task")
        for task in tasks:
            for sample in range(self.number):
                yield self.by_place.get((task.id, sample)) or missing.at(task.id, self.name, sample), True

    @override
    def manifest(self) -> BackendEntry:
        return BackendEntry(backend="file", examples=(), file={"name": self.path.name, "sha256": self.sha256})
