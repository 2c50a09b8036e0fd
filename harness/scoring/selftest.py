"""A metric must prove itself: no perturbed answer may beat the reference it was made from.

Every run does this on a small sample, part of it rendered, before its numbers are printed; `suites check` does it on
all tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.metrics import nu
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Metric, NuReport
from harness.metrics.registry import METRICS, score_metric
from harness.runs.manifest import MetricCheck, SelfTest
from harness.scoring.perturbations import RESTYLED, Perturbation, perturbations, restyled
from harness.types import Rendering, Task

RUN_SAMPLE = 12
"""Tasks that each run tries: about a hundred pages, a few seconds."""

RUN_RENDERED = 6
"""Of these, the tasks whose references and perturbations each run also renders."""

RUN_RENDERED_PERTURBATIONS = frozenset({"emptied", "hollow", "wrong-task", *RESTYLED})
"""What a run renders: perturbations that a browser must tell from the reference, about thirty distinct pages."""

VISUAL = frozenset({"visual_similarity"})
"""Metrics of how a page looks: tried with restyled pages too, which must come out nearer than a hollow one."""

TOLERATED_SHARE = 0.1
"""References have faults, so a perturbed one may win now and then (a cut page lacks those at its end)."""

APPLIES: Mapping[str, frozenset[str]] = {
    "form": frozenset({"truncated", "unclosed", "swapped", "emptied", "prose-around"}),
    "similarity": frozenset(
        {"truncated", "unclosed", "swapped", "emptied", "hollow", "text-replaced", "wrong-task", "prose-around"}
    ),
    "content": frozenset({"truncated", "emptied", "hollow", "text-replaced", "wrong-task", "prose-around"}),
    "render": frozenset({"emptied", "hollow"}),
}
"""Which perturbations each kind of metric is tried with: another task's page is as well-formed as this one's."""

Renderer = Callable[[Sequence[tuple[Task, str]]], Sequence[Rendering | None]]
"""Renders pages for their tasks and returns what was measured, in the same order."""


def self_test(
    tasks: Sequence[Task],
    *,
    sample: int | None = RUN_SAMPLE,
    with_nu: bool = True,
    render: Renderer | None = None,
    rendered: int | None = None,
    metrics: Sequence[Metric] = METRICS,
) -> SelfTest:
    """Score the references of `tasks` and their perturbations, and return which metrics prefer these.

    A metric is refused where a kind of perturbation beats its references in over 10 % of the tasks, where those of all
    kinds together win more often than they lose, or where none ever scores less than a reference that scores something.
    A visual metric is also refused where a hollow page beats the same page restyled in over 10 % of the tasks.
    `sample` tasks are taken evenly from all (None: all). Without `render` metrics that need a browser stay untested;
    `rendered` bounds how many tasks are rendered, and then only with `RUN_RENDERED_PERTURBATIONS` (None: all, with
    all).
    """
    chosen = _evenly([task for task in tasks if task.reference], sample)
    pages = _pages(chosen)
    evidence = _measure(pages, with_nu, render, rendered)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    reference_sum: Counter[str] = Counter()
    for metric in metrics:
        for own, perturbed in zip(evidence, pages, strict=True):
            reference_score = score_metric(metric, own[0])
            if reference_score is None:
                continue
            reference_sum[metric.name] += int((reference_score.value or 0) > 0)
            values: dict[str, float | None] = {}
            for page, page_evidence in zip(perturbed[1], own[1:], strict=True):
                if page.kind not in APPLIES[metric.kind] and not (metric.name in VISUAL and page.kind in RESTYLED):
                    continue
                score = score_metric(metric, page_evidence)
                values[page.kind] = score.value if score else None
                result = _compare(reference_score.value, values[page.kind])
                outcomes[metric.name, page.kind, result] += 1
            for kind in RESTYLED.keys() & values.keys() if "hollow" in values else ():
                outcomes[metric.name, f"hollow against {kind}", _compare(values[kind], values["hollow"])] += 1
    table = _table(metrics, outcomes)
    return SelfTest(
        tasks=len(chosen),
        checks=table,
        refused=_refused(metrics, table, reference_sum),
        untested=tuple(m.name for m in metrics if not any(check.measured for check in table if check.metric == m.name)),
    )


def _pages(tasks: Sequence[Task]) -> list[tuple[Task, list[Perturbation]]]:
    """Each task with its perturbations; the wrong task's answer is that of the task half the list away."""
    found = []
    for index, task in enumerate(tasks):
        other = tasks[(index + max(1, len(tasks) // 2)) % len(tasks)]
        found.append((task, [*perturbations(task, other), *restyled(task)]))
    return found


def _measure(
    pages: Sequence[tuple[Task, list[Perturbation]]], with_nu: bool, render: Renderer | None, rendered: int | None
) -> list[list[Evidence]]:
    """Evidence of the reference and each perturbation, per task; Nu and the renderer see all pages at once."""
    flat = [
        (task, made, extract(made.text, made.finish_reason, task.scope))
        for task, perturbed in pages
        for made in (Perturbation("reference", task.reference), *perturbed)
    ]
    few = {task.id for task in _evenly([task for task, _ in pages], rendered)}
    present = [index for index, (_, _, page) in enumerate(flat) if page.found]
    reports: dict[int, NuReport | None] = {}
    renderings: dict[int, Rendering | None] = {}
    if with_nu:
        checkable = [index for index in present if flat[index][1].kind not in RESTYLED]
        checked = nu.check_pages([flat[i][2].html for i in checkable], [flat[i][0].scope for i in checkable])
        reports = dict(zip(checkable, checked, strict=True))
    if render is not None:
        shown = [index for index in present if rendered is None or _shown(flat[index][1], flat[index][0], few)]
        asked = [(_unchecked(flat[i][0], flat[i][1]), flat[i][2].html) for i in shown]
        renderings = dict(zip(shown, render(asked), strict=True))
    evidence: list[list[Evidence]] = []
    reference_rendering = None
    for index, (task, made, page) in enumerate(flat):
        if made.kind == "reference":
            reference_rendering = renderings.get(index)
            evidence.append([])
        rendering = renderings.get(index)
        if not page.found and render is not None and (rendered is None or _shown(made, task, few)):
            rendering = Rendering("blank")
        evidence[-1].append(
            Evidence(
                task=task,
                completion=made.text,
                page=page,
                rendering=rendering,
                reference_rendering=reference_rendering,
                nu=reports.get(index),
            )
        )
    return evidence


def _unchecked(task: Task, made: Perturbation) -> Task:
    """A restyled page is only rendered: its task's checks need not run."""
    return replace(task, checks=()) if made.kind in RESTYLED else task


def _shown(perturbation: Perturbation, task: Task, few: set[str]) -> bool:
    return task.id in few and (perturbation.kind == "reference" or perturbation.kind in RUN_RENDERED_PERTURBATIONS)


def _compare(reference: float | None, perturbation: float | None) -> str:
    if reference is None or perturbation is None:
        return "unmeasured"
    if reference == perturbation:
        return "ties"
    return "reference_wins" if reference > perturbation else "perturbation_wins"


def _table(metrics: Sequence[Metric], outcomes: Mapping[tuple[str, str, str], int]) -> tuple[MetricCheck, ...]:
    kinds = sorted({(name, kind) for name, kind, _ in outcomes})
    order = {metric.name: index for index, metric in enumerate(metrics)}
    return tuple(
        MetricCheck(
            metric=name,
            perturbation=kind,
            reference_wins=outcomes.get((name, kind, "reference_wins"), 0),
            perturbation_wins=outcomes.get((name, kind, "perturbation_wins"), 0),
            ties=outcomes.get((name, kind, "ties"), 0),
            unmeasured=outcomes.get((name, kind, "unmeasured"), 0),
        )
        for name, kind in sorted(kinds, key=lambda pair: (order[pair[0]], pair[1]))
    )


def _refused(
    metrics: Sequence[Metric], table: Sequence[MetricCheck], reference_sum: Mapping[str, int]
) -> dict[str, str]:
    refused: dict[str, str] = {}
    for metric in metrics:
        checks = [check for check in table if check.metric == metric.name and check.measured]
        wins = sum(check.perturbation_wins for check in checks)
        losses = sum(check.reference_wins for check in checks)
        worst = max(checks, key=lambda check: check.perturbation_wins, default=None)
        if worst is not None and worst.perturbation_wins > max(1, TOLERATED_SHARE * worst.measured):
            refused[metric.name] = (
                f"'{worst.perturbation}' beats the reference in {worst.perturbation_wins} of {worst.measured} tasks"
            )
        elif wins > losses:
            refused[metric.name] = f"perturbed answers beat the reference {wins} times and lose to it {losses} times"
        elif wins == losses == 0 and checks and reference_sum.get(metric.name, 0):
            refused[metric.name] = "no perturbed answer ever scores less than the reference"
    return refused


def _evenly(tasks: Sequence[Task], count: int | None) -> list[Task]:
    if count is None or len(tasks) <= count:
        return list(tasks)
    return [tasks[index * len(tasks) // count] for index in range(count)]
