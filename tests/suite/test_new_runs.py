"""What `suites new` writes, `run` takes: over shapes, encodings and contents of data files."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.pipeline.config import RunConfig, resolve
from harness.suite.new import make_suite

SUBJECTS = (
    "opening hours of a bakery",
    "five vegetables that grow in shade",
    "answer to a letter from lawyers",
    "one field to look for trains",
    "poem about rain in four lines",
    "credits with names of directors",
)
PAGES = (
    "<p>{}</p>",
    "<table><tr><td>{}</td></tr></table>",
    "<html><body><ul><li>{}</li></ul></body></html>",
    "```html\n<b>{}</b>\n```",
)

Rows = list[dict[str, Any]]

text = st.text(max_size=8)  # any characters, lone surrogates too
odd = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.booleans(),
    text,
    st.lists(text, max_size=2),
    st.sampled_from(["NaN", "n/a", "\0", " "]),
)
row = st.fixed_dictionaries(
    {
        "asked": st.one_of(st.sampled_from(SUBJECTS), st.tuples(st.sampled_from(SUBJECTS), text).map("".join)),
        "page": st.one_of(
            st.tuples(st.sampled_from(PAGES), text).map(lambda made: made[0].replace("{}", made[1])), odd
        ),
        "id": odd,
        "category": odd,
        "difficulty": odd,
    }
)


def messages(found: Rows) -> Rows:
    roles = (("system", "Write HTML."), ("user", "asked"), ("assistant", "page"))
    return [
        {"messages": [{"role": role, "content": one.get(key, key)} for role, key in roles], "id": one["id"]}
        for one in found
    ]


def nested(found: Rows) -> Rows:
    return [
        {"task": {"question": one["asked"], "level": one["difficulty"]}, "answer": {"html": one["page"]}}
        for one in found
    ]


def alpaca(found: Rows) -> Rows:
    names = {"asked": "input", "page": "output"}
    return [{"instruction": "Write it."} | {names.get(key, key): value for key, value in one.items()} for one in found]


def plain(found: Rows) -> Rows:
    names = {"asked": "prompt", "page": "reference"}
    return [{names.get(key, key): value for key, value in one.items()} for one in found]


def as_lines(found: Rows) -> str:
    return "".join(json.dumps(one) + "\n" for one in found)


def as_table(found: Rows, delimiter: str) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for one in found for name in one)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


FORMATS = {
    "a.jsonl": as_lines,
    "a.json": json.dumps,
    "a.yaml": json.dumps,  # JSON is YAML, too
    "a.csv": lambda found: as_table(found, ";"),
    "a.tsv": lambda found: as_table(found, "\t"),
}


def write(folder: Path, name: str, shaped: Rows, encoding: str) -> Path:
    """Write the rows in that format; Parquet, where their values are of one type a column, else lines."""
    path = folder / name
    if name == "pages":
        path.mkdir()
        for number, one in enumerate(shaped):
            (path / f"{number}.md").write_bytes(str(one.get("prompt")).encode(encoding, "replace"))
            (path / f"{number}.html").write_bytes(str(one.get("reference")).encode(encoding, "replace"))
        return path
    if name == "a.parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            pq.write_table(pa.Table.from_pylist(shaped), path)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            path = folder / "a.jsonl"
            path.write_text(as_lines(shaped))
        return path
    path.write_bytes(FORMATS[name](shaped).encode("utf-8" if name == "a.yaml" else encoding, "replace"))
    return path


@settings(max_examples=80, deadline=None)
@given(
    found=st.lists(row, min_size=1, max_size=7),
    shape=st.sampled_from([plain, alpaca, messages, nested]),
    name=st.sampled_from([*FORMATS, "a.parquet", "pages"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    held_out_only=st.booleans(),
)
def test_a_suite_that_is_made_is_one_that_runs(
    found: Rows, shape: Any, name: str, encoding: str, held_out_only: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder), name, shape(found), encoding)
        try:
            made = make_suite("mine", str(data), Path(folder) / "tasks", held_out_only=held_out_only)
        except UsageError as refused:
            assert "\n" not in str(refused)
            assert not (Path(folder) / "tasks" / "mine").exists()
            return
        plan = resolve(RunConfig(profile="smollm2-135m", models=("base",), suites=(str(made.folder),)))
        suite = plan.measured[0].suite
        assert len(suite.train) + len(suite.held_out) >= 2
        assert held_out_only or any(task.reference.strip() for task in suite.train)
        for task in (*suite.train, *suite.held_out):
            assert task.prompt.strip()
            json.dumps([task.id, task.prompt, task.input, task.reference], ensure_ascii=False).encode()


def test_enough_of_them_are_made() -> None:
    """The property above would hold of a command that refuses everything."""
    rows = [
        {"asked": asked, "page": PAGES[0].format(asked), "id": None, "category": 3, "difficulty": 1.0}
        for asked in SUBJECTS
    ]
    for shape in (plain, alpaca, messages, nested):
        for name in (*FORMATS, "a.parquet", "pages"):
            if (name == "pages" and shape is not plain) or (name in ("a.csv", "a.tsv") and shape is nested):
                continue
            with tempfile.TemporaryDirectory() as folder:
                data = write(Path(folder), name, shape(rows), "utf-8")
                assert make_suite("mine", str(data), Path(folder) / "tasks").files[0].is_file(), (shape, name)
