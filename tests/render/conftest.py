from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.render import Renderer, RenderRequest, RenderSettings
from harness.render.browser import find_browser
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
def measure(renderer: Renderer) -> Callable[..., Rendering]:
    """Measure one page; checks are given in their written form."""
    from harness.checks.parse import parse_check

    def one(html: str, *checks: dict[str, Any]) -> Rendering:
        return renderer.render([RenderRequest("page", html, tuple(map(parse_check, checks)))])["page"]

    return one
