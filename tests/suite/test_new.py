from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.words import Locator, Step
from harness.errors import UsageError
from harness.runs.pairs import Pair
from harness.suite.columns import guess_columns, guess_form
from harness.suite.load import SuiteLocation, load_suite, load_suite_file
from harness.suite.new import USUAL_COLUMNS, make_suite
from tests.compare.compare_data import gate

STRING = datasets.Value("string")

PAGE = '<!DOCTYPE html><html lang="en"><head><title>T</title></head><body><p>{}</p></body></html>'


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["instruction", "input", "output"], {"prompt": "instruction", "input": "input", "reference": "output"}),
        (["Question", "Context", "Response"], {"prompt": "Question", "input": "Context", "reference": "Response"}),
        (["id", "prompt", "completion"], {"prompt": "prompt", "reference": "completion"}),
        (["category", "wish", "html"], {"prompt": "wish", "reference": "html"}),
    ],
)
def test_columns_are_told_by_their_names(names: list[str], expected: dict[str, str]) -> None:
    assert guess_columns(names, [], "data.csv") == expected


def test_a_column_of_pages_is_the_reference_whatever_it_is_called() -> None:
    rows = [{"wish": "a list", "seite": "<ul><li>a</li></ul>"}, {"wish": "1 < 2", "seite": "<p>b</p>"}]
    assert guess_columns(["wish", "seite"], rows, "data.csv") == {"prompt": "wish", "reference": "seite"}


def test_what_cannot_be_told_is_said_with_the_columns_that_are_there() -> None:
    with pytest.raises(UsageError, match=r"for the prompt; it has a, b"):
        guess_columns(["a", "b"], [{"a": "x", "b": "y"}], "data.csv")


@given(
    st.lists(st.dictionaries(st.text(max_size=8), st.one_of(st.none(), st.text(max_size=20)), max_size=4), max_size=5)
)
def test_any_table_is_guessed_or_refused(rows: list[dict[str, str | None]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        columns = guess_columns(names, rows, "data.csv")
    except UsageError:
        return
    assert {"prompt", "reference"} <= set(columns) <= {"prompt", "input", "reference"}
    used = [columns["prompt"], columns["reference"], *filter(None, [columns.get("input")])]
    assert len(set(used)) == len(used)
    assert set(used) <= set(names)


def test_the_form_follows_most_references() -> None:
    bare = "<html><body><p>x</p></body></html>"
    assert guess_form([PAGE, PAGE, bare]) == ("document", [])
    assert guess_form([bare, bare, PAGE]) == ("document", ["missing-doctype", "missing-title"])
    assert guess_form(["<form></form>", "<ul></ul>", PAGE]) == ("fragment", [])


def test_a_csv_becomes_a_suite_that_loads(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    checks = "[{why: one, level: must, see: {text: one}}]"
    lines = [
        "id,instruction,output,notes,checks",
        f'7,A page,"{PAGE.format("one")}",x,"{checks}"'.replace('lang="en"', ""),
    ]
    lines += [f"{n},Another page number {n} of some kind,<p>{n}</p>,x," for n in (8, 9)]
    source.write_text("\n".join(lines), encoding="utf-8")
    made = make_suite("mine", str(source), tmp_path / "tasks")
    assert made.columns == {"prompt": "instruction", "reference": "output"}
    suite = load_suite(SuiteLocation("mine", made.folder))
    tasks = {task.id: task for task in (*suite.train, *suite.held_out)}
    assert set(tasks) == {"7", "8", "9"}
    assert suite.train and suite.held_out
    assert tasks["7"].checks[0].steps == (Step("see", Locator(text="one")),)
    assert (made.folder / "rows.csv").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in made.folder.iterdir()) == ["rows.csv", "suite.yaml"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda page: page, ""),
        (html.escape, "4 of 4 references hold no HTML, but HTML written as entities"),
        (lambda page: f"All about {page[-40:-20]!r}".replace("<", ""), "4 of 4 references hold no HTML"),
    ],
)
def test_references_that_are_no_pages_are_said(tmp_path: Path, written: Callable[[str], str], said: str) -> None:
    topics = ["rivers of the north", "my grandmother's cakes", "chess for two", "trains at night"]
    rows: list[dict[str, object]] = [
        {"prompt": f"Write on {topic}", "reference": written(PAGE.format(topic))} for topic in topics
    ]
    notes = make_suite("mine", str(_write(tmp_path / "rows.jsonl", rows)), tmp_path).notes
    found = [note for note in notes if "hold no HTML" in note]
    assert len(found) == bool(said) and all(note.startswith(said) for note in found)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = make_suite("mine", None, tmp_path)
    before = (made.folder / "suite.yaml").read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        make_suite("mine", None, tmp_path)
    assert (made.folder / "suite.yaml").read_bytes() == before


def test_data_that_do_not_load_leave_nothing_behind(tmp_path: Path) -> None:
    source = _write(tmp_path / "rows.jsonl", [{"id": "a", "prompt": "x", "output": "<p>"}] * 2)
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 2: the id 'a' is taken") as error:
        make_suite("mine", str(source), tmp_path / "tasks")
    assert "tasks" not in str(error.value)
    assert list((tmp_path / "tasks").iterdir()) == []


def test_the_example_loads_with_checks_and_both_parts(tmp_path: Path) -> None:
    made = make_suite("mine", None, tmp_path)
    suite = load_suite(SuiteLocation("mine", made.folder))
    assert len(suite.train) == len(suite.held_out) == 1
    assert all(task.checks for task in (*suite.train, *suite.held_out))


def test_an_odd_file_name_and_column_survive_yaml(tmp_path: Path) -> None:
    source = _write(
        tmp_path / "my: rows # 1.jsonl", [{"prompt": f"page {n}", "out{put}, ü": f"<p>{n}</p>"} for n in range(3)]
    )
    made = make_suite("mine", str(source), tmp_path / "tasks")
    content = yaml.safe_load((made.folder / "suite.yaml").read_text(encoding="utf-8"))
    assert content["columns"]["reference"] == "out{put}, ü"
    assert content["scope"] == "fragment"


@pytest.mark.parametrize(
    ("name", "source"), [("../x", None), ("", None), ("a b", None), ("ok", "gone.csv"), ("ok", "what")]
)
def test_wrong_words_are_refused_in_one_line(tmp_path: Path, name: str, source: str | None) -> None:
    with pytest.raises(UsageError) as error:
        make_suite(name, source, tmp_path / "tasks")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize(
    ("features", "columns", "told"),
    [
        (["id", "question", "html"], {"prompt": "question", "reference": "html"}, ()),
        (None, USUAL_COLUMNS, ("own/rows could not be reached, so its columns are assumed: look at `columns:`",)),
    ],
    ids=["reached", "out of reach"],
)
def test_of_a_hub_id_the_columns_are_looked_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    features: list[str] | None,
    columns: dict[str, str],
    told: tuple[str, ...],
) -> None:
    def builder(hub_id: str) -> SimpleNamespace:
        assert hub_id == "own/rows"
        if features is None:
            raise ConnectionError("no network")
        return SimpleNamespace(info=SimpleNamespace(features=datasets.Features(dict.fromkeys(features, STRING))))

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    made = make_suite("mine", "own/rows", tmp_path)
    assert made.columns == columns
    assert [note[: len(start)] for note, start in zip(made.notes, told, strict=True)] == list(told)
    file = load_suite_file(SuiteLocation("mine", made.folder))
    assert file.hub is not None
    assert (file.hub.path, file.columns.prompt, file.columns.reference) == (
        "own/rows",
        columns["prompt"],
        columns["reference"],
    )


def test_a_data_set_that_the_hub_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def builder(hub_id: str) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'own/rwos' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    with pytest.raises(UsageError, match="the hub has no data set own/rwos"):
        make_suite("mine", "own/rwos", tmp_path)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["my.suite", "a_b-c.d", "2024"])
def test_a_name_that_is_taken_is_one_that_the_gate_can_hold(name: str, tmp_path: Path) -> None:
    from harness.suite.load import find_suite

    make_suite(name, None, tmp_path)
    assert find_suite(str(tmp_path / name)).name == name
    entry = {"primary": True, "p": 0.5, "p_adjusted": 0.5, "difference": 0.0, "low": -1.0, "high": 1.0, "n": 30}
    entry |= {"tasks": 30, "dropped": 0, "missing": {"notable": False}}
    suite = {"metrics": {"chrf": {}}, "pairs": {"base:tuned": {"chrf": entry}}, "verdicts": {}}
    summary = {"pairs": ["base:tuned"], "suites": {name: suite}}
    rules = (f"no chrf@{name} worse", f"chrf@{name} difference >= -5e-2", f"chrf@{name} low > -2")
    assert all(check.passed and check.suite == name for check in gate(summary, rules, Pair("base", "tuned")))


@pytest.mark.parametrize("name", ["my suite", "-x", "a@b", "ä", "x" * 65, ""])
def test_a_name_that_no_rule_could_hold_is_refused_everywhere(name: str, tmp_path: Path) -> None:
    from harness.suite.load import find_suite

    with pytest.raises(UsageError, match="cannot be the name of a suite"):
        make_suite(name, None, tmp_path)
    if name:
        made = make_suite("fine", None, tmp_path).folder.rename(tmp_path / name)
        with pytest.raises(UsageError, match="cannot be the name of a suite"):
            find_suite(str(made))
