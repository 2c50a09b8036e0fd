"""Rows that hold conversations: `messages`, ShareGPT's `conversations`, lists of messages as prompt and completion.

The last answer is the task's reference; what came before it is the prompt: a system turn first, then, where there were
earlier turns, each under the name of its speaker, the request last.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from harness.errors import UsageError
from harness.suite.values import as_json

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
"""Columns that hold a whole conversation, by the names they have."""

_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_HEADINGS = {"user": "User", "assistant": "Assistant"}
_SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")

Turn = tuple[str, str]
"""Who speaks (`system`, `user` or `assistant`), and what."""


def plain_row(values: Mapping[str, JsonValue], place: str) -> tuple[dict[str, JsonValue], str]:
    """Return a row without conversations, and the column that held a whole one ("" if none).

    A whole conversation becomes the columns `prompt` and `reference`; other lists of messages become texts, of a list
    that ends with an answer that answer.

    Raises:
        UsageError: a turn is neither of system, user nor assistant, holds more than text, or nobody asks anything.
    """
    row = dict(values)
    whole = next((name for name in row if str(name).lower() in CONVERSATIONS and _messages(row[name])), "")
    if whole:
        turns = _turns(_messages(row.pop(whole)), f"{place}: {whole}")
        told = next((text for name in _SYSTEM_COLUMNS if isinstance(text := row.get(name), str) and text), "")
        if told and turns[0][0] != "system":
            turns.insert(0, ("system", told))
        row["prompt"], row["reference"] = _asked_and_answered(turns, f"{place}: {whole}")
        return row, whole
    for name in list(row):
        messages = _messages(row[name])
        if not messages:
            continue
        turns = _turns(messages, f"{place}: {name}")
        if all(speaker == "assistant" for speaker, _ in turns):
            row[name] = turns[-1][1]
            continue
        asked, answer = _asked_and_answered(turns, f"{place}: {name}")
        row[name] = answer or asked
        if answer and not row.get("prompt"):
            row["prompt"] = asked
    return row, ""


def _messages(value: JsonValue) -> Sequence[Mapping[str, JsonValue]]:
    """Return a list of messages, nothing where the value is none.

    A cell of a table may hold one as JSON or as Python writes it, a columnar file as an object of lists.
    """
    if isinstance(value, str):
        value = _written_list(value)
    elif isinstance(value, dict):
        value = _transposed(value)
    if not isinstance(value, list) or not value:
        return ()
    found = [one for one in value if isinstance(one, dict) and ("role" in one or "from" in one)]
    return found if len(found) == len(value) else ()


def _written_list(text: str) -> JsonValue:
    if not re.match(r"\s*\[\s*\{", text):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return as_json(parse(text))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _transposed(columns: Mapping[str, JsonValue]) -> JsonValue:
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    if not lists or len(lists) < len(columns) or len({len(values) for values in lists.values()}) > 1:
        return None
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _turns(messages: Sequence[Mapping[str, JsonValue]], place: str) -> list[Turn]:
    turns = []
    for message in messages:
        said = message.get("role") or message.get("from")
        speaker = _SPEAKERS.get(str(said).lower())
        if speaker is None:
            raise UsageError(f"{place}: '{said}' speaks, and only system, user and assistant can", "leave the row out")
        content = next((message[key] for key in ("content", "value", "text") if message.get(key) is not None), None)
        turns.append((speaker, _text(content, place)))
    return turns


def _text(content: JsonValue, place: str) -> str:
    if content is None:
        return ""
    if isinstance(content, list):  # parts, as multimodal models take them
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        written = [text for text in texts if isinstance(text, str)]
        if len(written) < len(texts):
            raise UsageError(f"{place}: a message holds more than text", "leave the row out")
        content = "".join(written)
    if not isinstance(content, str):
        raise UsageError(f"{place}: a message's content is no text", "leave the row out")
    return content


def _asked_and_answered(turns: Sequence[Turn], place: str) -> tuple[str, str]:
    """Return the prompt and the last answer, empty where nobody answers; what is asked behind it is left out."""
    last = max((number for number, (speaker, _) in enumerate(turns) if speaker == "assistant"), default=None)
    answer = "" if last is None else turns[last][1]
    before = turns if last is None else turns[:last]
    system = [text for speaker, text in before if speaker == "system" and text]
    talk = [turn for turn in before if turn[0] != "system"]
    if not any(speaker == "user" and text.strip() for speaker, text in talk):
        raise UsageError(f"{place}: no user asks anything before the answer", "leave the row out")
    alone = len(talk) == 1
    said = [text if alone else f"{_HEADINGS[speaker]}:\n{text}" for speaker, text in talk]
    return "\n\n".join([*system, *said]), answer
