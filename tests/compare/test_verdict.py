from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.compare.verdict import Finding, Setting, verdict, word_of
from harness.compare.wording import against_fewshot, caveats_of_suites, plain, signed, span
from harness.runs.manifest import SuiteEntry
from harness.runs.pairs import Pair
from tests.compare.compare_data import SCORERS, make_rows, make_tasks, summarise


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


PAIR = Pair("base", "tuned")
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
    said = verdict(PAIR, findings)
    assert said.word == word
    assert said.sentence.endswith(".")


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
    sentence = verdict(PAIR, [UP, finding(2, 0.4, kind="content", label="Checks")]).sentence
    assert sentence == (
        "tuned writes better formed pages than base on s; their content is not shown to differ: "
        "Conforming +11 points (95 % interval 6 to 16); "
        "no difference shown in Checks +2 points (95 % interval −3 to 7); 100 tasks."
    )


@pytest.mark.parametrize(
    ("reaches", "said"),
    [
        ((12, 12), "100 tasks, which 4 times of 5 find a difference of 12 points or more."),
        ((40, 1.1), "4 times of 5 find a difference of 40 points or more in Conforming and 1.1 in Checks."),
        ((None, 1.1), "which 4 times of 5 find a difference of 1.1 points or more in Checks."),
        ((None, None), "100 tasks, too few for any difference to be found reliably."),
    ],
)
def test_what_one_metric_could_have_shown_is_not_said_of_another(
    reaches: tuple[float | None, float | None], said: str
) -> None:
    form, content = (finding(2, 0.4, detectable=reach) for reach in reaches)
    content = replace(content, kind="content", metric="checks_must", label="Checks")
    assert verdict(PAIR, [form, content]).sentence.endswith(said)


CONTENT_UP, CONTENT_DOWN = (finding(d, 0.01, kind="content", label="Checks") for d in (11, -11))
CONTENT_OPEN, CONTENT_FEW = (finding(2, 0.4, kind="similarity", detectable=reach) for reach in (8, 40))


@pytest.mark.parametrize(
    ("findings", "headline"),
    [
        ([UP, CONTENT_UP], "tuned beats base on s"),
        ([DOWN, CONTENT_DOWN], "tuned is worse than base on s"),
        ([UP, CONTENT_OPEN], "tuned writes better formed pages than base on s; their content is not shown to differ"),
        ([DOWN, CONTENT_OPEN], "tuned writes worse formed pages than base on s; their content is not shown to differ"),
        ([OPEN, CONTENT_UP], "tuned writes pages of better content than base on s; their form is not shown to differ"),
        ([OPEN, CONTENT_DOWN], "tuned writes pages of worse content than base on s; their form is not shown to differ"),
        (
            [UP, CONTENT_FEW],
            "tuned writes better formed pages than base on s; their content was measured on too few tasks to tell",
        ),
        ([UP], "tuned writes better formed pages than base on s; their content was not measured"),
        ([CONTENT_UP], "tuned writes pages of better content than base on s; their form was not measured"),
        ([finding(11, 0.01, kind="render", label="Renders")], "tuned is better than base on s in Renders only"),
        ([UP, CONTENT_DOWN], "tuned against base on s is mixed"),
        ([UP, finding(11, 0.01, suite="t", kind="content")], "tuned beats base"),
    ],
)
def test_the_headline_promises_no_more_than_was_shown(findings: list[Finding], headline: str) -> None:
    assert verdict(PAIR, findings).headline == headline


def test_the_headline_says_transfer_and_in_what_the_rows_differ() -> None:
    words = {"s": ["references are longer: median 900 characters against 200", "74 % are of kind email against 3 %"]}
    said = verdict(PAIR, [UP, CONTENT_UP], Setting(transfer=words)).headline
    assert said == (
        "tuned beats base on s (a measure of transfer, held-out tasks against training tasks, "
        "references are longer and 74 % are of kind email against 3 %)"
    )
    plain_words = verdict(PAIR, [OPEN], Setting(transfer={"s": ["length", "category"]})).sentence
    assert "(a measure of transfer, as held-out and training tasks differ in length and category)" in plain_words
    suites = {
        "s": {"shift": {"auc": 0.93, "low": 0.9, "high": 0.95, "told_apart": True, "differs_in": words["s"]}},
        "t": {"shift": {"auc": 0.5, "low": 0.4, "high": 0.6, "told_apart": False, "differs_in": []}},
        "u": {"shift": None, "reach": {"max_new_tokens": 384, "out_of_reach": 88, "references": 136}},
        "v": {"reach": {"max_new_tokens": 384, "out_of_reach": 0, "references": 136}},
    }
    lines = caveats_of_suites({name: SuiteEntry.model_validate(entry) for name, entry in suites.items()})
    assert len(lines) == 2
    assert lines[0].startswith("s measures transfer, not learning: ")
    assert "AUC 0.93, 95 % interval 0.90 to 0.95" in lines[0]
    assert lines[1].startswith("88 of 136 references of u are longer than the 384 new tokens")


@pytest.mark.parametrize(
    ("kinds", "trainings", "scope", "warned"),
    [
        (("base", "tuned"), (1, 1), "this adapter", True),
        (("tuned", "base"), (1, 1), "this adapter", True),
        (("base", "tuned"), (1, 3), "fine-tuning, 3 trainings", False),
        (("tuned", "tuned"), (3, 1), "this adapter", True),
        (("base", "few-shot"), (1, 1), "these models", False),
        (("file", "file"), (1, 1), "these models", False),
    ],
)
def test_the_scope_hangs_on_kinds_and_not_on_names(
    kinds: tuple[str, str], trainings: tuple[int, int], scope: str, warned: bool
) -> None:
    for names in (("base", "tuned"), ("tuned-a", "notebook")):
        said = verdict(Pair(*names), [UP], Setting(kinds=kinds, trainings=trainings))
        assert said.scope == scope
        assert any("One training" in warning for warning in said.warnings) is warned


def test_an_end_that_only_rounds_to_zero_says_on_which_side_it_lies() -> None:
    assert span(-26, -0.0001) == "−26 to below 0"
    assert span(0.01, 5) == "above 0 to 5"
    assert span(0, 5) == "0 to 5"


def test_missing_answers_can_take_a_claim_away() -> None:
    facts = {"asked": 64, "tasks": 25, "lacking": (0, 39), "notable": True, "bounds": (-30.0, 60.0)}
    taken = finding(31, 0.001, n=25, holds=False, **facts)
    assert (taken.shown, taken.direction) == (1, 0)
    said = verdict(PAIR, [taken])
    assert said.word == "too few tasks to tell"
    assert "25 of 64 tasks" in said.sentence
    assert said.warnings[0].startswith(
        "Missing: Conforming lacks numbers on 0 of 64 tasks of base and on 39 of tuned. "
        "Whatever they hold, the difference over all 64 lies between −30 and +60 points"
    )
    assert verdict(PAIR, [finding(31, 0.001, n=25, **facts)]).word == "better"


def test_a_gain_of_form_only_is_called_that() -> None:
    said = verdict(PAIR, [UP, finding(1, 0.6, kind="content", label="Checks")])
    assert said.gains == "tuned gains in form only: its content is not shown to differ."
    assert (said.form.word, said.content.word) == ("better", "no difference shown")


def test_a_fewshot_base_that_does_as_well_is_said() -> None:
    kinds = {"base": "base", "base-fewshot": "few-shot", "tuned": "tuned"}
    verdicts = {
        PAIR: verdict(PAIR, [UP]),
        Pair("base-fewshot", "tuned"): verdict(Pair("base-fewshot", "tuned"), [OPEN]),
    }
    said = against_fewshot(verdicts, "tuned", kinds)
    assert said is not None
    assert "not shown to be more than examples in the prompt give" in said
    assert against_fewshot({PAIR: verdicts[PAIR]}, "tuned", kinds) is None


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


def test_a_training_on_another_suite_than_the_measured_one_is_said() -> None:
    rows = [*make_rows(24, gain=0.3, suite="mine"), *make_rows(24, gain=0.3, suite="starter")]
    trained = {"kind": "tuned", "family": "tuned", "training": {"suite": "starter"}}
    for row in rows:
        row["model"] = "tuned#seed1" if row["model"] == "tuned" else "base"
    summary = summarise(rows, SCORERS, models={"base": {"kind": "base"}, "tuned#seed1": trained}, replicates=99)
    line = "tuned was trained on starter, measured on mine."
    assert line in summary["verdict"]["warnings"]
    assert line in summary["suites"]["mine"]["verdicts"]["base:tuned"]["warnings"]
    assert not any(
        "trained on" in words for words in summary["suites"]["starter"]["verdicts"]["base:tuned"]["warnings"]
    )
