"""Pages per second of the renderer, beside a fresh browser per page and beside the limit of one reused page.

    python benchmarks/render.py [--pages N] [--rounds R] [--way NAME ...] [--json FILE]

All ways render the same pages (the references of tasks/html_starter) on the same machine, in turns, `--rounds` times;
the median counts. Ratios hold from machine to machine, the absolute figures do not.

- `benchmark`: the way existing benchmarks do it: Design2Code starts a Python process for each screenshot, which starts
  Playwright and a browser, opens the file and takes one picture (metrics/screenshot_single.py, called by os.system).
- `fresh`: only the browser is started anew, in one process with one Playwright; a page and one screenshot each.
  Both with full Chromium where there is one, and with the renderer's own browser, which may be the headless shell.
- `limit`: one reused page, `set_content` and both screenshots, no isolation, the best of 1 to 3 pages at once.
- `renderer`: everything measured, both viewports and screenshots, axe off; then with axe; with a process for each page,
  which is how a page that misbehaves is measured; and with each safety feature and the screenshots left out in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from playwright.async_api import Browser, async_playwright

from harness.render import Renderer, RenderRequest, RenderSettings, memory, shared_tab
from harness.render.browser import find_browser, network_namespace
from harness.render.settings import DESKTOP_WIDTH, PHONE_WIDTH, VIEWPORT_HEIGHT

ROOT = Path(__file__).parents[1]


def references(count: int) -> list[str]:
    files = sorted((ROOT / "tasks" / "html_starter").glob("*/*.yaml"))
    pages = [task["reference"] for file in files for task in yaml.safe_load(file.read_text(encoding="utf-8"))]
    if not pages:
        raise SystemExit("tasks/html_starter holds no pages")
    return (pages * (count // len(pages) + 1))[:count]


ONE_SCREENSHOT = """
import sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], chromium_sandbox=False)
    page = browser.new_page()
    page.goto("file://" + sys.argv[2])
    page.screenshot(path=sys.argv[3], full_page=True)
    browser.close()
"""


def benchmark(pages: list[str], program: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.html") for number in range(len(pages))]
        for file, html in zip(files, pages, strict=True):
            file.write_text(html, encoding="utf-8")
        started = time.perf_counter()
        for file in files:
            command = [sys.executable, "-c", ONE_SCREENSHOT, program, str(file), str(file.with_suffix(".png"))]
            subprocess.run(command, check=True)
        return len(pages) / (time.perf_counter() - started)


async def fresh(pages: list[str], program: str | None) -> float:
    started = time.perf_counter()
    async with async_playwright() as playwright:
        for html in pages:
            browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
            page = await browser.new_page(viewport={"width": DESKTOP_WIDTH, "height": VIEWPORT_HEIGHT})
            await page.set_content(html)
            await page.screenshot()
            await browser.close()
    return len(pages) / (time.perf_counter() - started)


async def limit(pages: list[str], program: str | None, at_once: int) -> float:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        todo = iter(pages)
        started = time.perf_counter()
        await asyncio.gather(*(_reuse(browser, todo) for _ in range(at_once)))
        spent = time.perf_counter() - started
        await browser.close()
    return len(pages) / spent


async def _reuse(browser: Browser, todo: Iterator[str]) -> None:
    page = await browser.new_page()
    for html in todo:
        await page.set_content(html)
        for width in (DESKTOP_WIDTH, PHONE_WIDTH):
            await page.set_viewport_size({"width": width, "height": VIEWPORT_HEIGHT})
            await page.screenshot()


def measured(pages: list[str], settings: RenderSettings) -> float:
    with Renderer(settings) as renderer:
        renderer.render(RenderRequest(f"warm {n}", "<p>warm") for n in range(4))
        started = time.perf_counter()
        done = renderer.render((RenderRequest(str(n), html) for n, html in enumerate(pages)), lambda *_: None)
        spent = time.perf_counter() - started
    wrong = [rendering for rendering in done.values() if rendering.outcome in ("unscored", "timeout", "crash")]
    if wrong:
        raise SystemExit(f"{len(wrong)} pages were not measured, first: {wrong[0].outcome} {wrong[0].detail}")
    return len(pages) / spent


def without_guard(pages: list[str], settings: RenderSettings) -> float:
    module: Any = shared_tab
    kept = module.script
    module.script = lambda _name: "0"  # the shared tab itself asks for the guard alone
    try:
        return measured(pages, settings)
    finally:
        module.script = kept


def process_per_page(pages: list[str], settings: RenderSettings) -> float:
    return measured(pages, replace(settings, shared_process=False))


def without_memory_watch(pages: list[str], settings: RenderSettings) -> float:
    module: Any = memory
    kept, module.PERIOD = module.PERIOD, 3600.0
    try:
        return measured(pages, settings)
    finally:
        module.PERIOD = kept


def without_namespace(pages: list[str], settings: RenderSettings) -> float:
    return measured(pages, replace(settings, namespace=False))


def without_recycling(pages: list[str], settings: RenderSettings) -> float:
    return measured(pages, replace(settings, pages_per_browser=10**9, pages_per_process=10**9))


def without_screenshots(pages: list[str], settings: RenderSettings) -> float:
    return measured(pages, replace(settings, screenshots=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--fresh-pages", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", action="append", help="only this one, by its name in the table; may be given again")
    parser.add_argument("--full-browser", help="a full Chromium's path; default: chromium or google-chrome on the PATH")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pages = references(options.pages)
    choice = find_browser()
    full = options.full_browser or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    off, on = RenderSettings(axe=False), RenderSettings(axe=True)
    ways: dict[str, Callable[[], float]] = {
        **{f"limit, {n} at once": partial(lambda n: asyncio.run(limit(pages, choice.path, n)), n) for n in (1, 2, 3)},
        "renderer": lambda: measured(pages, off),
        "renderer with axe": lambda: measured(pages, on),
        "renderer, process per page": lambda: process_per_page(pages, off),
        "renderer - namespace": lambda: without_namespace(pages, off),
        "renderer - guard script": lambda: without_guard(pages, off),
        "renderer - memory watch": lambda: without_memory_watch(pages, off),
        "renderer - recycling": lambda: without_recycling(pages, off),
        "renderer - screenshots": lambda: without_screenshots(pages, off),
    }
    for name, path in (("full", full), ("same", choice.path)):
        if path is not None:
            few = pages[: options.fresh_pages]
            ways[f"benchmark, {name} browser"] = partial(benchmark, few, path)
            ways[f"fresh, {name} browser"] = partial(lambda few, path: asyncio.run(fresh(few, path)), few, path)
    if options.way:
        ways = {name: ways[name] for name in options.way}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            rates[name].append(way())
            print(f"  {name:26} {rates[name][-1]:7.2f} pages/s", file=sys.stderr, flush=True)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    best = max((value for name, value in middle.items() if name.startswith("limit")), default=math.nan)
    print(f"{choice.name} {choice.version}; {network_namespace()[1]}; {options.pages} pages, {options.rounds} rounds")
    kind = "full" if full is not None else "same"
    bases = [f"{name}, {kind} browser" for name in ("fresh", "benchmark")]
    for name, value in middle.items():
        times = "".join(f"{value / middle[base]:7.1f} x {base}" for base in bases if base in middle)
        print(f"{name:26} {value:7.2f} pages/s {value / best:6.2f} x limit{times}")
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "median": middle, "browser": choice.version}, indent=1))


if __name__ == "__main__":
    main()
