from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import TextSimilarity
from harness.metrics.facts import page_facts
from harness.metrics.registry import metric
from harness.metrics.unspaced import tokens

ONE_WORD_CHANGED = [
    ("我们的产品质量非常好并且价格便宜", "我们的产品质量特别差并且价格便宜", 3),
    ("この店のラーメンはとても美味しいです", "この店のラーメンはとても不味いです", 3),
    ("ร้านนี้ขายขนมปังสดใหม่ทุกวัน", "ร้านนี้ขายดอกไม้สดใหม่ทุกวัน", 7),
    ("ຮ້ານນີ້ຂາຍເຂົ້າຈີ່ທຸກມື້", "ຮ້ານນີ້ຂາຍດອກໄມ້ທຸກມື້", 7),
    ("ဒီဆိုင်ကပေါင်မုန့်ရောင်းတယ်", "ဒီဆိုင်ကပန်းတွေရောင်းတယ်", 8),
]


@pytest.mark.parametrize(("text", "changed", "most"), ONE_WORD_CHANGED)
def test_one_word_changed_in_a_sentence_without_spaces_costs_that_word(text: str, changed: str, most: int) -> None:
    pages = [f"<h1>Menu</h1><p>{sentence}</p>" for sentence in (text, changed)]
    (score,) = TextSimilarity().compute(predictions=[pages[1]], references=[pages[0]])["scores"]
    shown = page_facts(pages[0], "document").words
    assert 100 * (1 - most / len(shown)) <= score < 100
    assert len(shown) > 10


def test_each_run_of_a_mixed_text_is_cut_as_its_script_is() -> None:
    assert tokens("Python编程，你好 World 2nd", str.split) == ["Python", "编", "程", "，", "你", "好", "World", "2nd"]
    assert tokens("ラーメン(ramen)", re.compile(r"\w+").findall) == ["ラ", "ー", "メ", "ン", "ramen"]
    assert tokens("ง่าย ที่", str.split) == ["ง่", "า", "ย", "ที่"], "tone marks and vowel signs stay with their letter"


def test_zero_width_marks_and_composition_do_not_count() -> None:
    assert tokens("ភាសា\u200bខ្មែរ", str.split) == tokens("ភាសាខ្មែរ", str.split)
    assert tokens(unicodedata.normalize("NFD", "がぎぐ"), str.split) == ["が", "ぎ", "ぐ"]


SPACED = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x0DFF))  # before Thai: all of these use spaces


@given(SPACED)
def test_text_of_other_scripts_is_cut_as_before(text: str) -> None:
    for words in (str.split, re.compile(r"\w+|[^\w\s]").findall):
        assert tokens(text, words) == words(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    "text", ["Trường đại học ở Việt Nam là nơi tốt", "웹 페이지를 만들어 주세요", "Crème à Orléans"]
)
def test_composed_and_decomposed_letters_are_the_same_words(text: str) -> None:
    pages = [f"<p>{unicodedata.normalize(form, text)}</p>" for form in ("NFC", "NFD")]
    assert pages[0] != pages[1]
    assert page_facts(pages[0], "document").words == page_facts(pages[1], "document").words
    assert page_facts(pages[0], "document").dom_tokens == page_facts(pages[1], "document").dom_tokens


@given(st.text())
def test_no_letter_is_lost_and_no_token_holds_a_space(text: str) -> None:
    found = tokens(text, str.split)
    assert all(token and not any(letter.isspace() for letter in token) for token in found)
    kept = {c for c in unicodedata.normalize("NFC", text) if c.isalpha()}
    assert kept <= set("".join(unicodedata.normalize("NFC", token) for token in found))


def test_korean_and_hindi_keep_their_words() -> None:
    assert page_facts("<p>한국어 문장입니다</p>", "fragment").words == ("한국어", "문장입니다")
    assert page_facts("<p>नमस्ते दुनिया</p>", "fragment").words == ("नमस्ते", "दुनिया")


def test_the_measures_that_changed_have_another_version() -> None:
    assert {name: metric(name).version for name in ("bleu", "bleu_dom", "chrf", "text_similarity")} == {
        "bleu": 3,
        "bleu_dom": 3,
        "chrf": 3,
        "text_similarity": 3,
    }
