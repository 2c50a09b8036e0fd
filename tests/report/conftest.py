from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report import write_index, write_report
from tests.report.synthetic import make_run

AXE = Path(__file__).parents[2] / "harness/render/vendor/axe-core/axe.min.js"


def until(page: Any, expression: str, seconds: float = 10) -> None:
    """Wait for a condition. Playwright's own polling is an eval inside the page, which the report's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One made-up run with its page, and the list of runs above it."""
    reports = tmp_path_factory.mktemp("reports")
    run = make_run(reports / "2026-03-14-a1b2", tasks=60)
    make_run(reports / "2026-03-12-77aa", tasks=24, seed=3, started="2026-03-12T10:00:00+01:00", pictures=False)
    write_report(run)
    write_report(reports / "2026-03-12-77aa")
    write_index(reports)
    return run


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A desktop page that fails the test on any script error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors
