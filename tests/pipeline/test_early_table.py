"""The table so far says what the finished run says of the same rows, once, and only while a tuned model is missing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from harness.compare import summarise
from harness.pipeline.config import MeasuredSuite
from harness.pipeline.early_table import EarlyTable
from harness.progress.schedule import Schedule, Step
from harness.report.numbers import interval, signed
from harness.runs.manifest import BASE, CONTROL, FEW_SHOT, TUNED, Manifest, ModelEntry, SuiteEntry
from harness.runs.pairs import Pair
from harness.runs.samples import SampleRecord
from harness.runs.shard import Shard
from harness.types import Suite, Task
from tests.compare.compare_data import SCORERS, make_rows, records_of, scorers_of

MODELS = ("base", "base-fewshot", "tuned")
KINDS = {"base": BASE, "base-fewshot": FEW_SHOT, "tuned": TUNED, "reference": CONTROL}
TASKS = 24


@pytest.fixture(scope="module")
def rows() -> list[SampleRecord]:
    """As they come: controls, then model by model."""
    made = make_rows(TASKS, ("reference", *MODELS), gain=0.3, samples=2, suite="small")
    return sorted(records_of(made), key=lambda row: ["reference", *MODELS].index(row.model))


def part(shard: Shard | None = None) -> MeasuredSuite:
    tasks = tuple(Task(f"small-{number:04d}", f"Write small-{number:04d}") for number in range(TASKS))
    suite = Suite("small", "Small", "document", frozenset(), "", (), tasks, "")
    return MeasuredSuite(suite, tasks, shard)


def looked(rows: Sequence[Sequence[SampleRecord]], tmp_path: Path, shard: Shard | None = None, left: float = 60) -> str:
    """What is said when there are first these rows, then those."""
    manifest = Manifest(
        models={name: ModelEntry(kind=kind) for name, kind in KINDS.items()},
        suites={"small": SuiteEntry(title="Small")},
        scorers=scorers_of(SCORERS),
    )
    said = io.StringIO()
    steps = [Step("pages", "pages", 1, lambda: left, lambda done, took: None)]
    console = Console(file=said, width=80, color_system=None)
    early = EarlyTable(manifest, dict.fromkeys(MODELS, 2), Schedule(steps), tmp_path / "run", console)
    for some in rows:
        early.look(part(shard), some)
    assert not (tmp_path / "run").exists()
    return said.getvalue()


def test_it_says_what_the_whole_answer_says_of_the_two(rows: list[SampleRecord], tmp_path: Path) -> None:
    known = [row for row in rows if row.model != "tuned"]
    said = looked([known], tmp_path)
    assert said.startswith("So far, tuned still to come: Small, 24 tasks, 2 answers to each by every model\n")
    assert max(map(len, said.splitlines())) <= 80
    finished = summarise(rows, scorers_of(SCORERS), pairs=[Pair("base", "base-fewshot"), Pair("base", "tuned")])
    differences = finished.suites["small"].pairs[Pair("base", "base-fewshot")]
    primary = {name for name, scorer in SCORERS.items() if scorer["primary"]}
    assert primary
    for name, scorer in SCORERS.items():
        entry = differences[name]
        shown = f"{signed(entry.difference, scorer['scale'])} ({interval(entry, scorer['scale'], sign=True)})"
        assert (shown in said) == (f"★ {scorer['label']}" in said) == (name in primary), name


def test_it_comes_once_and_only_in_between(rows: list[SampleRecord], tmp_path: Path) -> None:
    count = 2 * TASKS
    stages = [rows[:end] for end in (count, 3 * count - 1, 3 * count, 3 * count + 5, 4 * count)]
    assert looked(stages[:2], tmp_path) == ""
    assert looked(stages, tmp_path).count("So far") == 1
    assert looked(stages[4:], tmp_path) == ""


def test_it_is_not_worth_it_right_before_the_end_nor_of_a_shard(rows: list[SampleRecord], tmp_path: Path) -> None:
    known = [row for row in rows if row.model != "tuned"]
    assert looked([known], tmp_path, left=5) == ""
    assert looked([known], tmp_path, shard=Shard(1, 1)) == ""
