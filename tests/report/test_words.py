"""What the report says of how much was measured, and by which scorers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report import write_index
from harness.report.changes import VotesOnPair, powers, regressions
from harness.report.terminal import show
from harness.report.view import measured, table, unequal, verdict
from harness.runs.read import read_run
from harness.runs.votes import PairVotes
from tests.compare.compare_data import SCORERS, make_rows, make_tasks, summarise
from tests.compare.conftest import write_run as write_run

WriteRun = Callable[..., Path]


def finished(folder: Path, rows: list[dict[str, Any]], **about: Any) -> Path:
    summary = summarise(rows, SCORERS, tasks=make_tasks(rows), replicates=99, **about)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_so_many_answers_to_each_is_said_only_where_it_is_true(write_run: WriteRun) -> None:
    even = make_rows(20, samples=2) + make_rows(20, ("reference",))
    controls = {"base": {"kind": "base"}, "tuned": {"kind": "tuned"}, "reference": {"kind": "control"}}
    run = read_run(finished(write_run("even", even, models=controls), even))
    assert measured(run, "starter") == "20 tasks, 2 answers to each by every model"
    odd = [row for row in even if not (row["task"].endswith("3") and row["sample"] == 1)]
    assert measured(read_run(finished(write_run("odd", odd), odd)), "starter") == "20 tasks, 1 to 2 answers to each"


def test_tasks_that_were_not_compared_are_not_counted_as_compared(write_run: WriteRun) -> None:
    rows = make_rows(64)
    for row in [row for row in rows if row["model"] == "tuned"][:39]:
        row["scores"] = dict.fromkeys(row["scores"])
        row["counts"] = {}
    run = read_run(finished(write_run("r", rows), rows))
    assert measured(run, "starter") == "64 tasks, 25 compared"
    assert unequal(run, "starter") == ["25 tasks (6 metrics)"]


def test_runs_of_other_scorers_are_told_apart_in_the_list(write_run: WriteRun) -> None:
    rows = make_rows(20)
    older = {
        **SCORERS,
        "conforming": {**SCORERS["conforming"], "version": 7},
        "chrf": {**SCORERS["chrf"], "version": 8},
    }
    for name, started, scorers in (
        ("new", "2026-03-01", SCORERS),
        ("mid", "2026-02-01", SCORERS),
        ("old", "2026-01-01", older),
    ):
        folder = finished(write_run(name, rows, started=f"{started}T00:00:00+00:00", scorers=scorers), rows)
    text = write_index(folder.parent).read_text("utf-8")
    assert text.count("Other scorers than the newest run") == 1
    assert "Other scorers than the newest run: Conforming 7, chrF 8" in text
    assert "tuned, scorer 7" in text
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    versions = {
        run["name"]: {m["name"]: m["version"] for m in run["suites"]["starter"]["metrics"]} for run in data["runs"]
    }
    assert (versions["old"]["conforming"], versions["new"]["conforming"]) == (7, 1)


def test_of_several_weights_each_tuned_model_gets_its_sentence(write_run: WriteRun) -> None:
    names = [f"{weights}/{model}" for weights in ("small-llama", "small-qwen") for model in ("base", "tuned")]
    rows = make_rows(30, names, gain=0.2)
    models = {name: {"kind": name.rpartition("/")[2], "weights": name.partition("/")[0]} for name in names}
    folder = finished(write_run("two", rows, models=models), rows, models=models)
    said = verdict(read_run(folder))
    assert "small-llama/tuned" in said.head
    (other,) = [note for note in said.notes if "small-qwen" in note]
    assert "small-qwen/tuned" in other and "small-qwen/base" in other and "points (95 % interval" in other
    stream = io.StringIO()
    show(folder, Console(file=stream, width=100))
    heads = [" ".join(line.split()) for line in stream.getvalue().splitlines() if "small-llama/ " in line]
    assert heads[0].startswith("small-llama/ small-llama/")


def test_a_loss_shows_its_own_suites_prompt_where_two_suites_number_their_tasks_alike(write_run: WriteRun) -> None:
    rows = make_rows(6, gain=-0.3) + make_rows(6, gain=-0.3, suite="other")
    for row in rows:
        row["task"] = row["task"][-4:]
    run = read_run(finished(write_run("r", rows), rows))
    tasks = {key: task.model_copy(update={"prompt": f"of {key.suite}"}) for key, task in run.tasks.items()}
    run = replace(run, tasks=tasks)
    for suite in ("starter", "other"):
        assert {item.prompt for item in regressions(run, suite)} == {f"of {suite}"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"outdated": 3}, "Of the votes on tuned and base, 3 on pages that this run no longer holds are not counted."),
        ({"outdated": 1}, "Of the votes on tuned and base, 1 on pages that this run no longer holds is not counted."),
        (
            {"votes": 1, "ties": 1, "voters": 1, "outdated": 2},
            "People did not decide between tuned and base: 1 tie, 0 both bad, 1 voter; "
            "2 more on pages that this run no longer holds are not counted.",
        ),
    ],
)
def test_votes_on_pages_that_are_gone_are_said(given: dict[str, int], said: str) -> None:
    assert VotesOnPair("base", "tuned", PairVotes(low=None, high=None, **given), []).sentence == said


def test_groups_of_near_duplicates_are_not_called_tasks(write_run: WriteRun) -> None:
    rows = make_rows(40)
    tasks = {key: {**task, "group": f"starter-{int(key[1][-4:]) // 4:04d}"} for key, task in make_tasks(rows).items()}
    folder = write_run("r", rows)
    (folder / "summary.json").write_text(json.dumps(summarise(rows, SCORERS, tasks=tasks, replicates=99)))
    run = read_run(folder)
    assert {row.tasks for row in powers(run, "starter")} == {"40 in 10 groups"}
    assert {row.change.tasks for group in table(run, "starter") for row in group.rows if row.change} == {
        "40 in 10 groups"
    }
    even = read_run(finished(write_run("even", rows), rows))
    assert {row.tasks for row in powers(even, "starter")} == {"40"}
