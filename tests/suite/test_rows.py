from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.storage.yaml import read_yaml
from harness.suite.rows import read_data

ROWS: list[dict[str, Any]] = [
    {"prompt": 'Say "hi", twice', "reference": "<p>hi\n<p>hi"},
    {"prompt": "Ü: a # b", "reference": "<p>–</p>"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["prompt", "reference"])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(
            pa.Table.from_pylist(rows, schema=pa.schema([("prompt", "string"), ("reference", "string")])), path
        )
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    else:  # every JSON text is YAML too
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    found = read_data(write(tmp_path / f"rows{suffix}", ROWS)).rows
    assert [row.values for row in found] == ROWS


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".jsonl", ".csv", ".parquet"])
def test_an_empty_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", [])
    with pytest.raises(UsageError, match=rf"rows\{suffix} holds no rows"):
        read_data(path)


@pytest.mark.parametrize("suffix", [".yaml", ".jsonl", ".csv"])
def test_a_file_of_no_bytes_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.touch()
    with pytest.raises(UsageError, match="holds no rows"):
        read_data(path)


def test_a_spreadsheet_with_a_byte_order_mark_keeps_its_first_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,reference\r\na,b\r\n")
    assert read_data(path).rows[0].values == {"prompt": "a", "reference": "b"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"- prompt: one\n- prompt: a: b\n", r"a\.yaml, line 2 is not valid YAML: mapping values"),
        ("a.yaml", b"- prompt: 'one\n", r"a\.yaml, line \d is not valid YAML"),
        ("a.yaml", b"prompt: one\n", r"a\.yaml must be a list of tasks"),
        ("a.yaml", b"- one\n", r"a\.yaml, task 1 is not a mapping"),
        ("a.yaml", b"- prompt: \xff\n", r"a\.yaml is not UTF-8 text"),
        ("a.yaml", b"- prompt: \x07\n", r"a\.yaml.* is not valid YAML"),
        ("a.json", b'[{"prompt": 1},]', r"a\.json is not valid JSON"),
        ("a.json", b'{"prompt": "x"}', r"a\.json must be a JSON list of objects \(.*\.jsonl"),
        ("a.json", b"[1]", r"a\.json, item 1 is not an object"),
        ("a.jsonl", b'{"prompt": "x"}\n{"prompt": \n', r"a\.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", b"\n\n[1]\n", r"a\.jsonl, line 3 is not an object"),
        ("a.jsonl", b'{"prompt": "\x81"}\n', r"a\.jsonl is not UTF-8 text"),
        ("a.csv", b'prompt,reference\n"one,two\n', r"a\.csv, line \d is not valid CSV"),
        ("a.csv", b"prompt,reference\na,b,c\n", r"a\.csv, line 2 has more cells than the header"),
        ("a.csv", b"prompt\n\x81\n", r"a\.csv is not UTF-8 text"),
        ("a.parquet", b"no such thing", r"a\.parquet cannot be read as a Parquet file"),
        ("a.json", b'{"train": [{}], "test": [{}]}', r"a\.json holds several lists of rows: train, test"),
        ("a.txt", b"x", r"a\.txt is of no known format \(use .*\.parquet"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message) as refused:
        read_data(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_list_of_words_beside_the_rows_holds_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"data": [{"prompt": "a"}], "eval": ["accuracy"], "test": []}')
    assert [row.values for row in read_data(path).rows] == [{"prompt": "a"}]


def test_a_date_that_python_does_not_have_is_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dates = pa.array([2**60], pa.timestamp("us"))
    pq.write_table(pa.table({"prompt": ["a"], "reference": ["<p>b"], "made": dates}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet cannot be read as a Parquet file: date value out of range"):
        read_data(tmp_path / "a.parquet")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no data file .*none\.jsonl"):
        read_data(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match=r"there is no file .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=r"holds no pairs \(NAME\.md or NAME\.txt"):
        read_data(tmp_path)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("- !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UsageError, match="is not valid YAML"):
        read_data(tmp_path / "a.yaml")
