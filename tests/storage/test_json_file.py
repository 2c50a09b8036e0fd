"""JSON files whose object is read, and what is said of those without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.storage.json_file import read_object


def test_an_object_is_returned(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, null]}')
    assert read_object(tmp_path / "a.json") == {"a": [1, None]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": ', "a.json is not valid JSON: Expecting value"),
        (b"\xff{}", "a.json is not valid JSON: 'utf-8' codec"),
        (b"[" * 100_000, "a.json is not valid JSON: maximum recursion"),
        (b"[1]", "a.json holds no JSON object"),
        (None, "a.json cannot be read: No such file or directory (check the path)"),
    ],
)
def test_what_holds_none_is_one_line(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_object(tmp_path / "a.json")
    assert words in str(refused.value) and "\n" not in str(refused.value)
