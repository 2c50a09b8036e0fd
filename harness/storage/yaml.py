"""Reads YAML as a person means it.

PyYAML follows YAML 1.1, where `2e-4` is a text, `010` is eight, `1:30` is ninety and `2024-01-01` a date. Here numbers
are those of YAML 1.2's core schema (with 1_000 for a thousand, as before); dates, times and numbers with leading
zeros, which are names more often than amounts, stay the text they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO, Annotated, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from harness.errors import UsageError, did_you_mean

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(_Base):
    """The safe loader with other numbers, and no key twice: YAML forbids it, and the first would be lost in silence."""

    def __init__(self, stream: str | IO[str]) -> None:
        super().__init__(stream)
        self._flat: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys of `<<` in its place: those beside it overrule them, and of several mappings the first counts.

        PyYAML's own lets another one count in some versions. Each mapping that merges this one comes by here again.
        """
        if node in self._flat:
            return
        self._flat.add(node)
        written: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        merged: dict[object, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise yaml.constructor.ConstructorError(None, None, "<< wants a mapping", source.start_mark)
                    self.flatten_mapping(source)
                    for pair in source.value:
                        merged.setdefault(_known_by(pair[0]), pair)
                continue
            if _known_by(key) in written:
                problem = f"the key '{key.value}' stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            written[_known_by(key)] = key, value
        node.value = [*(merged | written).values()]
        super().flatten_mapping(node)


def _known_by(key: yaml.Node) -> object:
    """What two keys have in common that are one; `1` and `"1"` are not."""
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else key


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def _int(_loader: _Loader, node: yaml.ScalarNode) -> int | str:
    text = node.value.replace("_", "")
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    try:
        return sign * int(digits, 0)
    except ValueError:  # thousands of digits
        return str(node.value)


def _float(_loader: _Loader, node: yaml.ScalarNode) -> float | int:
    text = node.value.replace("_", "").lower()
    if text.endswith((".inf", ".nan")):
        text = text.replace(".", "")
    value = float(text)
    # 1e3 is a thousand, also where a whole number is asked for; 1.0e3 says by its point that it is none
    return int(value) if "." not in text and value.is_integer() and abs(value) < 2**53 else value


for _tag, _pattern, _reader in ((_NUMBERS[0], _INT, _int), (_NUMBERS[1], _FLOAT, _float)):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern.pattern})\Z"), list("-+.0123456789"))
    _Loader.add_constructor(_tag, _reader)


def load_yaml(source: str | IO[str]) -> object:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: it is not valid YAML.
    """
    return yaml.load(source, Loader=_Loader)


class YamlModel(BaseModel):
    """A mapping in a file that a person writes: no key that is not known, and `true` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: object, info: ValidationInfo[object]) -> object:
        if isinstance(value, bool) and info.field_name:
            kinds = _plain_types(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("a number is needed, not true or false")
        return value


def _plain_types(annotation: object) -> set[object]:
    """Return what an annotation such as `int | None` consists of."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        parts = parts[:1]
    return set().union(*map(_plain_types, parts)) if parts else {annotation}


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], content: object, place: str) -> Model:
    """Return `content` as `model`.

    Raises:
        UsageError: the first fault, in one line that names `place` and the key.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            hint = did_you_mean(str(fault["loc"][-1]), _known_keys(model, fault["loc"][:-1]))
            raise UsageError(f"{place}: there is no key '{key}'", hint) from None
        if fault["type"] in ("renamed_key", "removed_key"):
            raise UsageError(f"{place}: {key + ': ' if key else ''}{fault['msg']}", fault["ctx"]["hint"]) from None
        problem = fault["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{place}: {key + ': ' if key else ''}{problem}", f"see docs/suites.md; got {fault['input']!r:.60}"
        ) from None


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        inner = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def read_yaml(path: Path) -> object:
    """Return the content of a YAML file.

    Raises:
        UsageError: the file is missing or not YAML; the message names the line.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            return load_yaml(stream)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UsageError(f"{path}{where} is not valid YAML: {problem}", "quote texts that hold ': ' or '#'") from None
