"""Files that `--data` names for suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.pipeline.data_option import parse_data_options


def test_data_options_hold_an_equals_sign_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a=b.jsonl"
    path.touch()
    assert parse_data_options([f"small={path}"]) == {"small": path}
    assert parse_data_options([f"small={tmp_path}"]) == {"small": tmp_path}
    with pytest.raises(UsageError, match="there is no data file"):
        parse_data_options([f"small={tmp_path / 'pages'}"])


def test_a_misspelt_data_file_is_held_against_data_files_only(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"did you mean 'rows\.jsonl'") as fault:
        parse_data_options([f"small={tmp_path / 'row.jsonl'}"])
    with pytest.raises(UsageError) as fault:
        parse_data_options([f"small={tmp_path / 'zzzz'}"])
    assert "notes.txt" not in str(fault.value.hint)
