from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from harness.errors import HarnessError
from harness.render import Deadlines, Renderer, RenderRequest, RenderSettings
from harness.render.browser import find_browser
from harness.render.reading import CheckReader
from harness.render.shared_process import SharedProcess
from harness.types import Rendering


@pytest.fixture(scope="session")
def browser_there() -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def renderer(browser_there: None) -> Iterator[Renderer]:
    with Renderer(RenderSettings(axe=False, workers=2)) as warm:
        yield warm


@pytest.fixture(scope="session")
def lane(browser_there: None) -> Iterator[Renderer]:
    """Measures one page at a time, in a shared process where it may."""
    with Renderer(RenderSettings(axe=False, workers=1)) as warm:
        yield warm


@pytest.fixture(scope="session")
def alone(browser_there: None) -> Iterator[Renderer]:
    """Measures each page through Playwright's driver, in a process of its own."""
    with Renderer(RenderSettings(axe=False, workers=1, shared_process=False)) as warm:
        yield warm


@pytest.fixture(scope="session")
def hurried(browser_there: None) -> Iterator[Renderer]:
    """Gives up soon: for pages that compute for ever, and keep a core busy as long as they are waited for."""
    soon = Deadlines(load=1.0, page=2.0, all=3.0, shared=1.0)
    with Renderer(RenderSettings(axe=False, screenshots=False, workers=1, deadlines=soon)) as warm:
        yield warm


@pytest.fixture(scope="session")
def measure(renderer: Renderer) -> Callable[..., Rendering]:
    """Measure one page; checks are given in their written form."""
    from harness.checks.parse import parse_check

    def one(html: str, *checks: dict[str, Any]) -> Rendering:
        return renderer.render([RenderRequest("page", html, tuple(map(parse_check, checks)))])["page"]

    return one


@pytest.fixture
def visits(browser_there: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, int]]]:
    """For each page that went into the shared process: its key, why it was given up, and the process it was in."""
    went: list[tuple[str, str, int]] = []
    render = SharedProcess.render

    async def recorded(
        self: SharedProcess, request: RenderRequest, settings: RenderSettings, reader: CheckReader | None
    ) -> Rendering | None:
        result = await render(self, request, settings, reader)
        pages = []
        for process in psutil.Process(self.pid).children(recursive=True) if self.pid else []:
            with contextlib.suppress(psutil.Error):
                if "--type=renderer" in process.cmdline():
                    pages.append(process.pid)
        went.append((request.key, self.why, pages[0] if pages else 0))
        return result

    monkeypatch.setattr(SharedProcess, "render", recorded)
    yield went
