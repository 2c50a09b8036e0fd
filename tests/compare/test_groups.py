"""Near-duplicates are one unit: four copies of a task are no four tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.compare.command import describe
from harness.compare.runs import compare_runs, freeze
from harness.runs.read import load_run
from tests.compare.compare_data import SCORERS, Row, make_rows, make_tasks, scorers_of, summarise

Tasks = dict[tuple[str, str], dict[str, Any]]


def copied(rows: Sequence[Row], times: int) -> tuple[list[Row], Tasks]:
    """Each task `times` times under names of their own, of one group."""
    out = [{**row, "task": f"copy-{copy}{row['task'][-4:]}"} for row in rows for copy in range(times)]
    tasks: Tasks = {
        ("starter", f"copy-{copy}{task[-4:]}"): {**about, "task": f"copy-{copy}{task[-4:]}"}
        | ({"group": f"copy-0{task[-4:]}"} if copy else {})
        for (_, task), about in make_tasks(rows).items()
        for copy in range(times)
    }
    return out, tasks


def pairs_of(rows: Sequence[Row], tasks: Tasks | None = None) -> dict[str, dict[str, Any]]:
    summary = summarise(rows, SCORERS, tasks=tasks, replicates=999)
    found: dict[str, dict[str, Any]] = summary["suites"]["starter"]["pairs"]["base:tuned"]
    return found


def test_copies_of_a_task_change_nothing() -> None:
    rows = make_rows(40, gain=0.2)
    once = pairs_of(rows)
    grouped = pairs_of(*copied(rows, 4))
    alone = pairs_of(copied(rows, 4)[0])
    for metric, entry in once.items():
        again = grouped[metric]
        assert (again["n"], again["tasks"]) == (40, 160)
        for key in ("difference", "low", "high", "p"):
            assert again[key] == pytest.approx(entry[key]), metric
        assert alone[metric]["high"] - alone[metric]["low"] < 0.7 * (entry["high"] - entry["low"])


def test_a_group_weighs_as_one_in_means_and_corpora() -> None:
    rows = make_rows(20)
    copies, tasks = copied([row for row in rows if row["task"].endswith("0007")], 5)
    rest = [row for row in rows if not row["task"].endswith("0007")]
    tasks |= make_tasks(rest)
    suite = summarise(rest + copies, SCORERS, tasks=tasks, replicates=99)["suites"]["starter"]
    plain = summarise(rows, SCORERS, replicates=99)["suites"]["starter"]
    assert (suite["tasks"], suite["units"]) == (24, 20)
    for metric in ("conforming", "chrf", "bleu_dom"):
        assert suite["metrics"][metric]["tuned"]["mean"] == pytest.approx(plain["metrics"][metric]["tuned"]["mean"])
        assert suite["metrics"][metric]["tuned"]["n"] == 20


def test_groups_whose_tasks_differ_are_tested_by_flipping_groups() -> None:
    random = np.random.default_rng(1)
    rows, tasks = copied(make_rows(30), 3)
    for row in rows:
        row["scores"]["conforming"] = int(random.random() < (0.8 if row["model"] == "tuned" else 0.3))
    entry = pairs_of(rows, tasks)["conforming"]
    changes: dict[str, list[int]] = {}
    scores = {(row["task"], row["model"]): row["scores"]["conforming"] for row in rows}
    for task, model in scores:
        if model == "base":
            changes.setdefault(task[-4:], []).append(scores[task, "tuned"] - scores[task, "base"])
    groups = np.array([np.mean(values) for values in changes.values()])
    signs = np.random.default_rng(0).choice([-1, 1], (20_000, len(groups)))
    flipped = np.mean(np.abs(signs @ groups) >= abs(groups.sum()) - 1e-9)
    assert entry["difference"] == pytest.approx(groups.mean())
    assert entry["p"] == pytest.approx(flipped, abs=2e-3)
    assert entry["method"] == "Bonett-Price over groups, exact sign-flip test"
    assert entry["detectable"] > 0


def test_fewer_than_twenty_groups_are_too_few_however_many_tasks() -> None:
    rows, tasks = copied(make_rows(19, gain=0.55), 10)
    verdict = summarise(rows, SCORERS, tasks=tasks, replicates=99)["verdict"]
    assert verdict["word"] == "too few tasks to tell"
    assert "190 tasks in 19 groups of near-duplicates" in verdict["sentence"]


def test_groups_are_read_from_a_run_and_kept_in_frozen_scores(write_run: Callable[..., Path], tmp_path: Path) -> None:
    rows, tasks = copied(make_rows(25, gain=0.3), 2)
    folder = write_run("r", rows)
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks.values()), "utf-8")
    run = load_run(folder)
    for one in (run, load_run(freeze(run, tmp_path / "frozen.json"))):
        result = compare_runs(one, "base", one, "tuned", replicates=99)
        assert result.summary.suites["starter"].pairs[result.pair]["conforming"].n == 25
        assert any(line.startswith("starter, 50 tasks in 25 groups") for line in describe(result, scorers_of(SCORERS)))


def test_near_duplicates_count_once_whichever_run_was_written_with_them(write_run: Callable[..., Path]) -> None:
    folder = write_run("grouped", make_rows(40, gain=0.3))
    records = [json.loads(line) for line in (folder / "tasks.jsonl").read_text("utf-8").splitlines()]
    records = [record | {"group": records[number // 4 * 4]["task"]} for number, record in enumerate(records)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    with_groups, older = load_run(folder), load_run(write_run("older", make_rows(40)))
    for left, right in ((with_groups, older), (older, with_groups)):
        assert compare_runs(left, "tuned", right, "tuned", replicates=99).summary.suites["starter"].units == 10
