"""Turns completions into rows: cut the page out, check it, render it, score it. Knows nothing of models."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, NuReport
from harness.metrics.nu import check_pages, find_nu, warm
from harness.metrics.registry import METRICS, messages, score_page
from harness.render import Renderer, RenderRequest
from harness.render.tasks import task_request
from harness.runs.samples import Extraction, RenderFacts, SampleRecord, Timing
from harness.types import CONTROL_NAMES, Completion, Page, Rendering, Scope, Score, Task

CHUNK = 48
"""Pages begun and written to the journal together: a kill loses at most twice as many."""


class ShotWriter(Protocol):
    """Stores a picture under a name and returns its path relative to the run."""

    def __call__(self, picture: bytes, name: str) -> str:
        """Store it."""


class _Shown:
    """A page that the renderer was given."""

    def __init__(self, renderer: Renderer, request: RenderRequest) -> None:
        self.request = request
        self._renderer = renderer
        self._measured = renderer.submit(request)
        self._rendering: Rendering | None = None

    @property
    def rendering(self) -> Rendering:
        """What was measured, which may have to be waited for.

        A page that ran out of time gets a second try, so that a busy machine is not held against it.
        """
        if self._rendering is None:
            first = self._measured.result()
            late = first.outcome == "timeout"
            self._rendering = self._renderer.submit(self.request).result() if late else first
        return self._rendering

    def cancel(self) -> None:
        """Take it back, unless it is measured."""
        self._measured.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether it was taken back."""
        return self._measured.cancelled()


@dataclass(frozen=True, slots=True)
class _Begun:
    """A chunk whose pages the browsers and the checker work on."""

    work: Sequence[tuple[Task, Completion]]
    pages: Sequence[Page]
    shown: Sequence[_Shown | None]
    reports: Future[list[NuReport | None]]


@dataclass
class Scorer:
    """Scores completions of one suite's tasks in a renderer that stays open."""

    suite: str
    renderer: Renderer
    write_shot: ShotWriter
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metrics that did not prove themselves on this suite, and why: their numbers are not given."""
    references: dict[str, _Shown] = field(default_factory=dict)
    """The references by task id, kept for the visual similarity of later pages."""
    reports: dict[tuple[str, Scope], NuReport | None] = field(default_factory=dict)
    """What the checker said of the pages of controls, which come again."""

    def rows(
        self,
        work: Iterable[tuple[Task, Completion]],
        on_page: Callable[[], None] | None = None,
    ) -> Iterator[list[SampleRecord]]:
        """Yield finished rows in the order of `work`, a chunk at a time.

        While one chunk's numbers are computed, the browsers and the checker are at work on the next.
        """
        warm()  # it starts while the first answers are still being written
        pending = iter(work)
        begun: deque[_Begun] = deque()
        checker = ThreadPoolExecutor(1, "checker")
        try:
            while chunk := list(islice(pending, CHUNK)):
                begun.append(self._begin(chunk, checker))
                if len(begun) > 1:
                    yield self._finish(begun.popleft(), on_page)
            while begun:
                yield self._finish(begun.popleft(), on_page)
        finally:
            checker.shutdown(wait=False, cancel_futures=True)
            for shown in [*self.references.values(), *(shown for left in begun for shown in left.shown if shown)]:
                shown.cancel()
            self.references = {task: shown for task, shown in self.references.items() if not shown.cancelled}

    def _begin(self, chunk: Sequence[tuple[Task, Completion]], checker: Executor) -> _Begun:
        pages = [extract(done.text, done.finish_reason, task.scope) for task, done in chunk]
        reports = checker.submit(
            self._check,
            [(page, task.scope, done.model in CONTROL_NAMES) for (task, done), page in zip(chunk, pages, strict=True)],
        )
        for task in {task.id: task for task, _ in chunk}.values():
            if task.reference and task.id not in self.references:
                page = extract(task.reference, "eos", task.scope)
                if page.html:
                    self.references[task.id] = self._show(task, page.html)
        known = {shown.request.key: shown for shown in self.references.values()}
        shown: list[_Shown | None] = []
        for (task, _), page in zip(chunk, pages, strict=True):
            key = task_request(task, page.html).key
            if page.found and key not in known:
                known[key] = self._show(task, page.html)
            shown.append(known[key] if page.found else None)
        return _Begun(chunk, pages, shown, reports)

    def _show(self, task: Task, html: str) -> _Shown:
        return _Shown(self.renderer, task_request(task, html))

    def _finish(self, begun: _Begun, on_page: Callable[[], None] | None) -> list[SampleRecord]:
        reports = begun.reports.result()
        rows = []
        for (task, completion), page, shown, report in zip(begun.work, begun.pages, begun.shown, reports, strict=True):
            reference = self.references.get(task.id)
            evidence = Evidence(
                task=task,
                completion=completion.text,
                page=page,
                rendering=shown.rendering if shown is not None else None,
                reference_rendering=reference.rendering if reference is not None else None,
                nu=report,
            )
            rows.append(self._record(evidence, completion))
            if on_page:
                on_page()
        return rows

    def _check(self, pages: Sequence[tuple[Page, Scope, bool]]) -> list[NuReport | None]:
        """Check pages with Nu, each text once; None where Nu is not there or failed on it.

        The flag tells the pages that come again: other tasks' references.
        """
        if find_nu() is None:
            return [None] * len(pages)
        wanted = dict.fromkeys((page.html, scope) for page, scope, _ in pages if page.found)
        new = [page for page in wanted if page not in self.reports]
        found = dict(zip(new, check_pages([html for html, _ in new], [scope for _, scope in new]), strict=True))
        found |= {page: self.reports[page] for page in wanted if page in self.reports}
        self.reports |= {
            (page.html, scope): found[page.html, scope] for page, scope, again in pages if page.found and again
        }
        return [found.get((page.html, scope)) for page, scope, _ in pages]

    def _record(self, evidence: Evidence, completion: Completion) -> SampleRecord:
        page, rendering = evidence.page, evidence.rendering
        scores = score_page(evidence) | {name: Score(None, why) for name, why in self.refused.items()}
        return unscored(self.suite, evidence.task, completion).with_(
            page=page.html,
            extraction=Extraction(kind=page.kind, truncated=page.truncated),
            finish_reason=None if completion.model in CONTROL_NAMES else completion.finish_reason,
            outcome=rendering.outcome if rendering else "blank",
            scores={name: score.value for name, score in scores.items()},
            notes=_notes(scores, completion),
            counts={name: score.counts for name, score in scores.items() if score.counts is not None},
            messages=tuple(messages(evidence)),
            checks=rendering.checks or () if rendering else (),
            render=_render_facts(rendering) if rendering else None,
            shots=self._shots(rendering) if rendering else {},
            timing=_timing(completion, rendering.seconds if rendering else 0.0),
        )

    def _shots(self, rendering: Rendering) -> dict[str, str]:
        return {
            screen: self.write_shot(picture, f"{_digest(picture)}.png")
            for screen, picture in rendering.screenshots.items()
        }


def unscored(suite: str, task: Task, completion: Completion, why: str = "") -> SampleRecord:
    """Return the record of an answer that is not scored: every metric null with the reason, never 0 nor a pass."""
    return SampleRecord(
        suite=suite,
        task=task.id,
        model=completion.model,
        sample=completion.sample,
        prompt_sha=task.prompt_sha,
        completion=completion.text,
        finish_reason=completion.finish_reason,
        scores={metric.name: None for metric in METRICS},
        notes={metric.name: why for metric in METRICS},
        timing=_timing(completion, 0.0),
    )


def _timing(completion: Completion, render_s: float) -> Timing:
    return Timing(
        generate_s=round(completion.seconds, 3),
        render_s=round(render_s, 3),
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()[:24]


def _notes(scores: Mapping[str, Score], completion: Completion) -> dict[str, str]:
    notes = {name: score.note for name, score in scores.items() if score.note}
    if completion.note:
        notes["completion"] = completion.note
    return notes


def _render_facts(rendering: Rendering) -> RenderFacts:
    return RenderFacts.model_validate(rendering, from_attributes=True)
