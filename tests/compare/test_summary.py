from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from harness.compare.summary import primary_metrics
from harness.runs.manifest import ModelEntry
from harness.runs.pairs import described, pairs_to_compare
from tests.compare.compare_data import SCORERS, Row, make_rows, make_tasks, records_of, scorers_of, summarise

REPLICATES = 999


def summary_of(rows: list[Row], **options: Any) -> dict[str, Any]:
    return summarise(rows, SCORERS, tasks=make_tasks(rows), **{"replicates": REPLICATES, **options})


def test_holds_what_the_contract_names_and_is_json() -> None:
    summary = summary_of(make_rows(40, gain=0.3))
    json.dumps(summary, allow_nan=False)
    suite = summary["suites"]["starter"]
    for by_model in suite["metrics"].values():
        for entry in by_model.values():
            assert {"mean", "low", "high", "n", "unscored"} <= entry.keys()
            assert entry["low"] <= entry["mean"] <= entry["high"]
    for entry in suite["pairs"]["base:tuned"].values():
        assert {"difference", "low", "high", "p", "p_adjusted", "n", "dropped"} <= entry.keys()
        assert entry["low"] <= entry["difference"] <= entry["high"]
        assert (entry["p_adjusted"] is not None) == entry["primary"]


def test_the_order_of_rows_does_not_matter() -> None:
    rows = make_rows(30, ("base", "tuned", "reference"), gain=0.2)
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    assert json.dumps(summary_of(rows)) == json.dumps(summary_of(shuffled))


def test_a_null_leaves_its_pair_and_is_counted() -> None:
    rows = make_rows(30)
    lost = next(row for row in rows if row["task"].endswith("0003") and row["model"] == "tuned")
    lost["scores"]["conforming"] = None
    lost["scores"]["chrf"] = None
    suite = summary_of(rows)["suites"]["starter"]
    for metric in ("conforming", "chrf"):
        assert suite["metrics"][metric]["tuned"]["unscored"] == 1
        assert suite["metrics"][metric]["tuned"]["n"] == 29
        assert suite["metrics"][metric]["base"]["n"] == 30
        assert (suite["pairs"]["base:tuned"][metric]["n"], suite["pairs"]["base:tuned"][metric]["dropped"]) == (29, 1)
    assert suite["pairs"]["base:tuned"]["checks_must"]["dropped"] == 0


def test_a_metric_that_does_not_apply_to_a_task_is_not_dropped_from_it() -> None:
    rows = make_rows(30)
    for row in rows:
        if row["task"].endswith(("1", "2")):
            del row["scores"]["checks_must"]
    entry = summary_of(rows)["suites"]["starter"]["pairs"]["base:tuned"]["checks_must"]
    assert (entry["n"], entry["dropped"]) == (24, 0)


def test_a_task_that_one_model_never_answered_is_dropped_not_forgotten() -> None:
    rows = [row for row in make_rows(30) if not (row["model"] == "tuned" and row["task"].endswith("07"))]
    entry = summary_of(rows)["suites"]["starter"]["pairs"]["base:tuned"]["conforming"]
    assert (entry["n"], entry["dropped"]) == (29, 1)


def test_corpus_bleu_is_of_the_corpus_not_of_rows() -> None:
    rows = make_rows(30, gain=0.2)
    suite = summary_of(rows)["suites"]["starter"]
    expected = {}
    for model in ("base", "tuned"):
        sums = np.sum([row["counts"]["bleu_dom"] for row in rows if row["model"] == model], axis=0).astype(int)
        expected[model] = BLEU().compute_bleu(list(sums[2:6]), list(sums[6:]), sums[0], sums[1], "exp").score
        assert suite["metrics"]["bleu_dom"][model]["mean"] == pytest.approx(expected[model])
    difference = suite["pairs"]["base:tuned"]["bleu_dom"]["difference"]
    assert difference == pytest.approx(expected["tuned"] - expected["base"])


def test_means_and_differences_are_those_of_tasks() -> None:
    rows = make_rows(30, samples=3)
    for row in rows:
        if row["task"].endswith("0001") and row["sample"] > 0:
            row["scores"]["chrf"] = None
    by_task: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["scores"]["chrf"] is not None:
            by_task.setdefault((row["model"], row["task"]), []).append(row["scores"]["chrf"])
    means = {m: np.mean([np.mean(v) for (model, _), v in by_task.items() if model == m]) for m in ("base", "tuned")}
    suite = summary_of(rows)["suites"]["starter"]
    assert suite["metrics"]["chrf"]["base"]["mean"] == pytest.approx(means["base"])
    assert suite["pairs"]["base:tuned"]["chrf"]["difference"] == pytest.approx(means["tuned"] - means["base"])


def test_several_samples_give_pass_at_k_and_no_mcnemar() -> None:
    rows = make_rows(30, samples=4)
    suite = summary_of(rows)["suites"]["starter"]
    shares = suite["metrics"]["conforming"]["tuned"]["pass_at"]
    assert list(shares) == ["1", "2", "4"]
    solved = {row["task"] for row in rows if row["model"] == "tuned" and row["scores"]["conforming"]}
    assert shares["4"] == pytest.approx(len(solved) / 30)
    assert shares["1"] == pytest.approx(suite["metrics"]["conforming"]["tuned"]["mean"])
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["model"] == "tuned":
            scores.setdefault(row["task"], []).append(row["scores"]["conforming"])
    of_pairs = [any(pair) for drawn in scores.values() for pair in itertools.combinations(drawn, 2)]
    assert shares["2"] == pytest.approx(np.mean(of_pairs))
    assert 0 < shares["1"] < shares["2"] < shares["4"] < 1
    assert "McNemar" not in suite["pairs"]["base:tuned"]["conforming"]["method"]


def test_copies_of_one_sample_do_not_narrow_the_interval() -> None:
    once = make_rows(40, gain=0.2)
    thrice = [{**row, "sample": sample} for row in once for sample in range(3)]
    single = summary_of(once)["suites"]["starter"]["pairs"]["base:tuned"]["chrf"]
    tripled = summary_of(thrice)["suites"]["starter"]["pairs"]["base:tuned"]["chrf"]
    assert (tripled["low"], tripled["high"]) == pytest.approx((single["low"], single["high"]))


def test_trainings_are_grouped_and_widen_the_interval() -> None:
    rows = make_rows(60, ("base", "tuned#seed0", "tuned#seed1", "tuned#seed10"), gain=0.3)
    summary = summary_of(rows)
    suite = summary["suites"]["starter"]
    assert summary["models"] == ["base", "tuned"]
    assert len(suite["pairs"]["base:tuned"]["conforming"]["seeds"]["values"]) == 3
    assert summary["verdict"]["scope"] == "fine-tuning, 3 trainings"
    alone = summary_of([row for row in rows if row["model"] in ("base", "tuned#seed0")])
    assert alone["verdict"]["scope"] == "this adapter"
    assert any("this adapter" in warning for warning in alone["verdict"]["warnings"])


@pytest.mark.parametrize("pair", [("base", "tuned"), ("tuned", "base"), ("tuned", "other")])
def test_each_trainings_difference_is_one_and_not_its_mean(pair: tuple[str, str]) -> None:
    names = ("base", "tuned#seed0", "tuned#seed1", "other#seed0", "other#seed1", "other#seed2")
    summary = summary_of(make_rows(60, names, gain=0.3), pairs=[pair])
    entries = summary["suites"]["starter"]["pairs"][":".join(pair)]
    for metric, entry in entries.items():
        values = entry["seeds"]["values"]
        assert np.mean(values) == pytest.approx(entry["difference"]), metric
        assert len(values) == (3 if pair[1] == "other" else 2)


def test_holm_runs_over_the_primary_metrics_of_all_suites() -> None:
    rows = make_rows(40, gain=0.15) + make_rows(40, gain=0.15, suite="other", seed=5)
    suites = summary_of(rows)["suites"]
    entries = [e for s in suites.values() for e in s["pairs"]["base:tuned"].values() if e["primary"]]
    assert len(entries) == 6
    smallest = min(entries, key=lambda entry: entry["p"])
    assert smallest["p_adjusted"] == pytest.approx(min(1.0, 6 * smallest["p"]))


def test_flips_name_the_tasks_both_ways() -> None:
    rows = make_rows(30, gain=0.1)
    flips = summary_of(rows)["suites"]["starter"]["flips"]["base:tuned"]["conforming"]
    by_task: dict[str, dict[str, int]] = {}
    for row in rows:
        by_task.setdefault(row["task"], {})[row["model"]] = row["scores"]["conforming"]
    assert sorted(flips["gained"]) == sorted(t for t, s in by_task.items() if s["tuned"] > s["base"])
    assert sorted(flips["lost"]) == sorted(t for t, s in by_task.items() if s["tuned"] < s["base"])
    assert sum(part["lost"] for part in flips["by_category"].values()) == len(flips["lost"])
    assert sum(part["n"] for part in flips["by_difficulty"].values()) == 30


def test_leaked_tasks_are_left_out_beside() -> None:
    rows = make_rows(30)
    leaked = [rows[0]["task"], "no-such-task"]
    suite = summary_of(rows, leaked={"starter": leaked})["suites"]["starter"]
    assert suite["leaked"] == [rows[0]["task"]]
    assert suite["metrics"]["conforming"]["base"]["n"] == 30
    assert suite["clean"]["metrics"]["conforming"]["base"]["n"] == 29
    assert suite["clean"]["pairs"]["base:tuned"]["conforming"]["p_adjusted"] is not None
    assert "clean" not in summary_of(rows)["suites"]["starter"]


def test_well_formed_takes_the_place_of_a_conforming_that_nobody_measured() -> None:
    rows = make_rows(30)
    assert primary_metrics(records_of(rows), scorers_of(SCORERS)) == ["conforming", "checks_must", "bleu_dom"]
    for row in rows:
        row["scores"]["conforming"] = None
    summary = summary_of(rows)
    assert summary["primary"] == ["well_formed", "checks_must", "bleu_dom"]
    pair = summary["suites"]["starter"]["pairs"]["base:tuned"]
    assert pair["well_formed"]["p_adjusted"] is not None
    assert (pair["conforming"]["difference"], pair["conforming"]["n"], pair["conforming"]["dropped"]) == (None, 0, 30)


def test_pairs_hang_on_kinds_and_not_on_names() -> None:
    def pairs(*names: str) -> list[tuple[str, str]]:
        return pairs_to_compare(described(names, {}))

    assert pairs("base", "base-fewshot", "reference", "tuned") == [
        ("base", "tuned"),
        ("base-fewshot", "tuned"),
        ("base", "base-fewshot"),
    ]
    assert pairs("mine", "yours", "empty") == [("mine", "yours")]
    assert pairs("reference") == pairs() == []
    named = {"tuned-looking": {"kind": "base"}, "notebook": {"kind": "tuned"}, "prompt": {"kind": "control"}}
    models = {name: ModelEntry.model_validate(entry) for name, entry in named.items()}
    assert pairs_to_compare(models) == [("tuned-looking", "notebook")]


def test_of_several_weights_each_tuned_model_is_held_against_its_own() -> None:
    def entries(*names: str) -> dict[str, ModelEntry]:
        kinds = {"base": "base", "shots": "few-shot", "tuned": "tuned", "served": "served"}
        return {
            name: ModelEntry(
                kind=kinds[name.partition("#")[0].rpartition("/")[2]],
                family=name.partition("#")[0],
                weights=name.rpartition("/")[0] or None,
            )
            for name in names
        }

    pairs = pairs_to_compare(
        entries("A/base", "A/shots", "A/tuned#seed0", "A/tuned#seed1", "B/base", "B/shots", "B/tuned", "served")
    )
    tuned = [pair for pair in pairs if pair.second.endswith("tuned")]
    assert tuned == [
        ("A/base", "A/tuned"), ("A/shots", "A/tuned"), ("served", "A/tuned"),
        ("B/base", "B/tuned"), ("B/shots", "B/tuned"), ("served", "B/tuned"),
    ]  # fmt: skip
    assert pairs[: len(tuned)] == tuned and ("A/base", "B/base") in pairs
    assert len(pairs) == len(tuned) + 10, "and every two of the five that were not tuned"
    alone = pairs_to_compare(entries("A/base", "B/base", "B/tuned"))
    assert alone == [("A/base", "B/tuned"), ("B/base", "B/tuned"), ("A/base", "B/base")], "A was tuned to nothing"
    assert ("B/base", "A/tuned") in pairs_to_compare(entries("A/tuned", "B/base", "B/tuned")), (
        "A has no base of its own"
    )


def test_one_model_alone_has_means_and_no_verdict() -> None:
    summary = summary_of(make_rows(5, ("base",)))
    assert summary["verdict"] is None
    assert summary["suites"]["starter"]["metrics"]["conforming"]["base"]["n"] == 5


def test_no_rows_is_an_empty_summary() -> None:
    assert summarise([], SCORERS)["suites"] == {}


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_hardly_any_tasks(tasks: int) -> None:
    summary = summary_of(make_rows(tasks, gain=0.3))
    json.dumps(summary, allow_nan=False)
    assert summary["verdict"]["word"] == "too few tasks to tell"


def test_equal_answers_are_no_difference_with_an_honest_interval() -> None:
    rows = [{**row, "model": model} for row in make_rows(64, ("base",)) for model in ("base", "tuned")]
    summary = summary_of(rows)
    for entry in summary["suites"]["starter"]["pairs"]["base:tuned"].values():
        assert entry["difference"] == 0
        assert entry["low"] <= 0 <= entry["high"]
        assert entry["p"] == 1.0
    assert summary["suites"]["starter"]["pairs"]["base:tuned"]["chrf"]["high"] > 0
    assert summary["verdict"]["word"] in ("no difference shown", "too few tasks to tell")
