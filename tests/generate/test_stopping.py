from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.answer import find_page, thought_end, thought_left_open
from harness.generate.stopping import (
    LOOP_PERIODS,
    LOOP_REPEATS,
    LOOP_TOKENS,
    StopRule,
    answer_text,
    loop_period,
    thought_marks,
)

BLOCK = st.lists(st.integers(0, 5), min_size=1, max_size=LOOP_PERIODS)


@given(start=st.lists(st.integers(0, 9), max_size=50), block=BLOCK)
def test_a_block_repeated_long_enough_is_a_loop(start: list[int], block: list[int]) -> None:
    repeats = max(LOOP_REPEATS, -(-LOOP_TOKENS // len(block)))
    tokens = start + block * repeats
    period = loop_period(tokens)
    assert period is not None
    assert period <= len(block)
    # the answer is what it says: the end repeats with that period over the whole span
    span = max(LOOP_REPEATS * period, LOOP_TOKENS)
    end = tokens[-span:]
    assert all(end[i] == end[i - period] for i in range(period, span))


@given(block=BLOCK, cut=st.integers(0, LOOP_PERIODS))
def test_fewer_repeats_or_fewer_tokens_are_none(block: list[int], cut: int) -> None:
    distinct = list(range(100, 100 + len(block)))  # no shorter period inside
    span = max(LOOP_REPEATS * len(distinct), LOOP_TOKENS)
    tokens = (distinct * (span // len(distinct) + 1))[-span:]
    assert loop_period(tokens) == len(distinct)
    assert loop_period(tokens[1:]) is None
    assert loop_period([*tokens, 7]) is None


@given(st.lists(st.integers(0, 1), max_size=400))
def test_whatever_is_found_is_a_repetition(tokens: list[int]) -> None:
    period = loop_period(tokens)
    if period is not None:
        span = max(LOOP_REPEATS * period, LOOP_TOKENS)
        assert tokens[-span + period :] == tokens[-span:-period]


def test_a_long_table_with_counting_rows_is_no_loop() -> None:
    tokens = [token for number in range(80) for token in (1, 2, 3, 1000 + number, 4, 5)]
    assert loop_period(tokens) is None


class Letters:
    """A tokenizer of single letters, and of one token that holds the end tag's last two letters and one more."""

    words = (*"<html>/ abcHTML\n", "l>\n", "<eos>")

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def decode(self, tokens: list[int], skip_special_tokens: bool, **_: bool) -> str:
        return "".join(self.words[token] for token in tokens if self.words[token] != "<eos>")

    def tokens(self, text: str) -> list[int]:
        return [self.words.index(letter) for letter in text]


def rule(**more: Any) -> StopRule:
    letters = Letters()
    settings = {"max_new_tokens": 40, "at_end_tag": True, "cut_loops": True, **more}
    return StopRule(letters, frozenset({letters.get_vocab()["<eos>"]}), **settings)


def first_stop(rule: StopRule, tokens: list[int]) -> tuple[int, str] | None:
    for length in range(1, len(tokens) + 1):
        reason = rule.reason(tokens[:length])
        if reason:
            return length, reason
    return None


@pytest.mark.parametrize("text", ["<html>abc</html>", "<html>abc</HTML>", "<html>abc</html >", "</html>", "a\n</html>"])
def test_a_page_ends_at_its_end_tag(text: str) -> None:
    stop = rule()
    assert first_stop(stop, [*stop.tokenizer.tokens(text), *stop.tokenizer.tokens("abc")]) == (len(text), "stop")


def test_an_end_tag_inside_a_token_counts() -> None:
    stop = rule()
    tokens = [*stop.tokenizer.tokens("<html></htm"), stop.tokenizer.get_vocab()["l>\n"]]
    assert first_stop(stop, tokens) == (len(tokens), "stop")


@pytest.mark.parametrize("text", ["<html>", "</htm>", "</ html>", "html>", "</html", "a </html>"])
def test_what_is_no_end_tag_does_not_end_a_page(text: str) -> None:
    stop = rule()
    assert first_stop(stop, stop.tokenizer.tokens(text)) is None


def test_the_end_token_goes_before_the_limit_and_the_limit_before_nothing() -> None:
    stop = rule(max_new_tokens=3)
    letters = stop.tokenizer
    end = letters.get_vocab()["<eos>"]
    assert stop.reason([0, 0, end]) == "eos"
    assert stop.reason([0, 0, 0]) == "length"
    assert stop.reason([0, 0]) is None


def test_the_end_tag_and_loops_can_be_let_through() -> None:
    stop = rule(at_end_tag=False, cut_loops=False, max_new_tokens=1000)
    assert stop.reason(stop.tokenizer.tokens("</html>")) is None
    assert stop.reason([7] * 320) is None
    assert rule(max_new_tokens=1000).reason([7] * 320) == "loop"


class Characters:
    """A tokenizer of single characters, and of special tokens that a decoder leaves out unless told otherwise."""

    special = ("[THINK]", "[/THINK]", "<|channel|>", "<|message|>", "<|end|>", "<eos>")
    words = (*map(chr, range(128)), *special)
    all_special_tokens = special

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def decode(self, tokens: list[int], skip_special_tokens: bool, **_: bool) -> str:
        words = [self.words[token] for token in tokens]
        return "".join(word for word in words if not (skip_special_tokens and word in self.special))

    def tokens(self, text: str) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, self.special)) + ")", text)
        return [self.words.index(t) for part in parts for t in ([part] if part in self.special else part)]


PAGE = "<html><body><p>Hi</p></body></html>"


@pytest.mark.parametrize(
    "before",
    [
        f"<think>first {PAGE} then</think>\n",
        f"[THINK]first {PAGE} then[/THINK]",
        f"<|channel|>analysis<|message|>first {PAGE}<|end|><|channel|>final<|message|>",
        "A page ends with `</html>`, as you know:\n",
        "It must end with </html> of course.\n\n```html\n",
        "<!-- no </html> yet -->\n",
        '<script>const end = "</html>";</script>',
        "<p title='</html>'></p>",
        "<textarea></html></textarea>",
        f"### Instruction:\nMend it.\n### Input:\n{PAGE}\n### Response:\n",
        "Add this:\n```html\n<link rel=stylesheet href=a.css>\n```\nWhole:\n```html\n",
    ],
)
def test_only_the_end_of_the_page_ends_an_answer(before: str) -> None:
    characters = Characters()
    stop = StopRule(characters, frozenset({characters.get_vocab()["<eos>"]}), 1000, at_end_tag=True, cut_loops=False)
    tokens = characters.tokens(before + PAGE)
    assert first_stop(stop, [*tokens, *characters.tokens("\nmore </html>")]) == (len(tokens), "stop")


@pytest.mark.parametrize(
    "opened",
    [
        *("<think>\n", "<thinking>", "<thought>", "<reasoning>", "<seed:think>", "[THINK]"),
        *("<|channel|>analysis<|message|>", "<|begin_of_thought|>", "<|START_THINKING|>", "<|think_start|>"),
        *("<|inner_prefix|>", "<|channel>thought\n"),
    ],
)
def test_a_thought_that_the_prompt_opened_is_thought_through(opened: str) -> None:
    characters = Characters()
    ends = frozenset({characters.get_vocab()["<eos>"]})
    tokens = characters.tokens(f"first {PAGE} then{thought_end(opened)}\n{PAGE}")
    thinking = StopRule(characters, ends, 1000, at_end_tag=True, cut_loops=False, thought=opened)
    assert first_stop(thinking, [*tokens, *characters.tokens("more")]) == (len(tokens), "stop")
    assert thought_left_open(f"<|im_start|>assistant\n{opened}") == opened
    assert find_page(f"{opened}{thought_end(opened)}\n\n{PAGE}").html == PAGE
    assert thought_left_open("<think>\n</think>\n") == ""


def test_marks_of_thoughts_stay_in_the_text_and_nothing_else_special() -> None:
    characters = Characters()
    marks = thought_marks(characters)
    assert answer_text(characters, characters.tokens("a<|end|>b"), marks) == "ab"
    assert answer_text(characters, characters.tokens("[THINK]a[/THINK]b"), marks) == "[THINK]a[/THINK]b"


def test_tokens_are_appended_up_to_the_end_and_each_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        all_special_tokens = ()

        def get_vocab(self) -> dict[str, int]:
            return {chr(number): number for number in range(128)}

        def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True, **_: bool) -> str:
            return "".join(map(chr, tokens))

    rule = StopRule(Ascii(), frozenset({0}), 10_000, at_end_tag=True, cut_loops=False)
    page = [ord(letter) for letter in "<html>Hi</html>"]
    written = page[:6]
    assert rule.extend(written, page[6:10]) is None
    assert written == page[:10]
    assert rule.extend(written, [*page[10:], 65, 65]) == "stop"
    assert written == page
    ended: list[int] = []
    assert rule.extend(ended, [65, 66, 0, 67]) == "eos"
    assert ended == [65, 66]

    seen: list[int] = []
    real = StopRule.reason
    monkeypatch.setattr(
        StopRule, "reason", lambda self, tokens: (seen.append(id(tokens)), real(self, tokens))[1]
    )  # a copy of what is written for each token would take time by its square
    long: list[int] = []
    assert rule.extend(long, [65] * 10_000) == "length"
    assert len(seen) == 10_000
    assert set(seen) == {id(long)}


def test_spaces_are_left_as_they_were_written() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    css = ["▁.nav", "▁.item", "▁{", "▁}"]
    model = Tokenizer(models.Unigram([(word, -1.0) for word in ["<unk>", *css]], unk_id=0))
    model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", clean_up_tokenization_spaces=True)
    tokens = tokenizer(".nav .item { }")["input_ids"]
    assert answer_text(tokenizer, tokens, frozenset()) == ".nav .item { }"
