"""What servers of OpenAI's protocol reply: contents, finish reasons, refusals; whole or as a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.answer import page_end
from harness.types import Answer, FinishReason

_WORDS: dict[FinishReason, str] = {
    "eos": """stop eos eos_token eot end end_turn end_of_turn stop_sequence stop_token stop_str complete completed
        finished""",
    "length": """length max_tokens max_token max_length max_new_tokens max_output_tokens max_completion_tokens
        model_length model_context_window_exceeded context_length context_length_exceeded token_limit incomplete
        limit""",
    "loop": "loop repetition",
    "error": """error content_filter content_filtered safety recitation refusal prohibited_content blocklist spii
        sensitive error_toxic abort aborted cancel cancelled canceled failed timeout network_error
        insufficient_system_resource malformed_function_call guardrail_intervened""",
}
FINISH_WORDS: dict[str, FinishReason] = {word: ours for ours, words in _WORDS.items() for word in words.split()}
TOOL_WORDS = frozenset({"tool_calls", "tool_call", "function_call", "tool_use"})
_TEXT_PARTS = frozenset({"text", "output_text", None})


class NoReplyError(ValueError):
    """What came is no completion, or was broken off."""


class ServerError(Exception):
    """An error that came in the place of a completion, though with a status of success."""

    def __init__(self, said: str, status: int | None) -> None:
        super().__init__(said)
        self.status = status


def finish(word: str | None, *, closed: bool) -> tuple[FinishReason, str]:
    """Return our finish reason for a server's word, and a note where they do not mean the same.

    Args:
        word: In any case, as `length`, `MAX_TOKENS` or `model_length`; None where the server says nothing.
        closed: The answer's page ends by its `</html>`.
    """
    known = (word or "").strip().lower()
    ours = FINISH_WORDS.get(known)
    if ours == "error":
        filtered = "filter" in known or known in ("safety", "sensitive", "refusal", "error_toxic")
        return "error", "the server's filter ended the answer" if filtered else f"the server ended it by '{word}'"
    if closed:
        return "stop", ""
    if ours is not None:
        return ours, ""
    if not known:
        return "eos", "the server does not say how the answer ended"
    return "eos", f"the server ended it by '{word}'"


def refused(answer: Answer) -> bool:
    """Return whether the server has nothing to say to this row, now or ever."""
    return answer.finish_reason == "error" and not answer.text and not answer.unanswered


def text_of(content: object) -> str | None:
    """Return the text of a message's content, parts joined and thinking parts left out; None where there is no text."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        content = content["parts"] if isinstance(content.get("parts"), list) else [content]
    if not isinstance(content, list):
        return None
    found = [part if isinstance(part, str) else _part(part) for part in content]
    texts = [text for text in found if text is not None]
    return "".join(texts) if texts else None


def _part(part: object) -> str | None:
    if not isinstance(part, Mapping) or part.get("type") not in _TEXT_PARTS or part.get("thought") is True:
        return None
    text = part.get("text")
    if isinstance(text, Mapping):
        text = text.get("value")
    return text if isinstance(text, str) else None


def read_reply(content: object, seconds: float) -> Answer:
    """Return what a whole reply says, cut behind the page's `</html>` where our own decoding ends.

    Raises:
        NoReplyError: it is no completion.
        ServerError: it is an error.
    """
    if not isinstance(content, Mapping):
        raise NoReplyError("it is no object")
    _no_error(content)
    choices = content.get("choices")
    if not isinstance(choices, list):
        raise NoReplyError("it has no choices")
    usage = content.get("usage")
    prompt, completion = (
        int((usage.get(f"{side}_tokens") if isinstance(usage, Mapping) else None) or 0)
        for side in ("prompt", "completion")
    )
    empty = Answer("", "error", prompt, completion, seconds, "the server's reply holds no choice")
    if not choices:
        return empty
    choice = choices[0]
    if not isinstance(choice, Mapping):
        raise NoReplyError("its choice is no object")
    _no_error(choice)
    word = choice.get("finish_reason")
    word = word if isinstance(word, str) else None
    message = choice.get("message", choice.get("delta"))
    if isinstance(message, Mapping):
        text, said = text_of(message.get("content")), message.get("refusal")
    else:
        text, said = text_of(choice.get("text", message)), None
    if text is not None or FINISH_WORDS.get((word or "").lower()) == "length":
        text = text or ""  # a limit that was reached within the thoughts is the model's own
        end = page_end(text)
        reason, note = finish(word, closed=end is not None)
        return Answer(text[:end], reason, prompt, completion, seconds, note)
    if isinstance(said, str) and said:
        why = f"the model refuses: {said}"
    elif FINISH_WORDS.get((word or "").lower()) == "error":
        why = finish(word, closed=False)[1]
    else:
        tools = (word or "").lower() in TOOL_WORDS
        why = "the model called a tool instead of answering" if tools else "the server's message has no content"
    return replace(empty, note=f"{why:.300}")


def read_events(lines: Iterable[str], seconds: float) -> Answer:
    """Return what a stream of server-sent events says, put together.

    Raises:
        NoReplyError: it is no completion, or broke off.
        ServerError: an error came instead.
    """
    texts: list[str] = []
    word, usage, refusal = None, None, ""
    done = seen = chosen = False
    for event in _events(lines):
        if event.strip() == "[DONE]":
            done = True
            break
        try:
            content = json.loads(event)
        except ValueError as error:
            raise NoReplyError(f"an event of its stream is not JSON: {event[:80]!r}") from error
        if not isinstance(content, Mapping):
            raise NoReplyError(f"an event of its stream is no object: {event[:80]!r}")
        _no_error(content)
        seen = True
        usage = content.get("usage") or usage
        for choice in (content.get("choices") or [])[:1]:
            chosen = True
            _no_error(choice)
            delta = choice.get("delta", choice.get("message"))
            piece = text_of(delta.get("content")) if isinstance(delta, Mapping) else text_of(choice.get("text"))
            if piece is not None:
                texts.append(piece)
            if isinstance(delta, Mapping) and isinstance(delta.get("refusal"), str):
                refusal += delta["refusal"]
            word = choice.get("finish_reason") or word
    if not seen or (not done and word is None):
        raise NoReplyError("its stream broke off" if seen else "its stream is empty")
    message = {"content": "".join(texts) if texts else None, "refusal": refusal}
    choices = [{"message": message, "finish_reason": word}] if chosen else []
    return read_reply({"choices": choices, "usage": usage}, seconds)


def _events(lines: Iterable[str]) -> Iterable[str]:
    """The data of server-sent events; comments and other fields are passed over."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _no_error(content: object) -> None:
    error = content.get("error") if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not error:
        return
    code = error.get("code") if isinstance(error, Mapping) else None
    status = next((int(str(one)) for one in (code, content.get("status")) if str(one).isdigit()), None)
    said = str(error.get("message") or error) if isinstance(error, Mapping) else str(error)
    if status is None and any(word in f"{code} {said}".lower() for word in ("rate_limit", "rate limit", "overloaded")):
        status = 429
    raise ServerError(said, status)
