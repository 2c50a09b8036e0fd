"""The one renderer of prompts of a profile: training, base, few-shot and tuned all go through it."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import jinja2

from harness.answer import thought_end
from harness.answer.marks import THOUGHTS
from harness.errors import UsageError
from harness.model.checkpoint import first_line
from harness.storage.cache import content_key
from harness.types import Task, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TODAY = datetime(2024, 7, 26)
"""What chat templates that write the date are told: Llama 3.1's own does without a clock. A prompt that changed at
midnight would be another one for the models, samples and trainings that come after it."""
_DIRECTIVES = "aAbBdejHIMSpyYmcxX"
_TAG = re.compile(r"</?([a-z]+)>")
"""Special tokens of some tokenizers that are tags of HTML or SVG: `<s>`, `<mask>`, `<image>`, `<video>`, `<audio>`."""
_AS_TEXT = {"split_special_tokens": True}


@dataclass(frozen=True)
class PromptRenderer:
    """Turns tasks into the exact text and tokens that a model is given."""

    template: str
    chat: bool
    tokenizer: PreTrainedTokenizerBase = None
    """None for a model behind a server, which has the tokenizer and the chat template."""

    @property
    def sha(self) -> str:
        """SHA-256 over everything here that shapes a prompt: the template and, for chat models, the chat template."""
        chat_template = str(self.tokenizer.chat_template) if self.chat and self.tokenizer is not None else ""
        return content_key([self.template, self.chat, chat_template])

    def user_turn(self, task: Task) -> str:
        """Return the request as a user would type it.

        Raises:
            UsageError: the profile's template is not valid Jinja.
        """
        try:
            environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
            return environment.from_string(self.template).render(prompt=task.prompt.strip(), input=task.input.strip())
        except jinja2.TemplateError as error:
            raise UsageError(
                f"the profile's prompt template is wrong: {error}", "it may use prompt and input"
            ) from error

    def text(self, task: Task, examples: Sequence[Task] = ()) -> str:
        """Return the whole prompt for a task, `examples` answered before it."""
        if not self.chat:
            shots = [f"{self.user_turn(example)}{example.reference.strip()}\n\n" for example in examples]
            return "".join([*shots, self.user_turn(task)])
        return self._through_chat_template(self.turns(task, examples))

    def _through_chat_template(self, turns: list[dict[str, str]]) -> str:
        """Return the conversation as the model's makers write it, with every turn in it.

        Raises:
            UsageError: the tokenizer has no template, several without a default, or one that does not take these turns.
        """
        templates = self.tokenizer.chat_template
        if not templates or (isinstance(templates, dict) and "default" not in templates):
            listed = f"has {', '.join(sorted(templates))} and no default" if templates else "has none"
            raise UsageError(
                f"`chat: true` needs the tokenizer's chat template, and it {listed}",
                "set `chat: false`, or put the one that is meant into chat_template.jinja",
            )
        try:
            text = self._applied(turns, tokenize=False)
        except Exception as error:  # a template raises whatever it likes
            raise UsageError(
                f"the tokenizer's chat template does not take turns of user and assistant: {first_line(error)}",
                "fix chat_template.jinja, or set `chat: false`",
            ) from error
        lost = [turn for turn in turns if turn["content"].strip() not in str(text)]
        if lost:
            raise UsageError(
                f"the tokenizer's chat template leaves out what the {lost[0]['role']} says",
                "fix chat_template.jinja, or set `chat: false`",
            )
        return str(text)

    def _applied(self, turns: list[dict[str, str]], **how: bool) -> str | list[int]:
        """Return the conversation through the tokenizer's chat template, on a day that does not change."""
        templates = self.tokenizer.chat_template
        template = templates["default"] if isinstance(templates, dict) else templates
        dated = _without_clock(template) if "strftime_now" in template else None
        applied: str | list[int] = self.tokenizer.apply_chat_template(
            turns, chat_template=dated, add_generation_prompt=True, **how
        )
        return applied

    def turns(self, task: Task, examples: Sequence[Task] = ()) -> list[dict[str, str]]:
        """Return the conversation that ends with a task's request, as a chat template or a server takes it."""
        answered = [
            turn
            for example in examples
            for turn in (
                {"role": "user", "content": self.user_turn(example)},
                {"role": "assistant", "content": example.reference.strip()},
            )
        ]
        return [*answered, {"role": "user", "content": self.user_turn(task)}]

    def tokens(self, task: Task, examples: Sequence[Task] = ()) -> list[int]:
        """Return the prompt's token ids; a chat template brings its own special tokens, plain text the tokenizer's.

        Of those the tokenizer's end token is left out, which some put behind every text: the answer is to follow. What
        people wrote is text, also where it reads like a special token, as HTML's `<s>` does with Llama's tokenizer; and
        a profile's own begin token takes the place of the tokenizer's.
        """
        text = self.text(task, examples)
        turns = self.turns(task, examples)
        tagged = any(self._tags_in(turn["content"]) for turn in turns)
        if self.chat:
            if tagged:
                with contextlib.suppress(ValueError):  # a tokenizer that writes a special token for plain text
                    ids = self._applied(turns, return_dict=False, sanitize_control_tokens=True)
                    return [int(number) for number in ids]
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        as_text = _AS_TEXT if tagged and not self._special_in(self.user_turn(Task("", ""))) else {}
        plain = list(self.tokenizer(text, add_special_tokens=False, **as_text)["input_ids"])
        begin = self.tokenizer.bos_token_id
        ids = _without_end(list(self.tokenizer(text, **as_text)["input_ids"]), plain, self.tokenizer.eos_token_id)
        if begin is not None and plain[:1] == [begin] and ids[:2] == [begin, begin]:
            return ids[1:]
        return ids

    def answer_tokens(self, reference: str, opened: str = "") -> list[int]:
        """Return the token ids of an answer with the end token, as training teaches it after `tokens(task)`.

        Args:
            reference: The answer.
            opened: The thought that the prompt leaves open (`harness.answer.thought_left_open`). It is closed first,
                unless the reference does so: else what is learnt would be a thought, and no page.

        Raises:
            UsageError: the tokenizer names no end token.
        """
        if self.tokenizer.eos_token_id is None:
            raise UsageError("the tokenizer names no end token, so no answer could end", "set its eos_token")
        end = thought_end(opened)
        text = reference.strip().removeprefix(opened.strip())
        closing = [] if end in text else self.tokenizer(f"{end}\n\n", add_special_tokens=False)["input_ids"]
        as_text = _AS_TEXT if self._tags_in(text) and not opened else {}
        ids = self.tokenizer(text, add_special_tokens=False, **as_text)["input_ids"]
        return [*closing, *ids, self.tokenizer.eos_token_id]

    def _special_in(self, text: str) -> bool:
        return any(token in text for token in self._special)

    def _tags_in(self, text: str) -> bool:
        """Return whether the tokenizer would read a tag in a text as a special token; an end tag alone is none."""
        return any(token in text and re.search(rf"<{name}[\s>]", text) for token, name in self._tags.items())

    @functools.cached_property
    def _tags(self) -> dict[str, str]:
        return {token: match[1] for token in self._special if (match := _TAG.fullmatch(token))}

    @functools.cached_property
    def _special(self) -> tuple[str, ...]:
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        return tuple(str(token) for token in added if token.special and str(token).strip("</>") not in THOUGHTS)


def _without_clock(template: str) -> str:
    """Return a chat template whose `strftime_now` says `_TODAY`; a function cannot be handed to it, a macro can."""
    said = [(f"%-{letter}", _TODAY.strftime(f"%{letter}").lstrip("0")) for letter in "dmHIMSj"]
    said += [(f"%{letter}", _TODAY.strftime(f"%{letter}")) for letter in _DIRECTIVES]
    replaced = "".join(f" | replace('{directive}', '{text or 0}')" for directive, text in said)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro %}}\n{template}"


def _without_end(ids: list[int], plain: list[int], end: int | None) -> list[int]:
    """Return the ids without what the tokenizer puts behind the text, whose own ids are `plain`."""
    for start in range(len(ids) - len(plain) + 1) if plain else ():
        if ids[start : start + len(plain)] == plain:
            return ids[: start + len(plain)]
    while ids and ids[-1] == end and plain[-1:] != [end]:  # behind a first token the same text may read otherwise
        ids = ids[:-1]
    return ids


def few_shot_examples(train: Sequence[Task], count: int) -> tuple[Task, ...]:
    """Return `count` training tasks to stand before a prompt: fixed, of different categories, of about median length.

    Only training rows are taken. The length keeps the prompt affordable and the examples typical; categories are taken
    in order of the hash of their name, so that nobody chose them for their effect.
    """
    if not train or count == 0:
        return ()
    answered = [task for task in train if task.reference and not task.input]
    answered = answered or [task for task in train if task.reference] or list(train)
    lengths = sorted(len(task.reference) for task in answered)
    median = lengths[len(lengths) // 2]
    by_typicality = sorted(answered, key=lambda task: (abs(len(task.reference) - median), task.prompt_sha))
    chosen: list[Task] = []
    for task in [*_one_of_each_category(by_typicality), *by_typicality]:
        if not any(task.prompt_sha == other.prompt_sha for other in chosen):  # the same row twice shows nothing new
            chosen.append(task)
        if len(chosen) == count:
            break
    return tuple(chosen)


def _one_of_each_category(tasks: Sequence[Task]) -> list[Task]:
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(task.category, task)
    return [first[category] for category in sorted(first, key=sha256)]
