from __future__ import annotations

from typing import Any

import pytest

from harness.compare import summarise
from harness.compare.verdict import Finding, verdict, word_of
from harness.compare.wording import against_fewshot, plain, signed, span
from tests.compare.compare_data import SCORERS, make_rows, make_tasks


def finding(
    difference: float = 0.0, p: float = 1.0, n: int = 100, detectable: float | None = 8.0, **other: Any
) -> Finding:
    facts = {"suite": "s", "metric": "conforming", "label": "Conforming", "kind": "form", **other}
    return Finding(
        difference=difference,
        low=difference - 5,
        high=difference + 5,
        p_adjusted=p,
        n=n,
        detectable=detectable,
        **facts,
    )


UP, DOWN, OPEN = finding(11, 0.01), finding(-11, 0.01), finding(2, 0.4)


@pytest.mark.parametrize(
    ("findings", "word"),
    [
        ([UP, OPEN], "better"),
        ([DOWN, OPEN], "worse"),
        ([UP, DOWN], "mixed"),
        ([OPEN], "no difference shown"),
        ([finding(2, 0.4, detectable=12), OPEN], "no difference shown"),
        ([finding(2, 0.4, detectable=12)], "too few tasks to tell"),
        ([finding(2, 0.4, detectable=None)], "too few tasks to tell"),
        ([finding(60, 0.001, n=19)], "too few tasks to tell"),
        ([finding(11, 0.051)], "no difference shown"),
        ([], "too few tasks to tell"),
    ],
)
def test_the_rule(findings: list[Finding], word: str) -> None:
    assert word_of(findings) == word
    said = verdict("base", "tuned", findings)
    assert said["word"] == word
    assert said["sentence"].endswith(".")


def test_the_rule_treats_both_sides_alike() -> None:
    rows = make_rows(64, gain=0.3)
    forth = summarise(rows, SCORERS, pairs=[("base", "tuned")], replicates=999)
    back = summarise(rows, SCORERS, pairs=[("tuned", "base")], replicates=999)
    assert (forth["verdict"]["word"], back["verdict"]["word"]) == ("better", "worse")
    entry, mirrored = (s["suites"]["starter"]["pairs"][p] for s, p in ((forth, "base:tuned"), (back, "tuned:base")))
    for metric, one in entry.items():
        assert one["p"] == pytest.approx(mirrored[metric]["p"])
        assert one["low"] == pytest.approx(-mirrored[metric]["high"])


def test_the_sentence_holds_the_numbers() -> None:
    sentence = verdict("base", "tuned", [UP, finding(2, 0.4, label="Checks")])["sentence"]
    assert sentence == (
        "tuned beats base on s: Conforming +11 points (95 % interval 6 to 16); "
        "no difference shown in Checks +2 points (95 % interval −3 to 7)."
    )


def test_a_gain_of_form_only_is_called_that() -> None:
    said = verdict("base", "tuned", [UP, finding(1, 0.6, kind="content", label="Checks")])
    assert said["gains"] == "tuned gains in form only: its content is not shown to differ."
    assert (said["form"]["word"], said["content"]["word"]) == ("better", "no difference shown")


def test_a_fewshot_base_that_does_as_well_is_said() -> None:
    verdicts = {
        "base:tuned": verdict("base", "tuned", [UP]),
        "base-fewshot:tuned": verdict("base-fewshot", "tuned", [OPEN]),
    }
    said = against_fewshot(verdicts, "tuned")
    assert said is not None
    assert "not shown to be more than two examples in the prompt give" in said
    assert against_fewshot({"base:tuned": verdicts["base:tuned"]}, "tuned") is None


def test_worse_categories_are_named_only_after_correction() -> None:
    rows = make_rows(180, gain=0.3)
    tasks = make_tasks(rows)
    for row in rows:
        if tasks["starter", row["task"]]["category"] == "table":
            row["scores"]["conforming"] = int(row["model"] == "base")
    summary = summarise(rows, SCORERS, tasks=tasks, replicates=999)
    assert summary["verdict"]["worse_at"] == ["table"]
    assert "Worse at table." in summary["verdict"]["sentence"]


def test_numbers_read_well() -> None:
    assert [signed(v) for v in (11.4, -3.26, 0.04, -0.04, 9.96)] == ["+11", "−3.3", "0", "0", "+10"]
    assert plain(-12.6) == "−13"
