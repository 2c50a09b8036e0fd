from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.pipeline.config import RunConfig, resolve
from harness.suite.delimited import ABSENT
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.new import MadeSuite, make_suite
from harness.suite.rows import plain_rows, read_data
from harness.types import Task

WORDS = ("river", "teapot", "lantern", "compass", "harvest", "walnut")
ASKED = {word: f'A page, headed "{word}"; {word * 2} in café style' for word in WORDS}
PAGES = {
    word: f'<!DOCTYPE html>\n<html lang="en"><head><title>{word}</title></head><body><p>{word}; "é", a</p></html>'
    for word in WORDS
}

Row = dict[str, Any]


def lines(make: Callable[[str, str, str], Row]) -> bytes:
    return "".join(json.dumps(make(word, ASKED[word], PAGES[word])) + "\n" for word in WORDS).encode()


def table(**dialect: Any) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, **dialect)
    writer.writerow(["prompt", "reference"])
    writer.writerows([ASKED[word], PAGES[word]] for word in WORDS)
    return stream.getvalue()


def csv_of(header: list[str], rows: list[list[Any]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def message(role: str, content: Any) -> Row:
    return {"role": role, "content": content}


def made_of(folder: Path, name: str, content: bytes) -> tuple[MadeSuite, list[Task]]:
    """Make a suite of a file, resolve a run of it, and return its tasks in the order of WORDS."""
    (folder / name).write_bytes(content)
    made = make_suite("mine", str(folder / name), folder / "tasks")
    plan = resolve(RunConfig(profile="smollm2-135m", models=("base",), suites=(str(made.folder),)))
    suite = plan.measured[0].suite
    tasks = [*suite.train, *suite.held_out]
    assert len(tasks) == len(WORDS)
    return made, sorted(tasks, key=lambda task: next(i for i, word in enumerate(WORDS) if word in task.prompt))


SAME_AS_PLAIN: dict[str, tuple[str, bytes]] = {
    "messages": ("a.jsonl", lines(lambda w, q, a: {"messages": [message("user", q), message("assistant", a)]})),
    "parts of messages": (
        "a.jsonl",
        lines(
            lambda w, q, a: {
                "messages": [
                    message("user", [{"type": "text", "text": q}]),
                    message("assistant", [{"type": "text", "text": a}]),
                ]
            }
        ),
    ),
    "prompt and completion": (
        "a.jsonl",
        lines(lambda w, q, a: {"prompt": [message("user", q)], "completion": [message("assistant", a)]}),
    ),
    "preferences": (
        "a.jsonl",
        lines(
            lambda w, q, a: {
                "chosen": [message("user", q), message("assistant", a)],
                "rejected": [message("user", q), message("assistant", "<p>no</p>" * 50)],
            }
        ),
    ),
    "ShareGPT, a question left open": (
        "a.jsonl",
        lines(
            lambda w, q, a: {
                "conversations": [{"from": s, "value": t} for s, t in (("human", q), ("gpt", a), ("human", "?"))]
            }
        ),
    ),
    "turns with texts": (
        "a.jsonl",
        lines(
            lambda w, q, a: {
                "conversation": [{"role": "prompter", "text": q}, {"role": "assistant", "text": a}],
                "prompt": "another column",
            }
        ),
    ),
    "messages in a table": (
        "a.csv",
        b"messages\n"
        + lines(lambda w, q, a: {"m": [message("user", q), message("assistant", a)]})
        .replace(b'"', b'""')
        .replace(b'{""m"": ', b'"')
        .replace(b"]}\n", b']"\n'),
    ),
    "Alpaca with nulls": ("a.jsonl", lines(lambda w, q, a: {"instruction": q, "input": None, "output": a})),
    "Alpaca with NaN": ("a.jsonl", lines(lambda w, q, a: {"instruction": q, "input": float("nan"), "output": a})),
    "input and output": ("a.jsonl", lines(lambda w, q, a: {"input": q, "output": a})),
    "nested": ("a.jsonl", lines(lambda w, q, a: {"q": q, "answer": {"html": a, "tokens": 7}})),
    "lists of one": ("a.jsonl", lines(lambda w, q, a: {"prompt": [q], "reference": [a]})),
    "who asked in `user`": ("a.jsonl", lines(lambda w, q, a: {"user": "u" + w[0], "text": q, "html": a})),
    "a name in `user`": ("a.jsonl", lines(lambda w, q, a: {"user": "Ann Lee", "text": q, "html": a})),
    "ids in `question`": ("a.jsonl", lines(lambda w, q, a: {"question": "q-" + w, "wording": q, "page": a})),
    "numbers in `input`": ("a.jsonl", lines(lambda w, q, a: {"input": len(w), "prompt": q, "output": a})),
    "ids in `input`": ("a.jsonl", lines(lambda w, q, a: {"input": "i-" + w, "prompt": q, "output": a})),
    "byte order mark": (
        "a.jsonl",
        b"\xef\xbb\xbf" + lines(lambda w, q, a: {"prompt": q, "reference": a}),
    ),
    "lines called JSON": ("a.json", lines(lambda w, q, a: {"prompt": q, "reference": a})),
    "a list called lines": (
        "a.jsonl",
        json.dumps([{"prompt": ASKED[word], "reference": PAGES[word]} for word in WORDS], indent=1).encode(),
    ),
    "semicolons": ("a.csv", table(delimiter=";").encode()),
    "semicolons, mark": ("a.csv", b"\xef\xbb\xbf" + table(delimiter=";").encode()),
    "sep=": ("a.csv", b"\xef\xbb\xbfsep=;\r\n" + table(delimiter=";").encode()),
    "tabs": ("a.tsv", table(delimiter="\t").encode()),
    "tabs in .CSV": ("a.CSV", table(delimiter="\t").encode()),
    "bars": ("a.csv", table(delimiter="|").encode()),
    "carets": ("a.csv", table(delimiter="^").encode()),
    "single quotes": ("a.csv", table(quotechar="'").encode()),
    "backslashes": ("a.csv", table(escapechar="\\", doublequote=False).encode()),
    "sep= of tabs, a line that a spreadsheet filled up": ("a.csv", b"SEP=\t\t\t\r\n" + table(delimiter="\t").encode()),
    "sep= in quotes, UTF-16": ("a.csv", ('"sep=|"\n' + table(delimiter="|")).encode("utf-16-le")),
    "all in quotes, UTF-32": ("a.csv", table(delimiter=";", quoting=csv.QUOTE_ALL).encode("utf-32")),
    "old Macintosh": ("a.csv", table(lineterminator="\r").encode().replace(b"html>\n<", b"html>\r<")),
    "Windows-1252 lines": (
        "a.jsonl",
        "".join(
            json.dumps({"prompt": ASKED[w], "reference": PAGES[w], "by": "„Röß“ €"}, ensure_ascii=False) + "\n"
            for w in WORDS
        ).encode("cp1252"),
    ),
    "UTF-16 JSON": (
        "a.json",
        json.dumps([{"q": ASKED[w], "answer": {"html": PAGES[w]}} for w in WORDS], ensure_ascii=False).encode("utf-16"),
    ),
    "conversations as Python writes them": (
        "a.csv",
        csv_of(
            ["nr", "conversations"],
            [[w, [{"from": "human", "value": ASKED[w]}, {"from": "gpt", "value": PAGES[w]}]] for w in WORDS],
        ),
    ),
    "messages as columns": (
        "a.jsonl",
        lines(lambda w, q, a: {"messages": {"role": ["user", "assistant"], "content": [q, a]}}),
    ),
    "nested twice, with nulls": (
        "a.jsonl",
        lines(lambda w, q, a: {"in": {"task": {"ask": q, "why": None}}, "out": {"best": {"page": a}}, "none": None}),
    ),
    "absent as pandas writes it": (
        "a.csv",
        csv_of(["instruction", "input", "output"], [[ASKED[w], "NaN" if w < "p" else "", PAGES[w]] for w in WORDS]),
    ),
    "Windows-1252": ("a.csv", table(delimiter=";").encode("cp1252")),
    "UTF-16": ("a.csv", table(delimiter="\t").encode("utf-16")),
    "UTF-16 without a mark": ("a.csv", table().encode("utf-16-be")),
}


@pytest.mark.parametrize(("name", "content"), SAME_AS_PLAIN.values(), ids=SAME_AS_PLAIN)
def test_rows_of_any_shape_are_the_tasks_of_the_plain_ones(tmp_path: Path, name: str, content: bytes) -> None:
    made, tasks = made_of(tmp_path, name, content)
    assert [task.prompt for task in tasks] == list(ASKED.values())
    pages = [task.reference.replace("\r\n", "\n") for task in tasks]
    assert pages == list(PAGES.values())
    assert {task.input for task in tasks} == {""}
    assert made.sample["prompt"] == ASKED["river"]


def test_rows_of_any_shape_do_for_a_suite_with_other_columns(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "suite.yaml").write_text("title: Own\nhub: {path: a/b}\ncolumns: {prompt: wish, reference: answer}\n")
    for number, (name, content) in enumerate(SAME_AS_PLAIN.values()):
        data = tmp_path / f"{number}-{name}"
        data.write_bytes(content)
        suite = load_suite(SuiteLocation("own", folder), data)
        assert {task.prompt for task in (*suite.train, *suite.held_out)} == set(ASKED.values()), name
        assert any("other columns than Own: prompt from" in note for note in suite.notes)


def test_a_conversion_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(table().encode("cp1252"))
    assert read_data(tmp_path / "a.csv").notes == (
        "a.csv: not UTF-8; read as Windows-1252, with words such as café, é",
    )
    (tmp_path / "a.csv").write_bytes(table().encode("utf-16"))
    assert read_data(tmp_path / "a.csv").notes == ("a.csv: UTF-16, converted",)
    (tmp_path / "a.csv").write_bytes(table().encode())
    assert read_data(tmp_path / "a.csv").notes == ()


def test_a_system_turn_and_earlier_turns_are_kept_in_the_prompt(tmp_path: Path) -> None:
    system = "You write pages of HTML for people in a hurry. " * 5 + "\n\n" + "Answer with the page alone, please. " * 5

    def talk(word: str, asked: str, page: str) -> Row:
        earlier = [message("user", asked), message("assistant", page)]
        last = [message("user", f"Now {word} in blue"), message("assistant", page + word)]
        return {"messages": [message("system", system), *earlier, *last]}

    made, tasks = made_of(tmp_path, "a.jsonl", lines(talk))
    assert "the turns before it are the prompt" in made.notes[0]
    assert tasks[0].reference == PAGES["river"] + "river"
    assert tasks[0].prompt == (
        f"{system}\n\nUser:\n{ASKED['river']}\n\nAssistant:\n{PAGES['river']}\n\nUser:\nNow river in blue"
    )


@pytest.mark.parametrize(
    ("turns", "message_"),
    [
        ([("user", "x"), ("tool", "y"), ("assistant", "z")], "line 1: messages: 'tool' speaks"),
        ([("system", "x"), ("assistant", "z")], "line 1: messages: no user asks anything"),
        ([("user", [{"type": "image", "url": "x"}]), ("assistant", "z")], "line 1: messages: a message holds more"),
        ([("user", 5), ("assistant", "z")], "line 1: messages: a message's content is no text"),
        ([("user", "x")], "line 1: nobody answers"),
    ],
)
def test_a_conversation_that_is_no_task_is_one_line(
    tmp_path: Path, turns: list[tuple[str, Any]], message_: str
) -> None:
    data = tmp_path / "a.jsonl"
    data.write_bytes(lines(lambda *_: {"messages": [message(*turn) for turn in turns]}))
    with pytest.raises(UsageError, match=message_) as refused:
        make_suite("mine", str(data), tmp_path / "tasks")
    assert "\n" not in str(refused.value)


def test_ids_categories_and_difficulties_of_other_types(tmp_path: Path) -> None:
    labels = [
        {"id": "Set/1", "category": 0, "difficulty": "Easy"},
        {"id": 2.0, "category": 1.0, "difficulty": " MEDIUM"},
        {"id": None, "category": ["a", "b"], "difficulty": "Difficult"},
        {"id": "x" * 80, "category": None, "difficulty": 3},
        {"id": "{3f2a-9}", "category": "  landing\npage ", "difficulty": None},
        {"id": "", "category": True, "difficulty": float("nan")},
    ]
    _, tasks = made_of(tmp_path, "a.jsonl", lines(lambda w, q, a: {"prompt": q, "output": a, **labels[WORDS.index(w)]}))
    assert [task.category for task in tasks] == ["0", "1", "a, b", "other", "landing page", "True"]
    assert [task.difficulty for task in tasks] == ["easy", "medium", "hard", "3", "", ""]
    assert tasks[0].id.startswith("Set-1-") and tasks[1].id == "2" and len(tasks[3].id) == 64
    assert tasks[4].id.startswith("3f2a-9-")


def test_pages_to_change_are_the_input_and_not_the_reference(tmp_path: Path) -> None:
    made, tasks = made_of(
        tmp_path, "a.jsonl", lines(lambda w, q, a: {"instruction": q, "input": a, "output": f"<p>{w} in blue</p>"})
    )
    assert made.columns == {"prompt": "instruction", "input": "input", "reference": "output"}
    assert tasks[0].input == PAGES["river"]


def test_a_tables_odd_ends_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(',prompt , reference,\n0,"a, b", "<p>c, d</p>",\n1,e,f,\n,,,\n')
    assert [row.values for row in read_data(tmp_path / "a.csv").rows] == [
        {"prompt": "a, b", "reference": "<p>c, d</p>"},
        {"prompt": "e", "reference": "f"},
    ]
    (tmp_path / "b.tsv").write_text('prompt\treference\n"Tea" page\t<p class="x">tea</p>\n')
    assert read_data(tmp_path / "b.tsv").rows[0].values == {"prompt": '"Tea" page', "reference": '<p class="x">tea</p>'}
    (tmp_path / "c.csv").write_text(f"prompt,reference\na,{'x' * 300_000}\n")
    assert len(read_data(tmp_path / "c.csv").rows[0].values["reference"]) == 300_000


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "prompt,reference\n做一个网页,<p>网页</p>\n".encode("gbk"), r"is not UTF-8 text \(line 2\)"),
        ("a.csv", "prompt,reference\né,é\n".encode() + b"\xff,\n", r"is not UTF-8 text \(line 3\)"),
        ("a.csv", b"A tea page,<p>tea</p>\nB,<p>b</p>\n", "line 1 holds a page, not the names"),
        ("a.csv", b"prompt,reference,prompt\na,b,c\n", "two columns called 'prompt'"),
        ("a.csv", b"sep=;\nprompt;reference\na;b;c\n", "line 3 has more cells"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_data(tmp_path / name)


def test_rows_that_a_run_would_refuse_make_no_suite(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_bytes(lines(lambda *_: {"prompt": "The same wish of all", "output": "<p>x</p>"}))
    with pytest.raises(UsageError, match=r"all rows of .*a\.jsonl are near-duplicates") as refused:
        make_suite("mine", str(data), tmp_path / "tasks")
    assert "tasks" not in str(refused.value)
    assert not (tmp_path / "tasks" / "mine").exists()


@pytest.mark.parametrize("name", ["rows [1]*.jsonl", "suite.yaml"])
def test_a_file_of_any_name_makes_a_suite(tmp_path: Path, name: str) -> None:
    rows = [{"prompt": ASKED[word], "reference": PAGES[word]} for word in WORDS]
    content = json.dumps(rows).encode()  # JSON is YAML, too
    made, tasks = made_of(tmp_path, name, content)
    assert made.files[1].read_bytes() == content
    assert [task.prompt for task in tasks] == list(ASKED.values())


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).filter(
    lambda cell: cell.strip().lower() not in ABSENT
)


@given(
    rows=st.lists(st.tuples(CELL, CELL).filter(any), min_size=1, max_size=4),
    delimiter=st.sampled_from(",;\t|^~#"),
    told=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_table_that_is_written_is_read(
    rows: list[tuple[str, str]], delimiter: str, told: bool, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["prompt", "reference"])
    writer.writerows(rows)
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((f"sep={delimiter}\r\n" * told + stream.getvalue()).encode(encoding))
    assert [tuple(row.values.values()) for row in read_data(path).rows] == rows


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "messages": st.lists(
                    st.fixed_dictionaries(
                        {
                            "role": st.sampled_from(["system", "user", "assistant", "tool", None]),
                            "content": st.none() | st.text(max_size=5) | st.integers() | st.lists(st.text(max_size=2)),
                        }
                    ),
                    max_size=5,
                )
            }
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_conversation_is_read_or_refused(rows: list[Row]) -> None:
    with contextlib.suppress(UsageError):
        for row in plain_rows(("here", row) for row in rows)[0]:
            assert isinstance(row.values.get("prompt", ""), str)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".feather"])
def test_conversations_in_columnar_files(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    rows = [{"messages": [message("user", ASKED[word]), message("assistant", PAGES[word])]} for word in WORDS]
    content, path = pa.Table.from_pylist(rows), tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(content, path)
    elif suffix == ".feather":
        pyarrow.feather.write_feather(content, str(path))
    else:  # a stream, as `datasets` writes it
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, content.schema) as stream:
            stream.write_table(content)
    expected = [{"prompt": ASKED[word], "reference": PAGES[word]} for word in WORDS]
    assert [row.values for row in read_data(path).rows] == expected


def test_values_of_columnar_files_of_every_type(tmp_path: Path) -> None:
    from decimal import Decimal

    import pyarrow as pa
    import pyarrow.parquet

    schema = pa.schema(
        [
            ("prompt", pa.large_string()),
            ("meta", pa.map_(pa.string(), pa.string())),
            ("answer", pa.struct([("page", pa.struct([("html", pa.binary())]))])),
            ("id", pa.decimal128(5, 0)),
            ("category", pa.dictionary(pa.int8(), pa.string())),
            ("difficulty", pa.float64()),
        ]
    )
    rows = [
        {
            "prompt": ASKED[word],
            "meta": [("markup", PAGES[word])],
            "answer": {"page": {"html": PAGES[word].encode()}},
            "id": Decimal(number),
            "category": "even" if number % 2 else None,
            "difficulty": float("nan"),
        }
        for number, word in enumerate(WORDS, 1)
    ]
    rows[0]["answer"] = None
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "b.parquet")
    made, tasks = made_of(tmp_path, "a.parquet", (tmp_path / "b.parquet").read_bytes())
    assert made.columns == {"prompt": "prompt", "reference": "answer.page.html"}
    assert [task.id for task in tasks] == list("123456")
    assert [task.reference for task in tasks] == ["", *list(PAGES.values())[1:]]
    assert [task.category for task in tasks] == ["even", "other"] * 3
    assert {task.difficulty for task in tasks} == {""}
    by_map = make_suite("other", str(tmp_path / "b.parquet"), tmp_path / "tasks", {"reference": "meta.markup"})
    assert by_map.sample["reference"].startswith("<!DOCTYPE html>")


def test_one_instruction_for_all_rows_makes_them_no_near_duplicates(tmp_path: Path) -> None:
    instruction = "Write the HTML code of one page for the following description and nothing else"
    content = lines(lambda w, q, a: {"instruction": instruction, "input": q, "output": a})
    (tmp_path / "a.jsonl").write_bytes(content)
    made = make_suite("mine", str(tmp_path / "a.jsonl"), tmp_path / "tasks")
    suite = load_suite(SuiteLocation("mine", made.folder))
    assert suite.train and suite.held_out
    assert {task.input for task in (*suite.train, *suite.held_out)} == set(ASKED.values())
