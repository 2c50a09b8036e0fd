"""The words in which a task says what its prompt asked for, and their validation when a suite is loaded.

Running them is the renderer's work (`harness.render.checks`); docs/checks.md explains them to authors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from harness.errors import did_you_mean
from harness.storage.yaml import YamlModel

LOCATORS: Final = ("role", "label", "placeholder", "text", "test_id", "css")
KINDS: Final = ("see", "not_see", "count", "attribute", "style", "value", "aria", "steps")
ACTIONS: Final = ("fill", "click", "press", "select")
EXPECTATIONS: Final = tuple(kind for kind in KINDS if kind != "steps")

# fmt: off
ROLES: Final = frozenset(
    (
        "alert", "alertdialog", "application", "article", "banner", "blockquote", "button", "caption", "cell",
        "checkbox", "code", "columnheader", "combobox", "complementary", "contentinfo", "definition", "deletion",
        "dialog", "directory", "document", "emphasis", "feed", "figure", "form", "generic", "grid", "gridcell",
        "group", "heading", "img", "insertion", "link", "list", "listbox", "listitem", "log", "main", "marquee",
        "math", "menu", "menubar", "menuitem", "menuitemcheckbox", "menuitemradio", "meter", "navigation", "none",
        "note", "option", "paragraph", "presentation", "progressbar", "radio", "radiogroup", "region", "row",
        "rowgroup", "rowheader", "scrollbar", "search", "searchbox", "separator", "slider", "spinbutton", "status",
        "strong", "subscript", "superscript", "switch", "tab", "table", "tablist", "tabpanel", "term", "textbox",
        "time", "timer", "toolbar", "tooltip", "tree", "treegrid", "treeitem",
    )
)
# fmt: on
"""The ARIA roles that Playwright's `get_by_role` knows."""

_DELIMITED = re.compile(r"/(.*)/([a-z]*)", re.DOTALL)
Scalar = str | int | float | bool
_Model = TypeVar("_Model", bound="_Words")


def as_pattern(text: str) -> str | re.Pattern[str]:
    """Return `/.../` and `/.../i` as a compiled pattern, anything else as it is.

    Raises:
        ValueError: the pattern does not compile, or carries another flag than `i`.
    """
    found = _DELIMITED.fullmatch(text)
    if found is None:
        return text
    if found[2] not in ("", "i"):
        raise ValueError(f"the regular expression {text} has the flag(s) '{found[2]}': only i is known")
    return _compile(found[1], re.IGNORECASE if found[2] else re.NOFLAG)


def regex(text: str) -> re.Pattern[str]:
    """Return the pattern of a `matches:`, which may stand with or without slashes."""
    pattern = as_pattern(text)
    return _compile(pattern) if isinstance(pattern, str) else pattern


def _compile(source: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    try:
        return re.compile(source, flags)
    except re.error as error:
        raise ValueError(f"the regular expression {source!r} is wrong: {error}") from None


class _Words(YamlModel):
    """A mapping whose keys are all known; an unknown one is named with the nearest that is."""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: object) -> object:
        if isinstance(values, Mapping):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            for key in values:
                if key not in known:
                    raise ValueError(f"unknown key '{key}': {did_you_mean(str(key), known)}")
        return values


class Locator(_Words):
    """What is meant on the page: exactly one of role, label, placeholder, text, test_id and css."""

    role: str | None = None
    name: str | None = None
    level: Annotated[int, Field(ge=1, le=6)] | None = None
    label: str | None = None
    placeholder: str | None = None
    text: str | None = None
    test_id: str | None = None
    css: str | None = None
    exact: bool | None = None
    has_text: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> Locator:
        given = [key for key in LOCATORS if getattr(self, key) is not None]
        if len(given) != 1:
            said = " and ".join(given) if given else "none"
            raise ValueError(f"a locator takes exactly one of {', '.join(LOCATORS)}; here: {said}")
        if not getattr(self, given[0]):
            raise ValueError(f"the locator's {given[0]} is empty")
        if self.role is not None and self.role not in ROLES:
            raise ValueError(f"unknown role '{self.role}': {did_you_mean(self.role, ROLES)}")
        for key in ("name", "level"):
            if getattr(self, key) is not None and self.role is None:
                raise ValueError(f"'{key}' belongs to a role, this locator has {given[0]}")
        if self.exact is not None and given[0] in ("test_id", "css"):
            raise ValueError(f"'exact' has no meaning for {given[0]}")
        for key in ("name", "label", "placeholder", "text", "has_text"):
            text = getattr(self, key)
            if text is not None:
                pattern = as_pattern(text)
                if self.exact and not isinstance(pattern, str):
                    raise ValueError(f"'exact' has no meaning for the regular expression {text}")
        if self.css is not None:
            _css(self.css)
        return self


def _css(selector: str) -> None:
    """Refuse what can't be a CSS selector: another engine's words, and brackets or quotes without their partner."""
    if re.match(r"\s*(?://|\.\.|\w+=)", selector) or ">>" in selector:
        raise ValueError(f"css {selector!r} is no CSS selector")
    bare = re.sub(r"\\.", "", selector)
    bare = re.sub(r'"[^"]*"|\'[^\']*\'', "", bare)
    if '"' in bare or "'" in bare:
        raise ValueError(f"css {selector!r} has a quote without its partner")
    open_brackets: list[str] = []
    for character in bare:
        if character in "([":
            open_brackets.append(character)
        elif character in ")]" and (not open_brackets or open_brackets.pop() + character not in ("()", "[]")):
            raise ValueError(f"css {selector!r} has a bracket without its partner")
    if open_brackets:
        raise ValueError(f"css {selector!r} has a bracket without its partner")
    if re.search(r"^\s*[>+~,]|[>+~,]\s*$|[>+~,]\s*,|,\s*[>+~]", re.sub(r"\([^()]*\)", "()", bare)):
        raise ValueError(f"css {selector!r} begins, ends or goes on with a combinator that joins nothing")


class Compared(Locator):
    """A locator and what its value must be."""

    is_: Scalar | None = Field(default=None, alias="is")
    matches: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _comparable(self) -> Compared:
        if self.is_ is not None and (self.matches, self.at_least, self.at_most) != (None, None, None):
            raise ValueError("'is' leaves no room for matches, at_least or at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"nothing is at least {self.at_least:g} and at most {self.at_most:g}")
        if self.matches is not None:
            regex(self.matches)
        return self

    @property
    def compares(self) -> bool:
        """Whether anything is asked of the value."""
        return (self.is_, self.matches, self.at_least, self.at_most) != (None, None, None, None)


class Count(Compared):
    """How many elements a locator finds."""

    matches: None = None

    @model_validator(mode="after")
    def _a_number(self) -> Count:
        if not self.compares:
            raise ValueError("count needs is, at_least or at_most")
        if self.is_ is not None and (isinstance(self.is_, bool) or not isinstance(self.is_, int)):
            raise ValueError(f"count is a whole number, not {self.is_!r}")
        return self


class Attribute(Compared):
    """An attribute of the first match; without a comparison it only has to be there."""

    attribute: Annotated[str, Field(min_length=1)]


class Style(Compared):
    """A computed style of the first match; colours read `rgb(255, 0, 0)`."""

    property: Annotated[str, Field(pattern=r"^-{0,2}[a-zA-Z][\w-]*$")]

    @model_validator(mode="after")
    def _asked(self) -> Style:
        if not self.compares:
            raise ValueError("style needs is, matches, at_least or at_most")
        if re.search(r"[A-Z]", self.property) and not self.property.startswith("--"):
            raise ValueError(f"'{self.property}' is written with hyphens in CSS")
        return self


class Value(Compared):
    """The value of the first matching form control."""

    @model_validator(mode="after")
    def _asked(self) -> Value:
        if not self.compares:
            raise ValueError("value needs is, matches, at_least or at_most")
        return self


class Entry(Locator):
    """A control and what to put into it, for fill and select."""

    value: Scalar


class Key(Locator):
    """An element and the key to press on it, in Playwright's names: Enter, ArrowDown, Control+a."""

    key: Annotated[str, Field(min_length=1)]


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


class Check(_Words):
    """One thing that the prompt asked for: why, how much it matters, and exactly one kind."""

    why: Annotated[str, Field(min_length=1)]
    level: Literal["must", "should"]
    see: JsonValue = None
    not_see: JsonValue = None
    count: JsonValue = None
    attribute: JsonValue = None
    style: JsonValue = None
    value: JsonValue = None
    aria: JsonValue = None
    steps: JsonValue = None


def parse_check(mapping: object) -> dict[str, JsonValue]:
    """Return the check as a plain mapping of validated words, in the shape in which it was written.

    Raises:
        ValueError: what is wrong and where, on one line: an unknown key with the nearest known one, a regular
            expression that does not compile, a locator that can find nothing.
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"a check is a mapping with why, level and one of {', '.join(KINDS)}; here: {mapping!r}")
    check = _validate(Check, mapping, "check")
    kinds = [kind for kind in KINDS if kind in mapping]
    if len(kinds) != 1:
        said = " and ".join(kinds) if kinds else "none"
        raise ValueError(f"a check has exactly one of {', '.join(KINDS)}; here: {said}")
    kind = kinds[0]
    parsed = _steps(mapping["steps"]) if kind == "steps" else _kind(kind, mapping[kind], kind)
    return {"why": check.why, "level": check.level, kind: parsed}


def _steps(steps: JsonValue) -> list[JsonValue]:
    if not isinstance(steps, list) or not steps:
        raise ValueError("steps is a list of actions and of what is then to be seen")
    known = (*ACTIONS, *EXPECTATIONS)
    kinds: list[str] = []
    parsed: list[JsonValue] = []
    for number, step in enumerate(steps, 1):
        if not isinstance(step, dict) or len(step) != 1:
            raise ValueError(f"step {number} is not one of {', '.join(known)} with its words: {step!r}")
        ((kind, words),) = step.items()
        if kind not in known:
            raise ValueError(f"step {number}: unknown '{kind}': {did_you_mean(str(kind), known)}")
        parsed.append({kind: _kind(kind, words, f"step {number}, {kind}")})
        kinds.append(kind)
    if kinds[-1] in ACTIONS:
        raise ValueError(f"steps ends with what is then to be seen, not with {kinds[-1]}")
    return parsed


def _kind(kind: str, words: JsonValue, place: str) -> JsonValue:
    if kind == "aria":
        return _aria(words)
    if not isinstance(words, Mapping):
        raise ValueError(f"{place}: expected a locator such as {{role: button, name: Send}}, not {words!r}")
    model = _validate(_MODELS[kind], words, place)
    parsed: dict[str, JsonValue] = model.model_dump(by_alias=True, exclude_none=True)
    return parsed


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
                _compile(source)
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
