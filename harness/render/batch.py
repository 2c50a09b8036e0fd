"""Pages of tasks through the renderer, in the order given, each distinct page once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.render.renderer import Renderer
from harness.render.settings import RenderRequest
from harness.types import Rendering, Task, sha256


def render_task_pages(
    renderer: Renderer, pages: Sequence[tuple[Task, str]], on_page: Callable[[], None] | None = None
) -> list[Rendering | None]:
    """Render each page with its task's checks, in order; equal ones once, an absent page not at all.

    Only the desktop's picture is kept: thousands of pages may be held at once. `on_page` is called for each page that
    the renderer finished.
    """
    keys = ["p" + sha256(f"{html}\0{task.id if task.checks else ''}")[:24] for task, html in pages]
    requests = {
        key: RenderRequest(key, html, task.checks) for key, (task, html) in zip(keys, pages, strict=True) if html
    }
    found: dict[str, Rendering] = {}

    def done(request: RenderRequest, rendering: Rendering) -> None:
        desktop = {screen: picture for screen, picture in rendering.screenshots.items() if screen == "desktop"}
        found[request.key] = replace(rendering, screenshots=desktop)
        if on_page is not None:
            on_page()

    if requests:
        renderer.render(requests.values(), done)
    return [found.get(key) for key in keys]
