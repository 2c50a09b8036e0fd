"""What models write around a page: names of thoughts, wrappers, special tokens and headings of prompts."""

from __future__ import annotations

import re


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


THOUGHTS = words("""think thinking thought thoughts reasoning reason reflection scratchpad analysis rationale plan
    planning cot inner_monologue inner_thoughts internal_thoughts chain_of_thought ant_thinking antthinking
    seed:think""")
"""Elements that hold a thought; none of them is an element of HTML, SVG or MathML."""

WRAPPERS = words("""answer final_answer final response solution result html_code artifact antartifact boltartifact
    boltaction lov-code lov-write dyad-write codeproject file files file_content create_file write_file write_to_file
    content assistant tool_call tool_calls tool_use function_calls function_call function invoke parameter
    antml:function_calls antml:invoke antml:parameter""")
"""Elements that hold the answer or a file of it, or the call of a tool that writes one, also as `<parameter=content>`.
A tag of any name directly before a doctype or `<html>` is one too."""

CDATA = "<![CDATA["
ANY_TAG = re.compile(r"<(/?)([a-z][^\s<>/`]*)(?=[\s/>]|\Z)", re.IGNORECASE)
SPECIAL_TOKEN = re.compile(r"<[|\uff5c]([^\s<>|\uff5c`]{1,40})[|\uff5c]?>|<([a-z_]{1,30})[|\uff5c]>", re.IGNORECASE)
"""`<|im_end|>` and its like, also `<|channel>` and `<channel|>`."""

BRACKETS = {"[THINK]": "[/THINK]", "\u25c1think\u25b7": "\u25c1/think\u25b7", "<unused94>": "<unused95>"}
"""Thoughts between marks that are no elements."""
BRACKET = re.compile("|".join(re.escape(mark) for pair in BRACKETS.items() for mark in pair), re.IGNORECASE)

_ENDS = re.compile(
    r"/s|eos|eo[tmd](?:_id)?|return|pad|im_end|end|end_?of_?(?:text|turn|sentence|message|box|solution|utterance)"
    r"|endoftext|endofprompt|end_of_turn_token|end_response|turn_end|call|turn"
)
TEXT_ENDS = frozenset({"end_of_turn", "eos", "endoftext", "pad", "end_of_utterance"})
"""End tokens that look like start tags, as `<end_of_turn>`; `</s>` is one where no `<s>` is open."""
TEXT_BEGINS = re.compile(r"<(?:bos>|start_of_turn>(?:model|assistant)?[ \t]*\r?\n?)", re.IGNORECASE)
"""Tokens before an answer that look like start tags; `<s>` is one where a page, a code block or a thought follows."""
_THOUGHT = re.compile(r"think|thought|reasoning|inner_prefix|inner_suffix")
_CLOSES = re.compile(r"end|stop|/|suffix")
_USER = re.compile(r"user|human|system|prompter")


def token_role(text: str, match: re.Match[str]) -> str:
    """Return what a special token of `text` does: `end`, `think`, `unthink`, `channel`, `user` or "" (nothing).

    A token that opens a turn tells by what follows whose turn it is.
    """
    name = (match[1] or match[2]).lower().replace("\u2581", "_")
    if name == "channel":
        return "unthink" if match[2] else "channel"
    if _THOUGHT.search(name):
        return "unthink" if _CLOSES.search(name) else "think"
    if _ENDS.fullmatch(name):
        # `<|turn>model` opens a turn, `<turn|>` ends it
        return (
            "user"
            if name == "turn" and not match[2] and _USER.match(text, match.end())
            else ("" if name == "turn" and not match[2] else "end")
        )
    if _USER.fullmatch(name):
        return "user"
    opens = name in ("im_start", "start", "start_header_id", "start_of_role", "start_of_turn")
    return "user" if opens and _USER.match(text, match.end()) else ""


_ANSWER = r"^#{1,4} *(?:response|output|answer|assistant|solution)\b:?"
_BEGIN = (
    r"\s*+(?:<(?:bos|s)>|<[|\uff5c](?:begin_of_text|startoftext|endoftext|begin\u2581of\u2581sentence)[|\uff5c]>)?+\s*+"
)
_USER_TOKEN = (
    r"<\|(?:user|system)\|>|<\|(?:im_start|start|start_of_role|start_header_id)\|>(?:user|system|developer)"
    r"|<\|START_OF_TURN_TOKEN\|><\|(?:USER|SYSTEM)_TOKEN\|>|<\uff5cUser\uff5c>"
)
_ASSISTANT_TOKEN = (
    r"<\|assistant\|>|<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|<\|start_of_role\|>assistant<\|end_of_role\|>|<\|start\|>assistant(?:<\|channel\|>final)?<\|message\|>"
    r"|<\|CHATBOT_TOKEN\|>|<\uff5cAssistant\uff5c>"
)
_ASSISTANT_LINE = r"^(?:assistant|model)[ \t]*+$|assistant[ \t]*+\n\s*+(?=<!doctype|<html|```|<think)"
_ECHOES = (
    (r"(?:below is an instruction|#{1,4} *(?:instruction|input|question|prompt|task|human|user)\b)", _ANSWER),
    (r"\[INST\]", r"\[/INST\]"),
    (r"(?:human|user) *:", r"^(?:assistant|model|ai|falcon) *:"),
    (r"a chat between a (?:curious )?(?:human|user)", r"\bassistant *:"),
    (r"(?:instruction|question|q) *:", r"^(?:(?:response|output|answer) *:|a:(?![\w:-]))"),
    (_USER_TOKEN, _ASSISTANT_TOKEN),
    (r"(?:system|user)[ \t]*\n", _ASSISTANT_LINE),
    (r"<start_of_turn>user", r"<start_of_turn>model"),
)
ECHOES = tuple(
    (re.compile(rf"{_BEGIN}(?:{opening})", re.IGNORECASE), re.compile(answer, re.IGNORECASE | re.MULTILINE))
    for opening, answer in _ECHOES
)
"""How an answer begins that repeats its prompt, and the heading behind which the answer proper stands."""

BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z\"'])")
BARE_FINAL = "assistantfinal"
"""Channels of gpt-oss whose special tokens were left out: `analysisThe user wants ...assistantfinal<!DOCTYPE html>`."""

NEXT_TURN = (
    r"(?m:^)(?:#{2,4} *(?:instruction|input|human|user|question|task|prompt|response|assistant)\b|(?:human|user) *:)"
)
"""Behind an answer: the model goes on with a request of its own."""
