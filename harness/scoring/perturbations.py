"""Answers made worse on purpose, each in one way: what a metric must not prefer to the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle

from harness.types import FinishReason, Task

PERTURBATIONS: Mapping[str, str] = {
    "truncated": "cut off after 60 % of its characters",
    "unclosed": "one end tag left out",
    "swapped": "two end tags exchanged",
    "emptied": "nothing at all",
    "hollow": "nothing left in the body",
    "text-replaced": "every word another one",
    "wrong-task": "the reference of another task",
    "prose-around": "chatter before and after",
}
"""The perturbations and what was done to each."""

RESTYLED: Mapping[str, tuple[str, str]] = {
    "shifted": ("all moved by 3 px", "body{position:relative;left:3px;top:3px}"),
    "recoloured": ("all text in another colour", "body *{color:#b00020!important}"),
    "resized": ("all a quarter larger", "body{zoom:1.25}"),
}
"""Pages that say the same and look a little different: by name what was done, and the style sheet that does it."""

_KEPT_SHARE = 0.6
_NEEDS_END_TAG = (
    "a|abbr|article|aside|b|button|code|div|em|fieldset|footer|form|h[1-6]"
    "|header|i|label|main|nav|ol|section|select|small|span|strong|table|u|ul"
)
_END_TAG = re.compile(rf"</(?:{_NEEDS_END_TAG})\s*>", re.IGNORECASE)
_END_TAGS = re.compile(rf"</({_NEEDS_END_TAG})\s*>(\s*)</({_NEEDS_END_TAG})\s*>", re.IGNORECASE)
_BODY = re.compile(r"(<body[^>]*>)(.*)(</body\s*>)", re.IGNORECASE | re.DOTALL)
_END_OF_HEAD = re.compile(r"</head\s*>|<body\b", re.IGNORECASE)
_END_OF_BODY = re.compile(r"</body\s*>|</html\s*>", re.IGNORECASE)
_MARKUP = re.compile(r"(<(script|style)\b.*?</\2\s*>|<!--.*?-->|<[^>]*>)", re.IGNORECASE | re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]+")
_OTHER_WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit")


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One perturbed answer."""

    kind: str
    text: str
    finish_reason: FinishReason = "eos"


def perturbations(task: Task, other: Task | None) -> list[Perturbation]:
    """Return what can be made of the task's reference; `other` lends its own as the wrong task's."""
    text = task.reference
    made = [
        Perturbation("truncated", text[: int(len(text) * _KEPT_SHARE)], "length"),
        Perturbation("emptied", ""),
        Perturbation("prose-around", f"Sure! Here is the page you asked for:\n\n{text}\n\nI hope this helps."),
    ]
    candidates = {
        "unclosed": _END_TAG.sub("", text, count=1),
        "swapped": _swapped(text),
        "hollow": _BODY.sub(r"\1\3", text, count=1),
        "text-replaced": _text_replaced(text),
        "wrong-task": other.reference if other is not None else text,
    }
    return made + [Perturbation(kind, changed) for kind, changed in candidates.items() if changed != text]


def restyled(task: Task) -> list[Perturbation]:
    """Return the reference with each of the style sheets of `RESTYLED`: what only a visual metric is tried with."""
    return [Perturbation(kind, _with_style(task.reference, style)) for kind, (_, style) in RESTYLED.items()]


def _with_style(text: str, style: str) -> str:
    """Put a style sheet where the author's own come before it: at the end of the head, else of the text."""
    element = f"<style>{style}</style>"
    head = _END_OF_HEAD.search(text)
    place = head.start() if head else (end.start() if (end := _END_OF_BODY.search(text)) else len(text))
    return text[:place] + element + text[place:]


def _swapped(text: str) -> str:
    position = 0
    while (match := _END_TAGS.search(text, position)) is not None:
        if match[1].lower() != match[3].lower():
            return f"{text[: match.start()]}</{match[3]}>{match[2]}</{match[1]}>{text[match.end() :]}"
        position = match.start() + 1
    return text


def _text_replaced(text: str) -> str:
    words = cycle(_OTHER_WORDS)
    parts = _MARKUP.split(text)
    # `split` gives text, markup, name of script or style, text, ...
    for index in range(0, len(parts), 3):
        parts[index] = _LETTERS.sub(lambda _: next(words), parts[index])
    return "".join(part for index, part in enumerate(parts) if index % 3 != 2)
