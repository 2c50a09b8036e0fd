from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.suite.fields import foreign_fields
from harness.suite.rows import read_data
from harness.suite.values import as_json, column_names, column_value, has_column


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (Decimal("NaN"), None),
        (Decimal("3.0"), 3),
        (Decimal("2.5"), 2.5),
        (b"<p>\xc3\xa9</p>", "<p>é</p>"),
        (b"\x89PNG\xff", None),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 7, 5, tzinfo=UTC), "2024-02-29T07:05:00+00:00"),
        (time(7, 5), "07:05:00"),
        ({1: (2, float("nan"))}, {"1": [2, None]}),
        ("a \ud83d b", "a \ufffd b"),
        ("\ud83d\ude00", "😀"),
        (True, True),
        (2**70, 2**70),
    ],
)
def test_every_value_is_one_of_json(value: object, expected: object) -> None:
    found = as_json(value)
    assert found == expected and type(found) is type(expected)


NESTED: list[dict[str, Any]] = [
    {"id": 1, "answer": {"page": {"html": "<p>a"}, "tokens": 3}, "asked": ["x", {"in": "words"}]},
    {"id": 2, "answer": {"page": None}, "asked": []},
    {"id": 3, "answer": None, "a.b": {"c.d": "dots"}},
]


def test_columns_within_columns_have_paths() -> None:
    assert column_names(NESTED) == [
        "id",
        "answer.page.html",
        "answer.tokens",
        "asked",
        "answer.page",
        "answer",
        "a.b.c.d",
    ]
    assert [column_value(row, "answer.page.html") for row in NESTED] == ["<p>a", None, None]
    assert column_value(NESTED[0], "asked.1.in") == "words"
    assert column_value(NESTED[2], "a.b.c.d") == "dots"


def test_a_null_on_the_way_is_a_null_and_a_misspelling_is_none() -> None:
    assert [has_column(row, "answer.page.html") for row in NESTED] == [True, True, True]
    assert [has_column(row, "answer.pgae.html") for row in NESTED] == [False, False, True]
    assert [has_column(row, "asked.1.in") for row in NESTED] == [True, False, False]
    assert not has_column(NESTED[0], "id.html")


@pytest.mark.parametrize(
    ("label", "difficulty", "identifier"),
    [
        ("Beginner ", "easy", "Beginner"),
        (["hard"], "hard", "hard"),
        ("Level  2\n", "level 2", "Level-2-"),
        (2.0, "2", "2"),
        (-7, "-7", "7-"),
        (2.5, "2.5", "2.5"),
        (False, "false", "False"),
        ({"level": 3}, '{"level": 3}', "level-3-"),
        ("ünïcode/Ж", "ünïcode/ж", "n-code-"),
        ("中文", "中文", "id-"),
        ([], "", None),
        (None, "", None),
    ],
)
def test_labels_of_any_type(label: Any, difficulty: str, identifier: str | None) -> None:
    fields = foreign_fields({"difficulty": label, "category": label, "id": label})
    assert fields["difficulty"] == difficulty
    if identifier is None:
        assert fields["id"] is None
    elif identifier.endswith("-"):
        assert str(fields["id"]).startswith(identifier) and len(str(fields["id"])) == len(identifier) + 6
    else:
        assert fields["id"] == identifier


def test_what_is_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- &a\n  prompt: x\n  reference: [*a]\n")
    with pytest.raises(UsageError, match=r"a\.yaml, task 1 is nested too deep"):
        read_data(tmp_path / "a.yaml")
    deep = json.dumps({"prompt": "x", "input": "", "reference": "@"}).replace('"@"', "[" * 5000 + "]" * 5000)
    (tmp_path / "a.jsonl").write_text(deep)
    with pytest.raises(UsageError, match=r"a\.jsonl, line 1"):
        read_data(tmp_path / "a.jsonl")
