"""A metric must prove itself: no perturbed answer may beat the reference it was made from.

Every run does this on a small sample, part of it rendered, before its numbers are printed; `suites check` does it on
all tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.metrics import nu
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Metric
from harness.metrics.registry import METRICS, score_metric
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


@dataclass(frozen=True, slots=True)
class MetricCheck:
    """One metric against one kind of perturbation."""

    metric: str
    mutant: str
    reference_wins: int
    mutant_wins: int
    ties: int
    unmeasured: int

    @property
    def measured(self) -> int:
        """Pairs with a number on both sides."""
        return self.reference_wins + self.mutant_wins + self.ties


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """What the self-test found. Numbers of refused metrics must not be printed as if they meant something."""

    tasks: int
    trials: tuple[MetricCheck, ...]
    refused: Mapping[str, str]
    """Metric → why its numbers mean nothing."""
    untested: tuple[str, ...]
    """Metrics that no perturbation could be measured with (no browser, no Java, no reference)."""

    def as_dict(self) -> dict[str, Any]:
        """The report for a JSON file."""
        return asdict(self)


def self_test(
    tasks: Sequence[Task],
    *,
    sample: int | None = RUN_SAMPLE,
    with_nu: bool = True,
    render: Renderer | None = None,
    rendered: int | None = None,
    metrics: Sequence[Metric] = METRICS,
) -> SelfTestReport:
    """Score the references of `tasks` and their perturbations, and return which metrics prefer these.

    A metric is refused where a kind of perturbation beats its references in over 10 % of the tasks, where those of all
    kinds together win more often than they lose, or where none ever scores less than a reference that scores something.
    A visual metric is also refused where a hollow page beats the same page restyled in over 10 % of the tasks.
    `sample` tasks are taken evenly from all (None: all). Without `render` metrics that need a browser stay untested;
    `rendered` bounds how many tasks are rendered, and then only with `RUN_RENDERED_PERTURBATIONS` (None: all, with
    all).
    """
    chosen = _evenly([task for task in tasks if task.reference], sample)
    trials = _pages(chosen)
    evidence = _measure(trials, with_nu, render, rendered)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    reference_sum: Counter[str] = Counter()
    for metric in metrics:
        for own, perturbed in zip(evidence, trials, strict=True):
            reference_score = score_metric(metric, own[0])
            if reference_score is None:
                continue
            reference_sum[metric.name] += int((reference_score.value or 0) > 0)
            values: dict[str, float | None] = {}
            for mutant, mutant_evidence in zip(perturbed[1], own[1:], strict=True):
                if mutant.kind not in APPLIES[metric.kind] and not (metric.name in VISUAL and mutant.kind in RESTYLED):
                    continue
                mutant_score = score_metric(metric, mutant_evidence)
                values[mutant.kind] = mutant_score.value if mutant_score else None
                result = _compare(reference_score.value, values[mutant.kind])
                outcomes[metric.name, mutant.kind, result] += 1
            for kind in RESTYLED.keys() & values.keys() if "hollow" in values else ():
                outcomes[metric.name, f"hollow against {kind}", _compare(values[kind], values["hollow"])] += 1
    table = _table(metrics, outcomes)
    return SelfTestReport(
        tasks=len(chosen),
        trials=table,
        refused=_refused(metrics, table, reference_sum),
        untested=tuple(m.name for m in metrics if not any(t.measured for t in table if t.metric == m.name)),
    )


def _pages(tasks: Sequence[Task]) -> list[tuple[Task, list[Perturbation]]]:
    """Each task with its perturbations; the wrong task's answer is that of the task half the list away."""
    found = []
    for index, task in enumerate(tasks):
        other = tasks[(index + max(1, len(tasks) // 2)) % len(tasks)]
        found.append((task, [*perturbations(task, other), *restyled(task)]))
    return found


def _measure(
    trials: Sequence[tuple[Task, list[Perturbation]]], with_nu: bool, render: Renderer | None, rendered: int | None
) -> list[list[Evidence]]:
    """Evidence of the reference and each perturbation, per task; Nu and the renderer see all pages at once."""
    flat = [
        (task, mutant, extract(mutant.text, mutant.finish_reason, task.scope))
        for task, perturbed in trials
        for mutant in (Perturbation("reference", task.reference), *perturbed)
    ]
    few = {task.id for task in _evenly([task for task, _ in trials], rendered)}
    present = [index for index, (_, _, page) in enumerate(flat) if page.found]
    reports: dict[int, Any] = {}
    renderings: dict[int, Any] = {}
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
    for index, (task, mutant, page) in enumerate(flat):
        if mutant.kind == "reference":
            reference_rendering = renderings.get(index)
            evidence.append([])
        rendering = renderings.get(index)
        if not page.found and render is not None and (rendered is None or _shown(mutant, task, few)):
            rendering = Rendering("blank")
        evidence[-1].append(
            Evidence(
                task=task,
                completion=mutant.text,
                page=page,
                rendering=rendering,
                reference_rendering=reference_rendering,
                nu=reports.get(index),
            )
        )
    return evidence


def _unchecked(task: Task, mutant: Perturbation) -> Task:
    """A restyled page is only rendered: its task's checks need not run."""
    return replace(task, checks=()) if mutant.kind in RESTYLED else task


def _shown(mutant: Perturbation, task: Task, few: set[str]) -> bool:
    return task.id in few and (mutant.kind == "reference" or mutant.kind in RUN_RENDERED_PERTURBATIONS)


def _compare(reference: float | None, mutant: float | None) -> str:
    if reference is None or mutant is None:
        return "unmeasured"
    if reference == mutant:
        return "ties"
    return "reference_wins" if reference > mutant else "mutant_wins"


def _table(metrics: Sequence[Metric], outcomes: Mapping[tuple[str, str, str], int]) -> tuple[MetricCheck, ...]:
    kinds = sorted({(name, kind) for name, kind, _ in outcomes})
    order = {metric.name: index for index, metric in enumerate(metrics)}
    return tuple(
        MetricCheck(
            name,
            kind,
            *(outcomes.get((name, kind, r), 0) for r in ("reference_wins", "mutant_wins", "ties", "unmeasured")),
        )
        for name, kind in sorted(kinds, key=lambda pair: (order[pair[0]], pair[1]))
    )


def _refused(
    metrics: Sequence[Metric], table: Sequence[MetricCheck], reference_sum: Mapping[str, int]
) -> dict[str, str]:
    refused: dict[str, str] = {}
    for metric in metrics:
        trials = [trial for trial in table if trial.metric == metric.name and trial.measured]
        wins, losses = (sum(getattr(t, side) for t in trials) for side in ("mutant_wins", "reference_wins"))
        worst = max(trials, key=lambda trial: trial.mutant_wins, default=None)
        if worst is not None and worst.mutant_wins > max(1, TOLERATED_SHARE * worst.measured):
            refused[metric.name] = (
                f"'{worst.mutant}' beats the reference in {worst.mutant_wins} of {worst.measured} tasks"
            )
        elif wins > losses:
            refused[metric.name] = f"perturbed answers beat the reference {wins} times and lose to it {losses} times"
        elif wins == losses == 0 and trials and reference_sum.get(metric.name, 0):
            refused[metric.name] = "no perturbed answer ever scores less than the reference"
    return refused


def _evenly(tasks: Sequence[Task], count: int | None) -> list[Task]:
    if count is None or len(tasks) <= count:
        return list(tasks)
    return [tasks[index * len(tasks) // count] for index in range(count)]
