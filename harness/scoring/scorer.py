"""Turns completions into rows: cut the page out, check it, render it, score it. Knows nothing of models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
"""Pages checked, rendered and written to the journal together: a kill loses at most these."""


class ShotWriter(Protocol):
    """Stores a picture under a name and returns its path relative to the run."""

    def __call__(self, picture: bytes, name: str) -> str:
        """Store it."""


@dataclass
class Scorer:
    """Scores completions of one suite's tasks in a renderer that stays open."""

    suite: str
    renderer: Renderer
    write_shot: ShotWriter
    refused: Mapping[str, str] = field(default_factory=dict)
    """Metrics that did not prove themselves on this suite, and why: their numbers are not given."""
    references: dict[str, Rendering] = field(default_factory=dict)
    """Renderings of references by task id, kept for the visual similarity of later pages."""

    def rows(
        self,
        work: Iterable[tuple[Task, Completion]],
        on_page: Callable[[], None] | None = None,
    ) -> Iterator[list[SampleRecord]]:
        """Yield finished rows, a chunk at a time."""
        warm()  # it starts while the first answers are still being written
        pending = iter(work)
        while chunk := list(islice(pending, CHUNK)):
            yield self._chunk(chunk, on_page)

    def _chunk(
        self, chunk: Sequence[tuple[Task, Completion]], on_page: Callable[[], None] | None
    ) -> list[SampleRecord]:
        pages = [extract(done.text, done.finish_reason, task.scope) for task, done in chunk]
        reports = _check(pages, [task.scope for task, _ in chunk])
        self._render_references([task for task, _ in chunk])
        requests = [
            task_request(task, page.html) if page.found else None for (task, _), page in zip(chunk, pages, strict=True)
        ]
        renderings = self._render(requests)
        rows = []
        for (task, completion), page, report, request in zip(chunk, pages, reports, requests, strict=True):
            rendering = renderings.get(request.key) if request is not None else None
            evidence = Evidence(
                task=task,
                completion=completion.text,
                page=page,
                rendering=rendering,
                reference_rendering=self.references.get(task.id),
                nu=report,
            )
            rows.append(self._record(evidence, completion))
            if on_page:
                on_page()
        return rows

    def _render_references(self, tasks: Sequence[Task]) -> None:
        """The reference's picture is needed beside each page's; the renderer's cache makes it one rendering in all."""
        missing = {task.id: task for task in tasks if task.reference and task.id not in self.references}
        if not missing:
            return
        cut = {task_id: extract(task.reference, "eos", task.scope).html for task_id, task in missing.items()}
        requests = {task_id: task_request(missing[task_id], html) for task_id, html in cut.items() if html}
        renderings = self._render(requests.values())
        for task_id, request in requests.items():
            if request.key in renderings:
                self.references[task_id] = renderings[request.key]

    def _render(self, requests: Iterable[RenderRequest | None]) -> dict[str, Rendering]:
        """Render pages; one that ran out of time gets a second try, so that a busy machine is not held against it."""
        wanted = {request.key: request for request in requests if request is not None}
        renderings = self.renderer.render(wanted.values()) if wanted else {}
        late = [wanted[key] for key, rendering in renderings.items() if rendering.outcome == "timeout"]
        return renderings | (self.renderer.render(late) if late else {})

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


def _check(pages: Sequence[Page], scopes: Sequence[Scope]) -> list[NuReport | None]:
    """Check the pages with Nu, each text once; None where Nu is not there or failed on it."""
    if find_nu() is None:
        return [None] * len(pages)
    unique = list({(page.html, scope): None for page, scope in zip(pages, scopes, strict=True) if page.found})
    found = check_pages([html for html, _ in unique], [scope for _, scope in unique]) if unique else []
    by_page = dict(zip(unique, found, strict=True))
    return [by_page.get((page.html, scope)) for page, scope in zip(pages, scopes, strict=True)]


def _digest(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()[:24]


def _notes(scores: Mapping[str, Score], completion: Completion) -> dict[str, str]:
    notes = {name: score.note for name, score in scores.items() if score.note}
    if completion.note:
        notes["completion"] = completion.note
    return notes


def _render_facts(rendering: Rendering) -> RenderFacts:
    return RenderFacts.model_validate(rendering, from_attributes=True)
