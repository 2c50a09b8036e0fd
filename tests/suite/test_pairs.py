from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.pipeline.config import RunConfig, resolve
from harness.suite.load import SuiteLocation, load_suite
from harness.suite.new import make_suite
from harness.suite.rows import data_sha256, read_data, revision_of

WORDS = ("river", "teapot", "lantern", "compass", "harvest", "walnut")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "my pages"
    (found / "forms").mkdir(parents=True)
    (found / ".hidden").mkdir()
    for word in WORDS[:5]:
        (found / f"{word} page.md").write_text(f"A page about a {word}\n")
        (found / f"{word} page.html").write_text(f"<html><body><p>{word}</p></body></html>\n")
    (found / "forms" / "walnut.txt").write_bytes("Turn the walnut caf\u00e9 blue".encode("cp1252"))
    (found / "forms" / "walnut.HTM").write_text("<html><body><b>walnut</b></body></html>")
    (found / "forms" / "walnut.input.html").write_text("<html><body><p>walnut</p></body></html>")
    for other in ("README.md", "lonely.html", "style.css", ".hidden/a.md", ".hidden/a.html"):
        (found / other).write_text("x")
    return found


def test_pairs_are_rows_with_their_names_as_ids(folder: Path) -> None:
    data = read_data(folder)
    assert [row.values["prompt"] for row in data.rows][:2] == ["A page about a compass", "Turn the walnut café blue"]
    walnut = data.rows[1]
    assert walnut.values == {
        "id": "forms-walnut",
        "prompt": "Turn the walnut café blue",
        "input": "<html><body><p>walnut</p></body></html>",
        "reference": "<html><body><b>walnut</b></body></html>",
        "category": "forms",
    }
    assert str(data.rows[0].values["id"]).startswith("compass-page-")
    assert data.notes[0].startswith("walnut.txt: not UTF-8; read as Windows-1252, with words such as café")
    assert data.notes[1] == "without a partner, so left out: README.md, lonely.html"


def test_a_folder_of_pairs_becomes_a_suite_that_runs(folder: Path, tmp_path: Path) -> None:
    made = make_suite("mine", str(folder), tmp_path / "tasks")
    copied = sorted(path.name for path in made.files[1].rglob("*") if path.is_file())
    assert len(copied) == 13 and "README.md" not in copied
    assert revision_of([made.files[1]]) == revision_of([folder])
    plan = resolve(RunConfig(profile="smollm2-135m", models=("base",), suites=(str(made.folder),)))
    suite = plan.measured[0].suite
    assert suite.train and suite.held_out and len((*suite.train, *suite.held_out)) == len(WORDS)
    assert {task.category for task in (*suite.train, *suite.held_out)} == {"forms", "other"}


def test_a_folder_of_pairs_does_for_any_suite(folder: Path, tmp_path: Path) -> None:
    made = make_suite("mine", str(folder), tmp_path / "tasks")
    (tmp_path / "other").mkdir()
    text = "title: Other\nhub: {path: a/b}\ncolumns: {prompt: instruction, reference: output}\n"
    (tmp_path / "other" / "suite.yaml").write_text(text)
    given = load_suite(SuiteLocation("other", tmp_path / "other"), folder)
    assert {task.id for task in (*given.train, *given.held_out)} == {row.values["id"] for row in read_data(folder).rows}
    config = RunConfig(profile="smollm2-135m", models=("base",), suites=(str(made.folder),))
    config = RunConfig(**{**vars(config), "data": {str(made.folder): folder}})
    names = {resolve(config).run_name}
    before = data_sha256(folder)
    (folder / "style.css").write_text("what is no part of a pair decides nothing")
    assert data_sha256(folder) == before
    (folder / "river page.html").write_text("<p>another river</p>")
    assert data_sha256(folder) != before
    assert resolve(config).run_name not in names


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a.md": "x"}, r"holds no pairs \(NAME\.md or NAME\.txt with the prompt beside NAME\.html\)"),
        ({"a.md": "x", "a.txt": "y", "a.html": "z"}, r"a\.txt and a\.md have one name"),
        ({"a.md": "x", "a.html": "y", "a.htm": "z"}, r"a\.html and a\.htm have one name"),
        ({"a.md": " \n", "a.html": "<p>a", "b.md": "b", "b.html": "<p>b"}, r"a\.md: prompt: "),
        ({"a.md": "x", "a.html": "<p>x"}, "holds one row"),
    ],
)
def test_a_folder_that_is_no_data_is_one_line(tmp_path: Path, files: dict[str, str], told: str) -> None:
    (tmp_path / "pages").mkdir()
    for name, text in files.items():
        (tmp_path / "pages" / name).write_text(text)
    with pytest.raises(UsageError, match=told) as refused:
        make_suite("mine", str(tmp_path / "pages"), tmp_path / "tasks")
    assert "\n" not in str(refused.value) and "tasks" not in str(refused.value)
    assert not (tmp_path / "tasks" / "mine").exists()


def test_a_suite_is_no_data_for_another(tmp_path: Path) -> None:
    made = make_suite("mine", None, tmp_path)
    with pytest.raises(UsageError, match="is a suite already"):
        make_suite("other", str(made.folder), tmp_path)
