from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suite.leakage import flag, groups
from harness.suite.split import split_by_hash
from harness.types import Task


def table(title: str, *cells: str) -> str:
    rows = "".join(f"<tr><td>{cell}</td></tr>" for cell in cells)
    return f"<html><head><title>{title}</title></head><body><table>{rows}</table></body></html>"


BREAD = Task(
    "bread", "Create a table of the breads we sell every day", reference=table("Breads", "rye", "spelt", "oat")
)
SAME_PROMPT = Task("same-prompt", "create a table of the breads we sell every day!", reference="<p>Something else</p>")
SAME_PAGE = Task(
    "same-page",
    "Show what a bakery has to offer",
    reference="<!doctype html><title>Breads</title>\n<TABLE>\n<tr><td>rye<tr><td>spelt<tr><td>oat</TABLE>",
)
OTHER = Task("other", "Draw a red circle with SVG", reference='<svg><circle r="5" fill="red"></circle></svg>')
INPUT = Task("input", "Fix this page", input="<p>one", reference="<p>one</p>")
OTHER_INPUT = Task("other-input", "Fix this page", input="<table><tr><td>a<td>b</table>", reference="<table></table>")


def test_near_duplicates_by_prompt_or_page_share_a_group() -> None:
    found = groups([BREAD, OTHER, SAME_PAGE, INPUT, SAME_PROMPT, OTHER_INPUT])
    assert [[t.id for t in g] for g in found] == [
        ["bread", "same-page", "same-prompt"],
        ["other"],
        ["input"],
        ["other-input"],
    ]


def test_a_system_turn_before_most_prompts_makes_no_near_duplicates() -> None:
    turn = "You write pages for people in a hurry, and nothing but pages. " * 4
    opening = f"{turn}\n\nAnswer in {turn}\n\n"
    tasks = [replace(task, prompt=opening + task.prompt) for task in (BREAD, SAME_PROMPT, OTHER, INPUT, OTHER_INPUT)]
    alone = replace(OTHER, id="alone", prompt="A calendar of one week in spring")
    found = [[task.id for task in group] for group in groups([*tasks, alone])]
    assert found[:2] == [["bread", "same-prompt"], ["other", "alone"]]  # the last two by their page
    two = [replace(task, reference="") for task in tasks[:3:2]]
    assert len(groups(two)) == 1  # of two rows, nobody knows which part is a template


RULES = "Use semantic HTML5 and inline CSS only, add no external libraries, and return the code without a word more."


@pytest.mark.parametrize(
    "written", [f"%s. {RULES}", f"%s\n{RULES}", f"%s\r\n\r\n{RULES}", f"{RULES} %s", f"Task: %s.\n{RULES}\nInput:"]
)
def test_rules_that_most_prompts_state_make_no_near_duplicates(written: str) -> None:
    topics = ["the breads of one week", "ten rivers by length", "my cat Bo", "a chess club", "trains to Orléans"]
    tasks = [Task(f"t{n}", written % f"A page about {topic}") for n, topic in enumerate(topics)]
    copy = Task("copy", written % "a page about ten rivers, by length")
    assert [[task.id for task in group] for group in groups([*tasks, copy]) if len(group) > 1] == [["t1", "copy"]]


def test_a_request_that_most_rows_repeat_is_no_rule() -> None:
    tasks = [replace(BREAD, id=f"t{n}", reference="") for n in range(4)]
    assert len(groups(tasks)) == 1
    assert len(groups([replace(task, prompt=f"{task.prompt}. {n}") for n, task in enumerate(tasks)])) == 1


def test_composed_and_decomposed_letters_ask_the_same() -> None:
    prompt = "Tạo một trang web giới thiệu trường đại học ở Việt Nam với tiêu đề và danh sách"
    forms = [Task(form, unicodedata.normalize(form, prompt)) for form in ("NFC", "NFD")]
    assert flag(forms[:1], forms[1:]) == {"NFD": ["NFC"]}


def test_flag_names_the_training_rows() -> None:
    assert flag([BREAD, OTHER], [SAME_PROMPT, SAME_PAGE, INPUT]) == {"same-prompt": ["bread"], "same-page": ["bread"]}
    assert flag([BREAD], []) == flag([], [BREAD]) == {}


def test_duplicates_among_held_out_tasks_alone_are_no_leak() -> None:
    assert flag([OTHER], [BREAD, SAME_PROMPT]) == {}


def test_a_split_by_groups_leaves_nothing_to_flag() -> None:
    tasks = [BREAD, OTHER, SAME_PAGE, INPUT, SAME_PROMPT, OTHER_INPUT]
    found = groups(tasks)
    for cut in range(len(found) + 1):
        train = [t for group in found[:cut] for t in group]
        assert flag(train, [t for group in found[cut:] for t in group]) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=8))
def test_any_tasks_are_grouped_each_once(texts: list[tuple[str, str]]) -> None:
    tasks = [Task(str(i), prompt, reference=reference) for i, (prompt, reference) in enumerate(texts)]
    found = groups(tasks)
    assert sorted(t.id for g in found for t in g) == sorted(t.id for t in tasks)
    assert found == groups(tasks)


def test_html_alpaca() -> None:
    path = os.environ.get("HARNESS_TEST_HTML_ALPACA")
    if not path:
        pytest.skip("HARNESS_TEST_HTML_ALPACA names no file")
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    tasks = [Task(str(i), row["instruction"], row["input"], row["output"]) for i, row in enumerate(rows)]
    found = groups(tasks)
    assert max(map(len, found)) < 12, "no chain of likenesses swallows the suite"
    hello = next(g for g in found if any(t.id == "82" for t in g))
    assert {"82", "202", "263"} <= {t.id for t in hello}, "the Hello World pages"


CITIES = ("京都", "大阪", "奈良", "東京", "札幌", "横浜")
DISHES = ("ต้มยำกุ้ง", "ผัดไทย", "ส้มตำ", "แกงเขียวหวาน", "ข้าวซอย", "มัสมั่น")
TEMPLES = ("ភ្នំពេញ", "សៀមរាប", "អង្គរវត្ត", "កំពត", "បាត់ដំបង", "កោះកុង")
FRUITS = ("苹果", "香蕉", "葡萄", "西瓜", "草莓", "樱桃")


@pytest.mark.parametrize(
    ("language", "form", "topics", "variants"),
    [
        (
            "zh",
            "请制作一个网页展示{topic}{variant}的介绍内容并且在页面底部添加联系我们的表单",
            FRUITS,
            ("", "简短", "详细"),
        ),
        (
            "ja",
            "{topic}を紹介する{variant}ページを作って、下にお問い合わせフォームを追加してください。",
            CITIES,
            ("", "短い", "楽しい"),
        ),
        ("th", "กรุณาสร้างหน้าเว็บแนะนำ{topic}{variant}พร้อมแบบฟอร์มติดต่อเราที่ด้านล่าง", DISHES, ("", "สั้น", "ยาว")),
        ("km", "សូមបង្កើតគេហទំព័រណែនាំអំពី{topic}{variant}ជាមួយនឹងទម្រង់ទំនាក់ទំនង", TEMPLES, ("", "ខ្លី", "វែង")),
    ],
)
def test_requests_without_spaces_are_grouped_by_their_topic(
    language: str, form: str, topics: tuple[str, ...], variants: tuple[str, ...]
) -> None:
    tasks = []
    for number, topic in enumerate(topics):
        for variant in variants:
            page = f"<h1>{topic}</h1><p>{topic}{variant} {number}</p>"
            page = f'<!DOCTYPE html><html lang="{language}"><head><title>{topic}{variant}</title></head>{page}</html>'
            tasks.append(Task(f"{number}-{variant}", form.format(topic=topic, variant=variant), reference=page))
    assert [{t.id.split("-")[0] for t in group} for group in groups(tasks)] == [{str(n)} for n in range(len(topics))]
    held_out = tasks[:: len(variants)]
    assert list(flag([t for t in tasks if t not in held_out], held_out)) == [t.id for t in held_out]


def test_the_groups_of_a_chinese_suite_stay_together_and_do_not_swallow_one_another() -> None:
    rows = [json.loads(line) for line in (Path(__file__).parent / "chinese_groups.jsonl").read_text().splitlines()]
    tasks = [Task(str(n), row["prompt"], reference=row["reference"]) for n, row in enumerate(rows)]
    threes = [[str(3 * n + k) for k in range(3)] for n in range(12)]
    assert [[t.id for t in group] for group in groups(tasks)] == threes
    assert [[t.id for t in g] for g in groups([Task(t.id, t.prompt) for t in tasks])] == threes, "without pages"
    train, held_out = split_by_hash(tasks, 0.2)
    assert len(held_out) in (3, 6, 9, 12)
    assert flag(train, held_out) == {}
