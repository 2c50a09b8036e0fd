"""What is absent never passes: missing answers, pages that overran, the gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.compare.command import Asked, RunPlaces, describe, run_compare_command
from harness.compare.gate import AS_MANY, EVERY_PRIMARY, MOST_TASKS, NO_RULE, gate_runs
from harness.compare.runs import compare_runs, freeze
from harness.errors import EXIT_DONE, EXIT_GATE
from harness.runs.read import load_run
from tests.compare.compare_data import SCORERS, Row, gate, make_rows, scorers_of, summarise

WriteRun = Callable[..., Path]
PRIMARY = ("conforming", "checks_must", "bleu_dom")


def lose(rows: Sequence[Row], model: str, tasks: int, *, only: str = "") -> list[Row]:
    """Take the worst answers of a model away: no row says anything, or only one metric lacks its number."""
    own = sorted((row for row in rows if row["model"] == model), key=lambda row: row["scores"]["checks_must"])
    for row in own[:tasks]:
        if only:
            row["scores"][only] = None
        else:
            row["scores"] = dict.fromkeys(row["scores"])
            row["counts"] = {}
    return list(rows)


def summary_of(rows: Sequence[Row], **options: Any) -> dict[str, Any]:
    return summarise(rows, SCORERS, replicates=999, **options)


@pytest.mark.parametrize("gone", ["null", "no row"])
def test_a_model_that_answers_what_it_likes_is_not_better(gone: str) -> None:
    rows = lose(make_rows(64, gain=0.25), "tuned", 39)
    if gone == "no row":
        rows = [row for row in rows if row["model"] == "base" or row["counts"]]
        rows += make_rows(64, ("empty",))
    summary = summary_of(rows)
    entries = summary["suites"]["starter"]["pairs"]["base:tuned"]
    for metric in PRIMARY:
        entry = entries[metric]
        assert (entry["n"], entry["tasks"], entry["dropped"]) == (25, 25, 39)
        assert entry["missing"] == {"asked": 64, "first": 0, "second": 39, "notable": True}
        assert entry["worst_case"]["low"] < entry["difference"] < entry["worst_case"]["high"]
        assert not entry["worst_case"]["holds"]
    verdict = summary["verdict"]
    assert verdict["word"] == "too few tasks to tell"
    assert "25 of 64 tasks" in verdict["sentence"]
    assert sum(warning.startswith("Missing: ") for warning in verdict["warnings"][:3]) == 3
    assert not all(check.passed for check in gate(summary))


def test_a_loss_is_not_called_one_either_where_missing_answers_could_undo_it() -> None:
    rows = lose(make_rows(64, ("base", "tuned"), gain=0.25), "tuned", 39)
    assert summarise(rows, SCORERS, pairs=[("tuned", "base")], replicates=999)["verdict"]["word"] != "worse"


def test_bounds_are_those_of_the_worst_and_the_best_that_could_be_missing() -> None:
    rows = make_rows(40, gain=0.2)
    rows = lose(lose(rows, "tuned", 7, only="conforming"), "base", 4, only="conforming")
    entry = summary_of(rows)["suites"]["starter"]["pairs"]["base:tuned"]["conforming"]
    by_task: dict[str, dict[str, float | None]] = {}
    for row in rows:
        by_task.setdefault(row["task"], {})[row["model"]] = row["scores"]["conforming"]
    ends = []
    for base, tuned in ((1, 0), (0, 1)):
        filled = [
            (tuned if s["tuned"] is None else s["tuned"]) - (base if s["base"] is None else s["base"])
            for s in by_task.values()
        ]
        ends.append(np.mean(filled))
    assert (entry["worst_case"]["low"], entry["worst_case"]["high"]) == pytest.approx(tuple(ends))


def test_bounds_of_corpus_bleu_are_empty_pages_and_the_reference() -> None:
    rows = make_rows(30, gain=0.2)
    lost = next(row for row in rows if row["model"] == "tuned")
    whole = lost["counts"].pop("bleu_dom")
    lost["scores"]["bleu_dom"] = None
    worst = summary_of(rows)["suites"]["starter"]["pairs"]["base:tuned"]["bleu_dom"]["worst_case"]
    ends = []
    for counts in ([0, whole[1], *[0] * 8], [whole[1], whole[1], *[max(whole[1] - k, 0) for k in range(4)] * 2]):
        lost["scores"]["bleu_dom"], lost["counts"]["bleu_dom"] = 0.0, counts
        ends.append(summary_of(rows)["suites"]["starter"]["pairs"]["base:tuned"]["bleu_dom"]["difference"])
    assert (worst["low"], worst["high"]) == pytest.approx(tuple(ends))


def test_a_gain_that_the_worst_case_holds_is_still_one() -> None:
    rows = lose(make_rows(136, gain=0.45), "tuned", 2)
    summary = summary_of(rows)
    assert summary["verdict"]["word"] == "better"
    assert summary["verdict"]["warnings"][0].startswith("Missing: Conforming lacks numbers on 0 of 136 tasks of base")


def test_one_answer_missing_on_both_sides_is_counted_and_not_said_first() -> None:
    rows = make_rows(64, gain=0.4)
    for row in rows:
        if row["task"].endswith("0009"):
            row["scores"]["conforming"] = None
    summary = summary_of(rows)
    entry = summary["suites"]["starter"]["pairs"]["base:tuned"]["conforming"]
    assert entry["missing"] == {"asked": 64, "first": 1, "second": 1, "notable": False}
    assert not any(warning.startswith("Missing") for warning in summary["verdict"]["warnings"])
    assert all(check.passed for check in gate(summary))


def test_a_sample_that_no_task_has_is_not_missing() -> None:
    rows = make_rows(30, samples=2)
    never = [
        {**row, "scores": dict.fromkeys(row["scores"]), "counts": {}}
        if row["sample"] and row["model"] == "tuned"
        else row
        for row in rows
    ]
    entry = summary_of(never)["suites"]["starter"]["pairs"]["base:tuned"]["conforming"]
    assert (entry["missing"]["first"], entry["missing"]["second"]) == (0, 0)
    (one, *_) = [row for row in never if row["model"] == "base" and row["sample"]]
    one["scores"]["conforming"] = None
    entry = summary_of(never)["suites"]["starter"]["pairs"]["base:tuned"]["conforming"]
    assert (entry["missing"]["first"], entry["dropped"]) == (1, 0)


def test_metrics_that_apply_to_nobody_are_not_missing() -> None:
    rows = make_rows(30)
    for row in rows:
        del row["scores"]["checks_must"]
    for row in rows[:6]:  # answers that never came have null everywhere
        row["scores"] = dict.fromkeys(SCORERS)
        row["counts"] = {}
    summary = summary_of(rows)
    assert "checks_must" not in summary["suites"]["starter"]["pairs"]["base:tuned"]
    assert not any("Checks" in warning for warning in summary["verdict"]["warnings"])


def test_pages_that_overran_unequally_are_also_counted_as_failures() -> None:
    rows = lose(make_rows(64, gain=0.3), "tuned", 5, only="conforming")
    warnings = summary_of(rows)["verdict"]["warnings"]
    (said,) = [warning for warning in warnings if warning.startswith("Pages that could not be measured")]
    assert said.startswith("Pages that could not be measured: 0 of base, 5 of tuned. Counted as failures: tuned ")
    for row in rows:
        row["scores"]["conforming"] = row["scores"]["conforming"] or 0
    filled = summary_of(rows)["verdict"]["sentence"]
    assert said.endswith(filled)
    both = lose(lose(make_rows(64, gain=0.3), "tuned", 5, only="conforming"), "base", 5, only="conforming")
    assert not any("Counted as failures" in warning for warning in summary_of(both)["verdict"]["warnings"])


def test_a_primary_metric_without_any_number_is_named() -> None:
    rows = make_rows(30)
    for row in rows:
        row["scores"]["checks_must"] = None
    warnings = summary_of(rows)["verdict"]["warnings"]
    assert "Not measured: Checks, on which the verdict was to rest." in warnings


def test_a_control_above_both_models_is_said_and_the_reference_is_not() -> None:
    rows = make_rows(40, gain=0.1) + make_rows(40, ("shuffled", "reference", "empty"), gain=0.55, seed=3)
    for row in rows:
        if row["model"] == "empty":
            row["scores"] |= {"conforming": 0, "checks_must": 0.0}
            row["counts"]["bleu_dom"] = [0, row["counts"]["bleu_dom"][1], *[0] * 8]
    warnings = summary_of(rows)["verdict"]["warnings"]
    (said,) = [warning for warning in warnings if "no model wrote" in warning]
    assert "shuffled in Conforming (" in said
    assert "DOM BLEU (" in said
    assert "reference in" not in said
    assert "empty in" not in said


def test_means_and_difference_in_one_line_are_over_the_same_tasks(write_run: WriteRun) -> None:
    run = load_run(write_run("r", lose(make_rows(40), "tuned", 10)))
    result = compare_runs(run, "base", run, "tuned", replicates=99)
    for entry in result.summary.suites["starter"].pairs[result.pair].values():
        assert entry.sides is not None
        assert entry.sides[1] - entry.sides[0] == pytest.approx(entry.difference)
    lines = describe(result, scorers_of(SCORERS))
    assert any(
        line.startswith("starter, 30 of 40 tasks (points, means over the tasks that both have") for line in lines
    )


def failing(checks: Sequence[Any]) -> set[tuple[str, str]]:
    return {(check.rule, check.metric) for check in checks if not check.passed}


def test_the_gate_fails_where_a_primary_metric_was_left_out(write_run: WriteRun) -> None:
    newer = {**SCORERS, "conforming": {**SCORERS["conforming"], "version": 2}}
    first = load_run(write_run("a", make_rows(64)))
    second = load_run(write_run("b", make_rows(64, gain=0.4), scorers=newer))
    result = compare_runs(first, "tuned", second, "tuned", replicates=99)
    assert failing(gate_runs(result)) == {(EVERY_PRIMARY, "conforming")}
    named = gate_runs(result, ["no conforming worse", "conforming@starter mean >= 0", "verdict is not worse"])
    assert failing(named) == {
        ("no conforming worse", "conforming"),
        ("conforming@starter mean >= 0", "conforming"),
        (EVERY_PRIMARY, "conforming"),
    }


@pytest.mark.parametrize(("shared", "held"), [(58, True), (57, False)])
def test_the_gate_wants_nine_tenths_of_the_tasks(write_run: WriteRun, shared: int, held: bool) -> None:
    rows = make_rows(64, gain=0.4)
    for row in rows[2 * shared :]:
        row["prompt_sha"] = "another"
    result = compare_runs(
        load_run(write_run("a", make_rows(64))), "tuned", load_run(write_run("b", rows)), "tuned", replicates=99
    )
    assert all(check.passed for check in gate_runs(result)) is held
    assert failing(gate_runs(result)) == (set() if held else {(MOST_TASKS, metric) for metric in PRIMARY})


def test_a_suite_that_only_one_run_measured_fails(write_run: WriteRun) -> None:
    first = load_run(write_run("a", make_rows(64) + make_rows(30, suite="other")))
    second = load_run(write_run("b", make_rows(64, gain=0.4)))
    result = compare_runs(first, "tuned", second, "tuned", replicates=99)
    assert failing(gate_runs(result)) == {(MOST_TASKS, "tasks")}
    assert ("conforming@other low > -1", "conforming") in failing(gate_runs(result, ["conforming@other low > -1"]))


def test_numbers_missing_on_more_tasks_of_one_model_fail_the_default_gate_only(write_run: WriteRun) -> None:
    run = load_run(write_run("r", lose(make_rows(64, gain=0.45), "tuned", 1, only="conforming")))
    result = compare_runs(run, "base", run, "tuned", replicates=499)
    assert failing(gate_runs(result)) == {(AS_MANY, "conforming")}
    assert not failing(gate_runs(result, ["verdict is better"]))


def test_no_rule_is_no_pass_and_junit_says_so(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("r", make_rows(64, gain=0.4))
    junit = tmp_path / "gate.xml"
    options: dict[str, Any] = {"places": RunPlaces(tmp_path / "reports"), "replicates": 99, "say": list[str]().append}
    assert run_compare_command("r", None, Asked(" ; ", junit), **options) == EXIT_GATE
    (case,) = ElementTree.parse(junit).getroot().findall(".//testcase")
    assert NO_RULE in case.attrib["name"]
    assert run_compare_command("r", None, Asked("verdict is better"), **options) == EXIT_DONE


def test_a_reader_that_hangs_up_does_not_hide_the_gate(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("r", make_rows(64, gain=0.45))
    command = [sys.executable, "-m", "harness", "compare", "r:tuned", "r:base", "--gate", "--junit", "gate.xml"]
    reading, writing = os.pipe()
    os.close(reading)  # nobody reads: every write fails
    try:
        done = subprocess.run(command, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_GATE, b"")
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] != "0"


def test_answers_that_never_came_stay_missing_where_other_pages_count_as_failures() -> None:
    rows = lose(make_rows(64, gain=0.3), "tuned", 30)
    rows = lose(rows, "base", 3, only="conforming")
    warnings = summary_of(rows)["verdict"]["warnings"]
    (said,) = [warning for warning in warnings if "Counted as failures" in warning]
    assert "beats" not in said
    assert "better" not in said.partition("Counted as failures")[2].partition(":")[0]


def test_scores_by_other_checks_are_missing_and_the_rest_of_their_tasks_stays(
    write_run: WriteRun, tmp_path: Path
) -> None:
    folders = [write_run(name, make_rows(64)) for name in ("old", "new")]
    for folder, changed in zip(folders, (0, 10), strict=True):
        tasks = [json.loads(line) for line in (folder / "tasks.jsonl").read_text("utf-8").splitlines()]
        tasks = [task | {"checks_sha": str(number < changed)} for number, task in enumerate(tasks)]
        (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
    new = load_run(folders[1])
    for old in (load_run(folders[0]), load_run(freeze(load_run(folders[0]), tmp_path / "frozen.json"))):
        result = compare_runs(old, "tuned", new, "tuned", replicates=99)
        entries = result.summary.suites["starter"].pairs[result.pair]
        assert {metric: entry.tasks for metric, entry in entries.items() if entry.primary} == {
            "conforming": 64,
            "checks_must": 54,
            "bleu_dom": 64,
        }
        assert (MOST_TASKS, "checks_must") in failing(gate_runs(result))
        assert "Left out: what the checks said of 10 tasks, whose checks were others" in describe(
            result, scorers_of(SCORERS)
        )
    assert compare_runs(new, "base", new, "tuned", replicates=99).otherwise_checked == 0


def test_a_primary_metric_that_one_run_no_longer_asks_for_never_passes(write_run: WriteRun) -> None:
    later = make_rows(64, gain=0.4)
    for row in later:
        del row["scores"]["checks_must"]  # the suite's checks were taken out, its prompts stayed
    first, second = load_run(write_run("a", make_rows(64))), load_run(write_run("b", later))
    for left, right in ((first, second), (second, first)):
        result = compare_runs(left, "tuned", right, "tuned", replicates=99)
        verdict = result.summary.verdicts[result.pair]
        assert verdict.warnings[0] == "Not measured: Checks, on which the verdict was to rest."
        assert ("no primary worse", "checks_must") in failing(gate_runs(result))
        assert (MOST_TASKS, "checks_must") in failing(gate_runs(result))
        rules = ["checks_must unscored == 0", "checks_must mean >= 0"]
        held = {check.rule for check in gate_runs(result, rules) if check.passed and check.metric == "checks_must"}
        assert held == (set() if right is second else {*rules})  # of the second model, which was not asked
