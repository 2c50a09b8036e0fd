"""Measures the report on a made-up run of 500 tasks × 5 models against its limits, and one of 136 × 2 for its size.

    python benchmarks/report.py [--tasks 500] [--keep FOLDER]

The pictures are as large as real ones: palette PNGs of 1280 and 375 px by the height of a page.
Prints one line a figure with its limit and their ratio (below 1 is within); exit code 1 if any is past its limit.
A page counts as open when the first cards of the gallery stand in the window. Frames are timed while the wheel turns
through the whole gallery at 2,400 px a second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from harness.render.pixels import compress  # noqa: E402
from harness.report import write_report  # noqa: E402
from tests.report.synthetic import MODELS, drawing, make_run  # noqa: E402

OPEN_S, FRAME_MS, SIZE_MB = 2.0, 50.0, 25.0
_SCROLL = """async () => {
  document.documentElement.style.scrollBehavior = "auto";
  document.querySelector("#cards").scrollIntoView();
  const gaps = [];
  let before = performance.now();
  for (const end = before + 6000; before < end;) {
    await new Promise((next) => requestAnimationFrame(next));
    const now = performance.now();
    gaps.push(now - before);
    scrollBy(0, 2.4 * (now - before));
    before = now;
  }
  return [gaps, document.querySelectorAll(".card").length];
}"""


@cache
def _png(kind: int, width: int, height: int) -> bytes:
    return compress(drawing(f"page {kind}", width, height))


def screenshot(html: str, width: int, height: int) -> bytes:
    """A picture as large as the renderer's; each is a file of its own, which no cache has decoded yet."""
    digest = hashlib.sha256(html.encode()).digest()
    width = 1280 if width > height else 375
    tall = (800, 800, 1100, 1600, 2600)[digest[0] % 5]
    return _png(digest[1] % 8, width, tall) + digest  # what follows a PNG's end is ignored


def main() -> int:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--keep", type=Path, help="leave the made-up runs in this folder")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    try:
        return measure(folder, given.tasks)
    finally:
        if given.keep is None:
            shutil.rmtree(folder)


def measure(folder: Path, tasks: int) -> int:
    """Make both runs in `folder`, measure them, print the figures and return the exit code."""
    from playwright.sync_api import sync_playwright

    large = make_run(folder / "large", tasks=tasks, models=MODELS, length=4000, screenshot=screenshot)
    small = make_run(folder / "small", tasks=136, models=("base", "tuned"), length=4000, screenshot=screenshot)
    began = time.perf_counter()
    page_file = write_report(large)
    writing = time.perf_counter() - began
    write_report(small)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    found = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        opened = sorted(opening(browser, page_file) for _ in range(5))[2]
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(page_file.as_uri())
        gaps, cards = page.evaluate(_SCROLL)
        browser.close()
    gaps = sorted(gaps[1:])
    size = sum(path.stat().st_size for path in [small / "index.html", *(small / "shots").iterdir()]) / 1e6
    figures = [
        ("open, s (median of 5)", opened, OPEN_S),
        ("frame while scrolling, ms (95th percentile)", gaps[int(len(gaps) * 0.95)], FRAME_MS),
        ("136 tasks x 2 models with pictures, MB", size, SIZE_MB),
    ]
    megabytes = page_file.stat().st_size / 1e6
    print(f"{tasks} tasks x {len(MODELS)} models: page {megabytes:.1f} MB, written in {writing:.1f} s, {cards} cards")
    print(f"frames: median {gaps[len(gaps) // 2]:.1f} ms, longest {gaps[-1]:.1f} ms, {len(gaps)} frames")
    for name, value, limit in figures:
        print(f"{name}: {value:.2f} of {limit:.0f}, ratio {value / limit:.2f}")
    return int(any(value > limit for _, value, limit in figures))


def opening(browser: Any, path: Path) -> float:
    """Seconds from the click on a link to the gallery until its first cards stand in the window, in a fresh context."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    began = time.perf_counter()
    page.goto(path.as_uri() + "#gallery", wait_until="commit")
    page.wait_for_selector(".card")
    taken = time.perf_counter() - began
    context.close()
    return taken


if __name__ == "__main__":
    raise SystemExit(main())
