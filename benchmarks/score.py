"""What scoring a page costs: all scorers but the browser and Nu on one core, Nu over a batch, and the worst pages.

`python -m benchmarks.score [PAGES.jsonl]` measures pages of 11 kB (from the labelled corpus, or the `output` column
of the file) and prints milliseconds per page beside the limits: 60 ms for the scorers, 100 ms for Nu, 30 s for 10 MB.
As ratios that hold on any machine it prints each in units of one html5lib parse of the same page.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import html5lib

from harness.metrics import nu, registry
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence
from harness.types import Task

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "metrics" / "corpus" / "valid"
CHARACTERS = 11_000
PAGES = 40
HOSTILE: dict[str, Callable[[], str]] = {
    "10 MB of text": lambda: "<!DOCTYPE html><p>" + "word " * 2_000_000,
    "10 MB of divs": lambda: "<!DOCTYPE html>" + "<div>" * 2_000_000,
    "1.9 MB of unknown end tags": lambda: "<x>" * 200_000 + "</y>" * 300_000,
    "1.9 MB of formatting": lambda: "<b><p>" * 300_000,
    "1.9 MB of fences": lambda: "```\n<b>\n" * 230_000,
}


def pages(path: str | None) -> list[str]:
    """Pages of about 11 kB each, joined from smaller bodies, no two alike."""
    if path:
        sources = [json.loads(line)["output"] for line in Path(path).read_text(encoding="utf-8").splitlines()]
    else:
        sources = [page.read_text(encoding="utf-8") for page in sorted(CORPUS.glob("*.html"))]
    made = []
    for start in range(PAGES):
        body, index = "", start * 7
        while len(body) < CHARACTERS:
            text = sources[index % len(sources)]
            body += f"<section>{text.partition('<body>')[2].partition('</body>')[0] or text}</section>\n"
            index += 1
        made.append(f'<!DOCTYPE html>\n<html lang="en"><head><title>{start}</title></head><body>{body}</body></html>')
    return made


def milliseconds(work: Callable[[str], object], items: list[str]) -> float:
    """Median over `items`."""
    taken = []
    for item in items:
        start = time.perf_counter()
        work(item)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def score(page: str, reference: str) -> None:
    evidence = Evidence(Task(id="t", prompt="", reference=reference), page, extract(page))
    registry.score_page(evidence)
    registry.messages(evidence)


def main() -> None:
    with contextlib.suppress(AttributeError):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, the parsers' process too
    made = pages(sys.argv[1] if len(sys.argv) > 1 else None)
    others = made[1:] + made[:1]
    score(made[0], others[0])  # imports, and the parsers' process
    parse = milliseconds(lambda page: html5lib.parse(page), made)
    all_scorers = milliseconds(lambda page: score(page, others[made.index(page)]), made)
    known = milliseconds(lambda page: score(page, others[made.index(page)]), made)
    print(f"pages: {len(made)} of {statistics.mean(map(len, made)):,.0f} characters")
    print(f"one html5lib parse                   {parse:7.1f} ms")
    print(
        f"all scorers, reference new           {all_scorers:7.1f} ms  {all_scorers / parse:4.1f} parses  (limit 60 ms)"
    )
    print(f"all scorers, reference known         {known:7.1f} ms  {known / parse:4.1f} parses")
    if nu.find_nu() is not None:
        for state in ("starting", "warm"):
            start = time.perf_counter()
            nu.check_pages(made * 5)
            each = 1000 * (time.perf_counter() - start) / (5 * len(made))
            name = f"Nu, {state}, {5 * len(made)} pages"
            print(f"{name:36} {each:7.1f} ms  {each / parse:4.1f} parses  (limit 100 ms)")
    for name, make in HOSTILE.items():
        start = time.perf_counter()
        score(make(), made[0])
        print(f"{name:36} {time.perf_counter() - start:7.1f} s   (limit 30 s)")


if __name__ == "__main__":
    main()
