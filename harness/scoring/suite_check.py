"""Checks a suite before anything is measured with it: its references, its checks, its split, and the metrics on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.metrics import form, nu, registry
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence
from harness.model.reach import answer_limit, estimated_tokens, reach
from harness.progress import ProgressReporter
from harness.render import Renderer
from harness.render.tasks import render_task_pages
from harness.runs.manifest import SelfTest
from harness.scoring.controls import control_completions
from harness.scoring.selftest import self_test
from harness.scoring.suite_findings import TIERS, TOLD, SuiteCheck, Tier
from harness.storage.cache import cache_folder
from harness.suite.leakage import flag, groups
from harness.suite.shift import shift
from harness.types import CheckResult, Rendering, Suite, Task

EMPTY_PAGE = '<!DOCTYPE html><html lang="en"><head><title>Empty</title></head><body></body></html>'
"""No task may count as solved by this; a task's checks run on it as on any page."""

_CHUNK = 48
_TRANSIENT_OUTCOMES = frozenset({"unscored", "timeout", "crash"})
_SHOWN_MESSAGE = 160
_TOLD_BY = {"well_formed": ("turbohtml", "html5lib", "harness"), "conforming": ("nu",), "lxml_clean": ("lxml",)}
"""Tiers, and whose messages say why they do not hold."""


def check_suite(suite: Suite, reporter: ProgressReporter, limit: int | None = None) -> SuiteCheck:
    """Check the references, the checks and the split of `suite`, and the metrics over `limit` of its tasks (None: all).

    Raises:
        HarnessError: there is no browser to run the checks in.
    """
    tasks = [*suite.train, *suite.held_out]
    with Renderer(cache_dir=cache_folder("renders")) as renderer:
        tiers, references = _references(tasks, renderer, reporter)
        failed = {
            task_id: tuple(_failure(result) for result in rendering.checks if not result.passed)
            for task_id, rendering in references.items()
            if rendering.checks
        }
        unmeasured = {
            task.id: rendering.checks_unmeasured or rendering.detail or rendering.outcome
            for task in tasks
            if task.checks and (rendering := references.get(task.id)) is not None and rendering.checks is None
        }
        passed_by = _passed_by(suite, renderer, reporter)
        with reporter.stage("near-duplicates"):
            near = {"train": _near(suite.train), "held_out": _near(suite.held_out)}
            leaked = flag(suite.train, suite.held_out)
        with reporter.stage("training and held-out rows compared"):
            compared = shift(suite.train, suite.held_out)
        tested = _self_test(tasks, renderer, reporter, limit)
    with_checks = [task for task in tasks if task.checks]
    return SuiteCheck(
        suite=suite.name,
        revision=suite.revision,
        train=len(suite.train),
        held_out=len(suite.held_out),
        without_reference=sum(not task.reference for task in tasks),
        held_out_without_checks=sum(not task.checks for task in suite.held_out),
        tiers=tiers,
        checked=len(with_checks),
        checks=sum(len(task.checks) for task in with_checks),
        reference_fails={task_id: failures for task_id, failures in failed.items() if failures},
        passed_by=passed_by,
        repeated=(*_repeated(suite.train), *_repeated(suite.held_out)),
        near=near,
        leaked=leaked,
        self_test=tested,
        split=suite.split,
        shift=compared,
        reach=reach(answer_limit(suite, estimated_tokens), tasks, estimated_tokens, estimated=True),
        checks_unmeasured=unmeasured,
    )


def _references(
    tasks: Sequence[Task], renderer: Renderer, reporter: ProgressReporter
) -> tuple[tuple[Tier, ...], dict[str, Rendering]]:
    """The references' tiers, and their renderings by task."""
    own = [task for task in tasks if task.reference]
    counts = {name: [0, 0, 0] for name in (*TIERS, *TOLD)}
    failing: dict[str, dict[str, str]] = {name: {} for name in counts}
    unmeasured: dict[str, dict[str, str]] = {name: {} for name in counts}
    kept: dict[str, Rendering] = {}
    with reporter.stage("references", len(own)) as stage:
        for start in range(0, len(own), _CHUNK):
            chunk = own[start : start + _CHUNK]
            pages = [extract(task.reference, "eos", task.scope) for task in chunk]
            reports = nu.check_pages([page.html for page in pages], [task.scope for task in chunk])
            own_pages = [(task, page.html) for task, page in zip(chunk, pages, strict=True)]
            renderings = _twice_where_slow(renderer, own_pages)
            for task, page, report, rendering in zip(chunk, pages, reports, renderings, strict=True):
                if rendering is not None:
                    kept[task.id] = replace(rendering, screenshots={})
                counted = Evidence(task, task.reference, page, rendering, nu=report)
                strict = replace(counted, task=replace(task, ignore=frozenset())) if task.ignore else counted
                for name, count in counts.items():
                    score, by_all = (registry.score_metric(registry.metric(name), e) for e in (counted, strict))
                    if score is None or by_all is None:  # a fragment has no doctype to miss
                        continue
                    if score.value is None:
                        unmeasured[name][task.id] = score.note
                        continue
                    count[0] += int(score.value == 1)
                    count[1] += int(by_all.value == 1)
                    count[2] += 1
                    if score.value < 1:
                        failing[name][task.id] = _why(name, counted)
                stage.advance()
    return (
        tuple(Tier(name, n[0], n[1], n[2], failing[name], unmeasured[name]) for name, n in counts.items()),
        kept,
    )


def _twice_where_slow(renderer: Renderer, pages: Sequence[tuple[Task, str]]) -> list[Rendering | None]:
    """Render; what a busy machine may have done to a page, and not the page itself, gets a second chance."""
    renderings = render_task_pages(renderer, pages)
    again = [i for i, found in enumerate(renderings) if found is not None and found.outcome in _TRANSIENT_OUTCOMES]
    for index, second in zip(again, render_task_pages(renderer, [pages[i] for i in again]), strict=True):
        renderings[index] = second
    return renderings


def _why(name: str, evidence: Evidence) -> str:
    """The first reason, in the words of the tool that gave it."""
    if name == "extracted":
        return "there is no HTML in it"
    if name == "parses":
        return "no element, or nothing in it"
    rendering = evidence.rendering
    if name == "renders" and rendering is not None:
        return f"{rendering.outcome} {rendering.detail}".strip()[:_SHOWN_MESSAGE]
    told = form.messages(evidence)
    wanted = [message for message in told if message.source in _TOLD_BY.get(name, ())]
    if not wanted:
        return ""
    first = wanted[0]
    place = f"line {first.line}: " if first.line is not None else ""
    more = f" (and {len(wanted) - 1} more)" if len(wanted) > 1 else ""
    return f"{place}{first.text}"[:_SHOWN_MESSAGE] + more


def _passed_by(suite: Suite, renderer: Renderer, reporter: ProgressReporter) -> dict[str, tuple[str, ...]]:
    """Tasks whose checks ask too little: an empty page, or another task's reference, does all they demand."""
    tasks = [task for task in (*suite.train, *suite.held_out) if task.checks]
    shuffled = [done.text for done in control_completions(suite, tasks, ["shuffled"])]
    pages = {
        "empty": [EMPTY_PAGE] * len(tasks),
        "shuffled": [extract(text, "eos", t.scope).html for t, text in zip(tasks, shuffled, strict=True)],
    }
    found: dict[str, tuple[str, ...]] = {}
    with reporter.stage("checks on the wrong page", 2 * len(tasks)) as stage:
        for control, htmls in pages.items():
            renderings = render_task_pages(renderer, list(zip(tasks, htmls, strict=True)))
            found[control] = tuple(
                task.id
                for task, rendering in zip(tasks, renderings, strict=True)
                if rendering is not None and _solved(rendering)
            )
            stage.advance(to=stage.done + len(tasks))
    return found


def _self_test(tasks: Sequence[Task], renderer: Renderer, reporter: ProgressReporter, limit: int | None) -> SelfTest:
    with reporter.stage("self-test of the metrics") as stage:

        def render(pages: Sequence[tuple[Task, str]]) -> list[Rendering | None]:
            stage.total(len({(html, task.id if task.checks else "") for task, html in pages}))
            return render_task_pages(renderer, pages, stage.advance)

        return self_test(tasks, sample=limit, render=render)


def _solved(rendering: Rendering) -> bool:
    must = [result.passed for result in rendering.checks or () if result.level == "must"]
    return bool(must) and all(must)


def _failure(result: CheckResult) -> str:
    return f"{result.why} [{result.level}]: {result.detail}"


def _repeated(tasks: Sequence[Task]) -> list[tuple[str, ...]]:
    by_prompt: dict[str, list[str]] = {}
    for task in tasks:
        by_prompt.setdefault(task.prompt_sha, []).append(task.id)
    return [tuple(same) for same in by_prompt.values() if len(same) > 1]


def _near(tasks: Sequence[Task]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(task.id for task in group) for group in groups(tasks) if len(group) > 1)
