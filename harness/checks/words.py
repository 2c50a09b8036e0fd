"""Task checks as types: what a locator and its comparison may say, in the words of Playwright."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, model_validator

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

_KEY_NAMES = "|".join(
    (
        r"F(?:[1-9]|1[0-2])", r"Digit\d", "Key[A-Z]", r"Numpad(?:\d|Add|Decimal|Divide|Enter|Multiply|Subtract)",
        "(?:Alt|Control|Meta|Shift)(?:Left|Right)?", "ControlOrMeta", "AltGraph", "Arrow(?:Down|Left|Right|Up)",
        "Page(?:Down|Up)", "Bracket(?:Left|Right)", "Enter", "Escape", "Tab", "Space", "Backspace", "Delete", "Insert",
        "Home", "End", "Backquote", "Backslash", "Comma", "Equal", "Minus", "Period", "Quote", "Semicolon", "Slash",
        "CapsLock", "NumLock", "ScrollLock", "ContextMenu", "Pause", "PrintScreen",
        "AudioVolume(?:Down|Mute|Up)", "MediaPlayPause", "MediaTrack(?:Next|Previous)",
    )
)  # fmt: skip
_KEY = re.compile(rf"(?:(?:{_KEY_NAMES})\+)*(?:{_KEY_NAMES}|[ -~])")
"""What Playwright's `press` knows."""
_PYTHON_ALONE = re.compile(r"\\[AZ]|\(\?(?:P|[aiLmsux]+\)|#|>|\()|[*+?}]\+|\[\^?\]")
_COLOUR = re.compile(r"(?!--)(?:.+-)?(?<!accent-)(?<!caret-)(?<!scrollbar-)color")
_DELIMITED = re.compile(r"/(.*)/([a-z]*)", re.DOTALL)
Scalar = str | int | float | bool
Level = Literal["must", "should"]


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
    return compiled(found[1], re.IGNORECASE if found[2] else re.NOFLAG)


def regex(text: str) -> re.Pattern[str]:
    """Return the pattern of a `matches:`, which may stand with or without slashes."""
    pattern = as_pattern(text)
    return compiled(pattern) if isinstance(pattern, str) else pattern


def compiled(source: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Return the pattern.

    Raises:
        ValueError: it does not compile.
    """
    try:
        return re.compile(source, flags)
    except re.error as error:
        raise ValueError(f"the regular expression {source!r} is wrong: {error}") from None


def for_browsers(source: str) -> None:
    """Refuse a pattern that Python reads otherwise than the browser, which searches names and texts with it.

    Raises:
        ValueError: something in it would make the browser never find anything.
    """
    bare = re.sub(r"\[(?!\^?\])(?:\\.|[^\]\\])*\]|\\[^AZ]", "_", source)
    found = _PYTHON_ALONE.search(bare)
    if found is not None:
        hint = "use ^, $ and the flag i" if re.match(r"\\|\(\?[a-zL]+\)", found[0]) else "write it without"
        raise ValueError(f"the regular expression {source!r} has {found[0]}, which browsers do not know: {hint}")


class Words(YamlModel):
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


class Locator(Words):
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
                if not isinstance(pattern, str):
                    for_browsers(pattern.pattern)
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
        colour = isinstance(self.is_, str) and _COLOUR.fullmatch(self.property) is not None
        if colour and re.fullmatch(r"#[0-9a-fA-F]+|[a-zA-Z]+|rgba?\([^ ]*\)", str(self.is_)):
            raise ValueError(f"a browser never computes the colour {self.is_!r}: write it as rgb(255, 0, 0)")
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

    @model_validator(mode="after")
    def _on_a_keyboard(self) -> Key:
        if _KEY.fullmatch(self.key) is None:
            raise ValueError(f"unknown key {self.key!r}: for example Enter, ArrowDown, a, Control+a")
        return self


@dataclass(frozen=True, slots=True)
class Step:
    """One action or one expectation: its kind, and its words (`aria`'s template is a text)."""

    kind: str
    words: Locator | str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the prompt asked for: why, how much it matters, and what is done and then to be seen."""

    why: str
    level: Level
    steps: tuple[Step, ...]
    acts: bool = False
    """Whether it was written as `steps`, which change the page and may wait for it; else it is one expectation."""
