"""The one renderer of prompts of a profile: training, base, few-shot and tuned all go through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2

from harness.errors import UsageError
from harness.model.checkpoint import first_line
from harness.storage.cache import content_key
from harness.types import Task, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
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

        Of those the tokenizer's end token is left out, which some put behind every text: the answer is to follow.
        """
        text = self.text(task, examples)
        plain = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.chat:
            return plain
        return _without_end(list(self.tokenizer(text)["input_ids"]), plain, self.tokenizer.eos_token_id)

    def answer_tokens(self, reference: str) -> list[int]:
        """Return the token ids of an answer with the end token, as training teaches it after `tokens(task)`.

        Raises:
            UsageError: the tokenizer names no end token.
        """
        if self.tokenizer.eos_token_id is None:
            raise UsageError("the tokenizer names no end token, so no answer could end", "set its eos_token")
        ids = self.tokenizer(reference.strip(), add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]


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
    answered = [task for task in train if task.reference and not task.input] or list(train)
    lengths = sorted(len(task.reference) for task in answered)
    median = lengths[len(lengths) // 2]
    by_typicality = sorted(answered, key=lambda task: (abs(len(task.reference) - median), task.prompt_sha))
    chosen: list[Task] = []
    for task in [*_one_of_each_category(by_typicality), *by_typicality]:
        if task not in chosen:
            chosen.append(task)
        if len(chosen) == count:
            break
    return tuple(chosen)


def _one_of_each_category(tasks: Sequence[Task]) -> list[Task]:
    first: dict[str, Task] = {}
    for task in tasks:
        first.setdefault(task.category, task)
    return [first[category] for category in sorted(first, key=sha256)]
