"""Reads the checks of a data file, and says on one line what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

import yaml
from pydantic import Field, JsonValue, ValidationError

from harness.checks.words import (
    ACTIONS,
    EXPECTATIONS,
    KINDS,
    ROLES,
    Attribute,
    Check,
    Count,
    Entry,
    Key,
    Level,
    Locator,
    Step,
    Style,
    Value,
    Words,
    compiled,
    for_browsers,
)
from harness.errors import did_you_mean

_Model = TypeVar("_Model", bound=Words)

_MODELS: Final[dict[str, type[Locator]]] = {
    "see": Locator,
    "not_see": Locator,
    "count": Count,
    "attribute": Attribute,
    "style": Style,
    "value": Value,
    "fill": Entry,
    "click": Locator,
    "press": Key,
    "select": Entry,
}


class _Written(Words):
    """A check in a file: why, how much it matters, and exactly one kind."""

    why: Annotated[str, Field(min_length=1)]
    level: Level
    see: JsonValue = None
    not_see: JsonValue = None
    count: JsonValue = None
    attribute: JsonValue = None
    style: JsonValue = None
    value: JsonValue = None
    aria: JsonValue = None
    steps: JsonValue = None


def parse_check(mapping: object) -> Check:
    """Return the check of a data file.

    Raises:
        ValueError: what is wrong and where, on one line: an unknown key with the nearest known one, a regular
            expression that does not compile, a locator that can find nothing.
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"a check is a mapping with why, level and one of {', '.join(KINDS)}; here: {mapping!r}")
    check = _validate(_Written, mapping, "check")
    kinds = [kind for kind in KINDS if kind in mapping]
    if len(kinds) != 1:
        said = " and ".join(kinds) if kinds else "none"
        raise ValueError(f"a check has exactly one of {', '.join(KINDS)}; here: {said}")
    kind = kinds[0]
    if kind == "steps":
        return Check(check.why, check.level, _steps(mapping["steps"]), acts=True)
    return Check(check.why, check.level, (Step(kind, _words(kind, mapping[kind], kind)),))


def _steps(steps: JsonValue) -> tuple[Step, ...]:
    if not isinstance(steps, list) or not steps:
        raise ValueError("steps is a list of actions and of what is then to be seen")
    known = (*ACTIONS, *EXPECTATIONS)
    parsed: list[Step] = []
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict) or len(step) != 1:
            raise ValueError(f"step {number} is not one of {', '.join(known)} with its words: {step!r}")
        ((kind, words),) = step.items()
        if kind not in known:
            raise ValueError(f"step {number}: unknown '{kind}': {did_you_mean(str(kind), known)}")
        parsed.append(Step(kind, _words(kind, words, f"step {number}, {kind}")))
    if parsed[-1].kind in ACTIONS:
        raise ValueError(f"steps ends with what is then to be seen, not with {parsed[-1].kind}")
    return tuple(parsed)


def _words(kind: str, words: JsonValue, place: str) -> Locator | str:
    if kind == "aria":
        return _aria(words)
    if not isinstance(words, Mapping):
        raise ValueError(f"{place}: expected a locator such as {{role: button, name: Send}}, not {words!r}")
    return _validate(_MODELS[kind], words, place)


def _aria(template: JsonValue) -> str:
    """Check the outline of an ARIA snapshot template; the browser reads the rest."""
    if not isinstance(template, str) or not template.strip():
        raise ValueError("aria is a template such as '- heading \"Menu\" [level=1]'")
    flagged = re.search(r"(?:^|[\s:])(/(?:[^/\n\\]|\\.)+/[a-z]+)(?=$|[\s:\[])", template, re.MULTILINE)
    if flagged:
        raise ValueError(f"aria: {flagged[1]} has a flag, with which Playwright silently never matches; use [Aa]bc")
    try:
        tree = yaml.safe_load(template)
    except yaml.YAMLError as error:
        raise ValueError(f"aria is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, list):
        raise ValueError("aria is a list: each line begins with '- '")
    _aria_nodes(tree)
    return template


def _aria_nodes(nodes: object) -> None:
    for node in nodes if isinstance(nodes, list) else [nodes]:
        if isinstance(node, list):
            raise ValueError("aria: a list directly inside a list")
        for head, inside in node.items() if isinstance(node, Mapping) else [(node, None)]:
            text = str(head)
            if text.startswith("/"):
                continue  # /children: equal, /url: ...
            role = re.match(r"[\w-]+", text)
            if role is None or (role[0] not in ROLES and role[0] not in ("text", "iframe")):
                named = role[0] if role else text
                raise ValueError(f"aria: unknown role '{named}': {did_you_mean(named, ROLES)}")
            for source in re.findall(r"(?<=\s)/((?:[^/\\]|\\.)+)/(?=$|[\s\[])", text):
                compiled(source)
                for_browsers(source)
            if isinstance(inside, list):
                _aria_nodes(inside)


def _validate(model: type[_Model], words: Mapping[str, JsonValue], place: str) -> _Model:
    try:
        return model.model_validate(dict(words))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place}: {where + ': ' if where else ''}{message}") from None
