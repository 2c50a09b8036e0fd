from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.checks.words import Check, Locator, Step
from harness.errors import UsageError
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Metric
from harness.metrics.registry import METRICS, score_page
from harness.scoring.controls import control_completions
from harness.scoring.perturbations import PERTURBATIONS, perturbations
from harness.scoring.selftest import self_test
from harness.types import CONTROL_NAMES, CheckResult, Rendering, Score, Suite, Task

TOPICS = ("bread", "trees", "boats", "rivers", "clocks", "maps", "tea", "chess")


def page(topic: str) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><title>About {topic}</title></head>\n<body>\n<main>'
        f"<h1>All about {topic}</h1>"
        f'<p class="lead">Here is <b>what <i>people say</i></b> about {topic}.</p>\n<ul><li>{topic} one</li>'
        f"<li>{topic} two</li></ul></main>\n</body>\n</html>"
    )


TASKS = tuple(
    Task(
        id=topic,
        prompt=f"Write a page about {topic} with a list",
        reference=page(topic),
        checks=(Check(topic, "must", (Step("see", Locator(text=topic)),)),),
    )
    for topic in TOPICS
)
SUITE = Suite("s", "S", "document", frozenset(), "r", TASKS[:4], TASKS[4:], "h")


def test_controls_answer_every_task_and_are_deterministic() -> None:
    made = control_completions(SUITE, SUITE.held_out, CONTROL_NAMES)
    assert made == control_completions(SUITE, SUITE.held_out, CONTROL_NAMES)
    assert [(c.model, c.task) for c in made] == [(n, t.id) for n in CONTROL_NAMES for t in SUITE.held_out]
    assert {c.finish_reason for c in made} == {"eos"}
    by = {(c.model, c.task): c.text for c in made}
    for task in SUITE.held_out:
        assert by["reference", task.id] == task.reference
        assert by["empty", task.id] == ""
        assert by["prompt", task.id] == task.prompt
        assert by["nearest", task.id] in {t.reference for t in SUITE.train}
        assert by["shuffled", task.id] in {t.reference for t in SUITE.held_out} - {task.reference}


def test_nearest_is_the_answer_to_the_most_similar_prompt() -> None:
    task = Task("q", "With a list, write a page about boats please", reference="x")
    (nearest,) = control_completions(SUITE, [task], ["nearest"])
    assert nearest.text == page("boats")
    assert "boats" in nearest.note


def test_controls_of_one_task_and_of_a_suite_without_training() -> None:
    lonely = Suite("s", "S", "document", frozenset(), "r", (), TASKS[:1], "h")
    made = {c.model: c for c in control_completions(lonely, TASKS[:1], CONTROL_NAMES)}
    assert (made["nearest"].text, made["nearest"].note) == ("", "the suite has no training rows")
    assert (made["shuffled"].text, made["shuffled"].note) == ("", "there is no other task")


def test_a_control_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="shuffled"):
        control_completions(SUITE, TASKS, ["shufled"])


def test_controls_rank_as_they_must() -> None:
    means = {}
    for name in CONTROL_NAMES:
        rows = control_completions(SUITE, SUITE.held_out, [name])
        scores = [
            score_page(Evidence(t, c.text, extract(c.text, "eos"))) for t, c in zip(SUITE.held_out, rows, strict=True)
        ]
        means[name] = sum(row["bleu_dom"].value or 0 for row in scores) / len(scores)
    assert means["reference"] == pytest.approx(100)
    assert means["reference"] > means["nearest"] > means["empty"] == means["prompt"] == 0


def test_all_mutants_can_be_made_and_differ_from_the_reference() -> None:
    made = perturbations(TASKS[0], TASKS[1])
    assert {m.kind for m in made} == set(PERTURBATIONS)
    assert all(m.text != TASKS[0].reference for m in made)
    replaced = next(m.text for m in made if m.kind == "text-replaced")
    assert "bread" not in replaced
    assert '<p class="lead">' in replaced


def test_text_of_scripts_and_comments_is_left_alone() -> None:
    task = Task("t", "p", reference="<p>one two</p><script>let one = 1</script><!-- one --><style>p{}</style>three")
    replaced = next(m.text for m in perturbations(task, None) if m.kind == "text-replaced")
    assert replaced == "<p>lorem ipsum</p><script>let one = 1</script><!-- one --><style>p{}</style>dolor"


def looks(requests: Sequence[tuple[Task, str]]) -> list[Rendering | None]:
    """A renderer that only looks whether the topic stands in the page."""
    return [
        Rendering(
            "ok" if "<li>" in html or "lorem" in html else "blank",
            accessibility=(),
            overflow={"1280": 0},
            checks=(CheckResult("topic", "must", task.id in html),),
        )
        for task, html in requests
    ]


def test_real_metrics_prove_themselves() -> None:
    report = self_test(TASKS, sample=4, with_nu=False, render=looks)
    assert report.refused == {}
    assert report.tasks == 4
    assert set(report.untested) == {"conforming", "visual_similarity"}
    assert {t.perturbation for t in report.checks if t.metric == "bleu_dom"} == set(PERTURBATIONS)
    assert report.as_json()["refused"] == {}


def test_with_nu(nu_choice: object) -> None:
    report = self_test(TASKS, sample=3)
    assert "conforming" not in report.untested
    assert report.refused == {}


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (lambda e: Score(1.0), "no perturbed answer ever scores less"),
        (lambda e: Score(float(len(e.completion) < len(page("bread")) - 40)), "beats the reference"),
        (lambda e: Score(float("lorem" in e.completion)), "beats the reference"),
    ],
    ids=["always one", "shorter is better", "likes lorem ipsum"],
)
def test_a_metric_that_prefers_the_mutants_is_refused_by_name(score: object, why: str) -> None:
    bad = Metric("bad", "Bad", "similarity", "binary", score, "is broken")  # type: ignore[arg-type]
    report = self_test(TASKS, sample=None, with_nu=False, metrics=[bad, *METRICS[:2]])
    assert list(report.refused) == ["bad"]
    assert why in report.refused["bad"]


def test_a_suite_without_references_tests_nothing_and_refuses_nothing() -> None:
    report = self_test([Task("t", "p")], with_nu=False)
    assert (report.tasks, report.refused) == (0, {})
    assert set(report.untested) == {m.name for m in METRICS}


def test_a_run_renders_a_part_of_the_pages_and_measures_what_needs_a_browser_on_it() -> None:
    asked: list[tuple[Task, str]] = []

    def render(pages: Sequence[tuple[Task, str]]) -> list[Rendering | None]:
        asked.extend(pages)
        return looks(pages)

    report = self_test(TASKS, sample=4, with_nu=False, render=render, rendered=2)
    assert len({task.id for task, _ in asked}) == 2
    measured = {(check.metric, check.perturbation) for check in report.checks if check.measured}
    assert {kind for metric, kind in measured if metric == "renders"} == {"emptied", "hollow"}
    assert {kind for metric, kind in measured if metric == "checks_must"} == {"hollow", "wrong-task"}
    assert ("bleu_dom", "truncated") in measured
    assert report.refused == {}
