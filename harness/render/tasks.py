"""Pages of tasks through the renderer, in the order given, each distinct page once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.metrics.wrap import as_document
from harness.render.renderer import Renderer
from harness.render.settings import RenderRequest
from harness.types import Rendering, Task, sha256


def task_request(task: Task, html: str) -> RenderRequest:
    """Return what the renderer is asked for a page of a task; equal pages with equal checks are one request.

    A fragment is shown inside a conforming document: what the task did not ask for is not held against it. The key, a
    host name, says nothing of the model.
    """
    key = "p" + sha256(f"{html}\0{task.scope}\0{task.id if task.checks else ''}")[:24]
    return RenderRequest(key, as_document(html, task.scope)[0], task.checks)


def render_task_pages(
    renderer: Renderer, pages: Sequence[tuple[Task, str]], on_page: Callable[[], None] | None = None
) -> list[Rendering | None]:
    """Render each page with its task's checks, in order; equal ones once, an absent page not at all.

    Only the desktop's picture is kept: thousands of pages may be held at once. `on_page` is called for each page that
    the renderer finished.
    """
    asked = [task_request(task, html) if html else None for task, html in pages]
    requests = {request.key: request for request in asked if request is not None}
    found: dict[str, Rendering] = {}

    def done(request: RenderRequest, rendering: Rendering) -> None:
        desktop = {screen: picture for screen, picture in rendering.screenshots.items() if screen == "desktop"}
        found[request.key] = replace(rendering, screenshots=desktop)
        if on_page is not None:
            on_page()

    if requests:
        renderer.render(requests.values(), done)
    return [found.get(request.key) if request is not None else None for request in asked]
