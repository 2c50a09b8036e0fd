"""The form of `suite.yaml` and of a task in a suite's data files, as pydantic models."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from harness.checks.parse import parse_check
from harness.checks.words import Check
from harness.storage.yaml import YamlModel, load_yaml
from harness.types import Scope

IgnorableFault = Literal["missing-doctype", "missing-title"]


class Columns(YamlModel):
    """Which column of the data holds what."""

    prompt: str = "prompt"
    input: str = "input"
    """Empty where no column holds an input, though one is called so."""
    reference: str = "reference"


class HubData(YamlModel):
    """A data set on the Hugging Face hub."""

    path: str
    revision: str = "main"
    split: str = "train"


class FileData(YamlModel):
    """Data files beside `suite.yaml`: either already split, or one set of rows that the harness splits."""

    train: list[str] = Field(default_factory=list)
    held_out: list[str] = Field(default_factory=list)
    rows: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _either(self) -> FileData:
        if self.rows and (self.train or self.held_out):
            raise ValueError("give either `rows` (the harness splits them) or `train` and `held_out`, not both")
        if not self.rows and not self.held_out:
            raise ValueError("name at least one file under `held_out` or under `rows`")
        return self


class FixedSplit(YamlModel):
    """The split of a published data set by row number; it holds only for exactly that data set."""

    of_rows: int = Field(gt=1)
    """Number of rows the published data set has."""
    train_rows: int = Field(gt=0)
    """The first so many rows are for training, the rest is held out."""

    @model_validator(mode="after")
    def _leaves_rows(self) -> FixedSplit:
        if self.train_rows >= self.of_rows:
            raise ValueError(f"train_rows must be less than of_rows, {self.of_rows}, so that rows are held out")
        return self


_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PinnedRows(YamlModel):
    """The rows of a published data set, known by their content: `harness.suite.pinned` says how it is hashed."""

    rows: int = Field(gt=0)
    """How many there are."""
    sha256: _Sha256
    """Of all of them."""
    first: dict[Annotated[int, Field(gt=0)], _Sha256] = Field(default_factory=dict)
    """Of the first so many, where people have copies of that length."""


class StratifiedSplit(YamlModel):
    """A split by groups of near-duplicates, each stratum in proportion."""

    stratify: list[Literal["length", "kind"]] = Field(min_length=1)
    """By what: the length of the reference, the kind of page (its category where the rows name one)."""


HELD_OUT: Final = "held-out"
"""The split of a benchmark: all rows are held out, none is for training."""

Split = FixedSplit | StratifiedSplit | Literal["held-out"]

DEFAULT_SPLIT = "default"
"""The name of the split that a command takes when it is told none."""
_SPLIT_NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,31}"


class SuiteFile(YamlModel):
    """`suite.yaml`."""

    title: str
    description: str = ""
    license: str = ""
    scope: Scope = "document"
    ignore: frozenset[IgnorableFault] = frozenset()
    hub: HubData | None = None
    files: FileData | None = None
    columns: Columns = Columns()
    pinned: PinnedRows | None = None
    """By what the rows of `hub` or `rows` are recognised; others are measured all the same and said to be others."""
    split: FixedSplit | Literal["held-out"] | dict[str, Split] | None = None
    """Splits of `hub` or `rows` by name; `default` is taken unless a command names another. Without a name it is the
    default, numbers of rows for data of exactly so many. What is left is drawn by a hash."""
    held_out_share: float = Field(default=0.2, gt=0, lt=1)
    default_held_out: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> SuiteFile:
        if (self.hub is None) == (self.files is None):
            raise ValueError("name the data by exactly one of `hub` and `files`")
        said_already = self.split == HELD_OUT and self._of_held_out_files
        if self.split is not None and self.files is not None and not self.files.rows and not said_already:
            raise ValueError("`split` is for `hub` and `rows`: `train` and `held_out` are split already")
        if self.pinned is not None and self.files is not None and not self.files.rows:
            raise ValueError("`pinned` is for `hub` and `rows`")
        return self

    @field_validator("split", mode="before")
    @classmethod
    def _one_form(cls, value: object) -> object:
        """Tell a split without a name from splits by name, so that a fault is told of the form that was meant."""
        if value is None or value == HELD_OUT:
            return value
        if not isinstance(value, dict):
            raise ValueError(f"splits are written NAME: {{...}}, a line each, or {HELD_OUT}")
        if FixedSplit.model_fields.keys() & value.keys():
            return _split_of("", value)
        for name in value:
            if not isinstance(name, str) or re.fullmatch(_SPLIT_NAME, name) is None:
                raise ValueError(f"'{name}' cannot be the name of a split: use letters, digits, '.', '_' and '-'")
        return {name: _split_of(name, split) for name, split in value.items()}

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that have a name; a benchmark's is the default."""
        if self.split == HELD_OUT or self._of_held_out_files:
            return {DEFAULT_SPLIT: HELD_OUT}
        return self.split if isinstance(self.split, dict) else {}

    @property
    def _of_held_out_files(self) -> bool:
        return self.files is not None and not (self.files.rows or self.files.train)


def _split_of(name: str, content: object) -> Split:
    """Return the split that is written so; a fault is told in one line, whichever form was meant."""
    if content == HELD_OUT:
        return HELD_OUT
    if not isinstance(content, dict):
        raise ValueError(
            f"split '{name}' is {{of_rows: ..., train_rows: ...}}, {{stratify: [length, kind]}} or {HELD_OUT}"
        )
    form = StratifiedSplit if "stratify" in content else FixedSplit
    try:
        return form.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in (name, *fault["loc"]) if part != "")
        raise ValueError(f"{key + ': ' if key else ''}{fault['msg'].removeprefix('Value error, ')}") from None


class TaskRow(YamlModel):
    """One task in a data file, after the columns have been mapped to these names."""

    id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    prompt: str = Field(min_length=1)
    input: str = ""
    reference: str = ""
    category: str = "other"
    difficulty: str = ""
    scope: Scope | None = None
    checks: tuple[Check, ...] = ()

    @field_validator("id", mode="before")
    @classmethod
    def _numbers_are_ids(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return value or None  # an empty cell

    @field_validator("prompt")
    @classmethod
    def _asks_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is blank")
        return value

    @field_validator("input", "reference", "difficulty", mode="before")
    @classmethod
    def _absent_is_empty(cls, value: object) -> object:
        return "" if value is None else value

    @field_validator("category", mode="before")
    @classmethod
    def _absent_is_other(cls, value: object) -> object:
        return value or "other"

    @field_validator("checks", mode="before")
    @classmethod
    def _check_checks(cls, value: object) -> object:
        if isinstance(value, str):  # a cell of a table
            try:
                value = load_yaml(value)
            except yaml.YAMLError as error:
                raise ValueError(f"`checks` is not valid YAML: {str(error).splitlines()[0]}") from None
        if not value:
            return ()
        if not isinstance(value, list | tuple):
            raise ValueError("`checks` is a list")
        return tuple(parse_check(check) for check in value)
