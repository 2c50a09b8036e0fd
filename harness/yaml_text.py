"""Reads YAML as a person means it.

PyYAML follows YAML 1.1, where `2e-4` is a text, `010` is eight, `1:30` is ninety and `2024-01-01` a date. Here numbers
are those of YAML 1.2's core schema (with 1_000 for a thousand, as before); dates, times and numbers with leading
zeros, which are names more often than amounts, stay the text they are.
"""

from __future__ import annotations

import re
from typing import IO, Any

import yaml

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+|0b[01]+)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)


class _Loader(_Base):  # type: ignore[misc]  # the C loader where there is one, else Python's
    """The safe loader with other numbers."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def _int(_loader: Any, node: yaml.ScalarNode) -> int | str:
    text = node.value.replace("_", "")
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    try:
        return sign * int(digits, 0)
    except ValueError:  # thousands of digits
        return str(node.value)


def _float(_loader: Any, node: yaml.ScalarNode) -> float | int:
    text = node.value.replace("_", "").lower()
    if text.endswith((".inf", ".nan")):
        text = text.replace(".", "")
    value = float(text)
    # 1e3 is a thousand, also where a whole number is asked for; 1.0e3 says by its point that it is none
    return int(value) if "." not in text and value.is_integer() and abs(value) < 2**53 else value


for _tag, _pattern, _reader in ((_NUMBERS[0], _INT, _int), (_NUMBERS[1], _FLOAT, _float)):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern.pattern})\Z"), list("-+.0123456789"))
    _Loader.add_constructor(_tag, _reader)


def load_yaml(source: str | IO[str]) -> Any:
    """Return the content of a YAML document.

    Raises:
        yaml.YAMLError: it is not valid YAML.
    """
    return yaml.load(source, Loader=_Loader)
