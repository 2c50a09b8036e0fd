from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.storage.jsonl import append_lines, dump_lines, read_lines

ROWS = st.lists(st.dictionaries(st.text(max_size=4), st.text() | st.none() | st.integers() | st.booleans(), max_size=3))


@given(rows=ROWS)
def test_what_is_dumped_is_read_again(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    path.write_bytes(dump_lines(list(rows)))
    assert read_lines(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows)


def test_lone_surrogates_survive(tmp_path: Path) -> None:
    append_lines(tmp_path / "rows.jsonl", [{"text": "a\ud800b"}])
    assert read_lines(tmp_path / "rows.jsonl") == [{"text": "a\ud800b"}]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_torn_last_line_is_left_out_wherever_it_was_torn(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"n": 1}, {"key": "täil"}])
    path.write_bytes(path.read_bytes()[:-cut])
    kept = read_lines(path)
    append_lines(path, [{"n": 3}])
    assert kept == ([{"n": 1}] if cut > 1 else [{"n": 1}, {"key": "täil"}])
    assert read_lines(path) == [*kept, {"n": 3}]


def test_bytes_that_are_no_json_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n":1}\n\xff\xfe\n[1]\n\x00\x00\n{"n":2}\n')
    assert read_lines(path) == [{"n": 1}, {"n": 2}]


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"n": 1}])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HarnessError, match=r"rows\.jsonl cannot be written: No space left on device \(make room"):
            append_lines(path, [{"n": 2}])
    append_lines(path, [{"n": 3}])
    rows = read_lines(path)
    assert rows[0] == {"n": 1}
    assert rows[-1] == {"n": 3}


def test_a_write_that_ends_half_way_spoils_neither_what_was_there_nor_what_comes(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(HarnessError, match="No space left on device"):
        append_lines(full, [{"n": 1}])
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"n": 1}])
    with path.open("ab") as stream:
        stream.write(b'{"n":2,"te')
    append_lines(path, [{"n": 3}])
    assert read_lines(path) == [{"n": 1}, {"n": 3}]
