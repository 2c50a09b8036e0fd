from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.suite.load import SuiteLocation, find_suite, find_suites, load_suite, load_suite_file
from harness.types import sha256

FOREIGN = """\
title: Foreign
hub: {path: nobody/nothing}
columns: {prompt: instruction, input: input, reference: output}
split: {of_rows: 6, train_rows: 4}
ignore: [missing-doctype]
"""
OWN = "title: Own\nscope: fragment\nfiles: {train: [train*.yaml], held_out: [held_out.yaml]}\n"
NUMBERS = ("bread", "rivers", "clouds", "poetry", "engines", "chess", "violins", "harbours", "lamps", "wolves")


def suite(folder: Path, text: str, **files: Sequence[dict[str, Any]]) -> SuiteLocation:
    folder.mkdir(parents=True)
    (folder / "suite.yaml").write_text(text)
    for name, rows in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(rows))
    return SuiteLocation(folder.name, folder)


def task(subject: str, **more: Any) -> dict[str, Any]:
    return {"prompt": f"All about {subject}", "reference": f"<p>{subject}</p>", **more}


def foreign_rows(path: Path, count: int) -> Path:
    rows = [{"instruction": f"Page of {word}", "input": None, "output": f"<p>{word}"} for word in NUMBERS[:count]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_suites_are_found_by_name_and_by_folder(tmp_path: Path) -> None:
    suite(tmp_path / "tasks" / "beta", OWN)
    suite(tmp_path / "tasks" / "alpha", OWN)
    elsewhere = suite(tmp_path / "elsewhere", OWN)
    assert [found.name for found in find_suites(tmp_path / "tasks")] == ["alpha", "beta"]
    assert find_suite("beta", tmp_path / "tasks").folder == tmp_path / "tasks" / "beta"
    assert find_suite(str(elsewhere.folder), tmp_path / "tasks").name == "elsewhere"
    with pytest.raises(UsageError, match=r"there is no suite 'alpa' \(did you mean 'alpha'\?\)"):
        find_suite("alpa", tmp_path / "tasks")
    with pytest.raises(UsageError, match=r"there is no suite 'x' \(there is none\)"):
        find_suite("x", tmp_path / "nothing")


def test_a_suite_of_own_files_is_split_as_they_say(tmp_path: Path) -> None:
    location = suite(
        tmp_path / "own",
        OWN,
        train1=[task("bread"), task("rivers", category="x", difficulty="easy")],
        train2=[task("clouds", scope="document")],
        held_out=[task("chess", id="chess-1", input="<p>old</p>")],
    )
    loaded = load_suite(location)
    assert [one.prompt for one in loaded.train] == ["All about bread", "All about rivers", "All about clouds"]
    assert [one.scope for one in loaded.train] == ["fragment", "fragment", "document"]
    assert (loaded.train[1].category, loaded.train[1].difficulty) == ("x", "easy")
    assert loaded.held_out[0].id == "chess-1"
    assert loaded.train[0].id == sha256("All about bread\n\n")[:12]
    assert loaded.revision.startswith("sha256:")


def test_ids_of_equal_requests_are_told_apart_by_a_number(tmp_path: Path) -> None:
    twice = [task("bread"), {**task("bread"), "reference": "<b>other</b>"}]
    loaded = load_suite(suite(tmp_path / "own", OWN, train1=twice, held_out=[task("chess")]))
    assert [one.id for one in loaded.train] == [
        sha256("All about bread\n\n")[:12],
        sha256("All about bread\n\n")[:12] + "-2",
    ]


def test_a_fixed_split_holds_for_exactly_the_published_rows(tmp_path: Path) -> None:
    location = suite(tmp_path / "foreign", FOREIGN)
    published = load_suite(location, foreign_rows(tmp_path / "six.jsonl", 6))
    assert [one.reference for one in published.train] == [f"<p>{word}" for word in NUMBERS[:4]]
    assert [one.reference for one in published.held_out] == [f"<p>{word}" for word in NUMBERS[4:6]]
    for count in (5, 7, 10):
        other = load_suite(location, foreign_rows(tmp_path / f"{count}.jsonl", count))
        assert len(other.train) + len(other.held_out) == count
        assert other.split_hash != published.split_hash
    ten = load_suite(location, tmp_path / "10.jsonl")
    assert [one.reference for one in ten.train] != [f"<p>{word}" for word in NUMBERS[:4]]
    assert ten.train[0].ignore == {"missing-doctype"}


def test_foreign_columns_are_left_out_and_own_ones_are_not(tmp_path: Path) -> None:
    data = tmp_path / "rows.json"
    data.write_text(
        json.dumps([{"instruction": f"Page of {w}", "output": w, "text": "x", "score": 1} for w in NUMBERS])
    )
    assert load_suite(suite(tmp_path / "foreign", FOREIGN), data).train
    location = suite(tmp_path / "own", OWN, train1=[{**task("bread"), "catgory": "x"}], held_out=[task("chess")])
    with pytest.raises(
        UsageError, match=r"train1\.yaml, task 1: there is no key 'catgory' \(did you mean 'category'\?\)"
    ):
        load_suite(location)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "title: Field required"),
        ("title: x\n", "name the data by exactly one of `hub` and `files`"),
        ("title: x\nhub: {path: a/b}\nfiles: {rows: [a.yaml]}\n", "exactly one of `hub` and `files`"),
        ("title: x\nhub: {path: a/b}\nscpe: fragment\n", r"there is no key 'scpe' \(did you mean 'scope'\?\)"),
        ("title: x\nhub: {paht: a/b}\n", "hub.path: Field required|there is no key 'hub.paht'"),
        ("title: x\nhub: {path: a/b, revison: c}\n", r"there is no key 'hub\.revison' \(did you mean 'revision'\?\)"),
        ("title: x\nfiles: {rows: [a], train: [b]}\n", "give either `rows`"),
        ("title: x\nfiles: {train: [b]}\n", "name at least one file under `held_out`"),
        ("title: x\nhub: {path: a/b}\nheld_out_share: 1.5\n", "held_out_share: Input should be less than 1"),
        ("title: x\nhub: {path: a/b}\nignore: [missing-body]\n", "ignore.*missing-doctype"),
        ("title: x\nhub: [\n", r"suite\.yaml, line 3 is not valid YAML"),
        ("- title\n", "valid dictionary"),
    ],
)
def test_a_wrong_suite_file_is_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load_suite_file(suite(tmp_path / "own", text))
    assert "suite.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "x"}], r"task 1: there is no column 'reference' \(it has prompt"),
        ([{"id": "a1", "reference": "x"}], "task a1: there is no column 'prompt'"),
        ([{"prompt": "", "reference": "x"}], "task 1: prompt: String should have at least 1 character"),
        ([{"prompt": 5, "reference": "x"}], "task 1: prompt: Input should be a valid string"),
        ([{"id": "a/../b", "prompt": "x", "reference": ""}], r"task a/\.\./b: id: String should match pattern"),
        ([task("a", id="same"), task("b", id="same")], "task same: the id 'same' is taken by .*train1"),
        ([task("a", checks=[{"why": "x", "sea": {"text": "y"}}])], "task 1: checks"),
        ([task("a", checks="x")], "task 1: checks: `checks` is a list"),
        ([task("a", difficulty="hrad")], "task 1: difficulty: Input should be '', 'easy'"),
    ],
)
def test_a_wrong_task_is_one_line_that_names_it(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load_suite(suite(tmp_path / "own", OWN, train1=rows, held_out=[task("chess")]))
    assert "\n" not in str(refused.value)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suite\.yaml: no data file matches 'train\*\.yaml'"):
        load_suite(suite(tmp_path / "own", OWN, held_out=[task("chess")]))


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has only one row"):
        load_suite(suite(tmp_path / "foreign", FOREIGN), foreign_rows(tmp_path / "one.jsonl", 1))


def test_rows_that_all_resemble_one_another_leave_a_part_empty_and_no_error(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Draw a red circle", "output": "<p>x"},
        {"instruction": "draw a red circle!", "output": "<p>x"},
    ]
    (tmp_path / "same.json").write_text(json.dumps(rows))
    loaded = load_suite(suite(tmp_path / "foreign", FOREIGN), tmp_path / "same.json")
    assert sorted([len(loaded.train), len(loaded.held_out)]) == [0, 2]


def test_a_hub_out_of_reach_is_one_line_that_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Couldn't reach 'nobody/nothing' on the Hub\nand a second line")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(HarnessError) as refused:
        load_suite(suite(tmp_path / "foreign", FOREIGN))
    assert refused.value.exit_code == 1
    assert str(refused.value) == (
        "the data set nobody/nothing could not be loaded from the hub: Couldn't reach 'nobody/nothing' on the Hub "
        "(with a copy on disk: --data foreign=FILE (JSONL, JSON, CSV or Parquet))"
    )


def test_rows_from_the_hub_are_split_like_rows_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    location = suite(tmp_path / "foreign", FOREIGN)
    from_file = load_suite(location, foreign_rows(tmp_path / "six.jsonl", 6))
    rows = [json.loads(line) for line in (tmp_path / "six.jsonl").read_text().splitlines()]
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: datasets.Dataset.from_list(rows))
    from_hub = load_suite(location)
    assert from_hub.split_hash == from_file.split_hash
    assert from_hub.revision == "nobody/nothing@main"


def test_revision_and_split_hash_change_with_the_rows(tmp_path: Path) -> None:
    rows = [task("bread"), task("rivers")]
    first = load_suite(suite(tmp_path / "a", OWN, train1=rows, held_out=[task("chess")]))
    same = load_suite(suite(tmp_path / "b", OWN, train1=rows, held_out=[task("chess")]))
    other = load_suite(suite(tmp_path / "c", OWN, train1=rows, held_out=[{**task("chess"), "reference": "<p>new</p>"}]))
    assert (first.revision, first.split_hash) == (same.revision, same.split_hash)
    assert first.revision != other.revision
    assert first.split_hash != other.split_hash


def test_the_hub_clients_retries_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    during: list[int] = []

    def unreachable(*_: object, **__: object) -> None:
        during.append(hub_logging.get_verbosity())
        raise ConnectionError("no way")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    before = hub_logging.get_verbosity()
    (tmp_path / "suite.yaml").write_text("title: x\nhub: {path: a/b}\n")
    with pytest.raises(HarnessError, match="no way"):
        load_suite(find_suite(str(tmp_path)))
    assert during == [logging.ERROR]
    assert hub_logging.get_verbosity() == before


NAMED = """\
title: Named
hub: {path: nobody/nothing}
columns: {prompt: instruction, input: input, reference: output}
split:
  original: {of_rows: 6, train_rows: 4}
  kinds: {stratify: [kind]}
"""


def test_a_suite_may_name_several_splits(tmp_path: Path) -> None:
    location, six = suite(tmp_path / "named", NAMED), foreign_rows(tmp_path / "six.jsonl", 6)
    original = load_suite(location, six, "original")
    assert [one.reference for one in original.held_out] == [f"<p>{word}" for word in NUMBERS[4:6]]
    assert original.split == "original"
    without = suite(tmp_path / "plain", NAMED[: NAMED.index("split:")])
    default = load_suite(location, six)
    assert (default.split, default.split_hash) == ("default", load_suite(without, six).split_hash)
    assert load_suite(location, six, "kinds").split == "kinds"
    with pytest.raises(UsageError, match=r"suite named has no split 'orginal' \(did you mean 'original'\?\)"):
        load_suite(location, six, "orginal")
    with pytest.raises(UsageError, match=r"'original' of named is of exactly 6 rows; these data have 7") as refused:
        load_suite(location, foreign_rows(tmp_path / "seven.jsonl", 7), "original")
    assert "or take another split: default, kinds" in str(refused.value)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("{of_rows: 6}", "split: train_rows: Field required"),
        ("{of_rows: 6, train_rows: 6}", "train_rows must be less than of_rows"),
        ("{original: {of_rows: 6, train_rows: 9}}", "original: train_rows must be less"),
        ("{mine: {stratify: [lenght]}}", "mine.stratify.0: Input should be 'length' or 'kind'"),
        ("{mine: 5}", "split 'mine' is {of_rows"),
        ("{'a b': {stratify: [kind]}}", "'a b' cannot be the name of a split"),
        ("5", "splits are written NAME"),
    ],
)
def test_a_wrong_split_is_one_line_that_names_it(tmp_path: Path, split: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        load_suite_file(suite(tmp_path / "own", f"title: x\nhub: {{path: a/b}}\nsplit: {split}\n"))
    assert "\n" not in str(refused.value)


def test_files_that_are_split_take_no_other_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`train` and `held_out` are split already"):
        load_suite_file(suite(tmp_path / "own", OWN + "split: {of_rows: 6, train_rows: 4}\n"))
