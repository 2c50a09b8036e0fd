"""The page as it is written and as a browser gives it to a screen reader, against snapshots.

What changes with a version of matplotlib, with a font or with the text of the scripts is left out: the drawings (their
titles and descriptions stay), styles, scripts, packed texts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lxml import etree, html
from syrupy.assertion import SnapshotAssertion

from harness.report import write_index, write_report
from tests.report.synthetic import make_run


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 tasks, two answers to each, with its page and the list of runs."""
    models = ("base", "tuned", "reference")
    run = make_run(tmp_path_factory.mktemp("reports") / "small", tasks=12, models=models, samples=2, seed=5)
    write_report(run)
    write_index(run.parent)
    return run


def stable(path: Path) -> str:
    """The page's markup, one tag or text a line, without what is not ours to keep the same."""
    page = html.document_fromstring(path.read_bytes().decode("utf-8"))
    for element in page.xpath("//style | //script"):
        element.text = None
    for element in page.xpath("//script[@class='chunk']"):
        element.getparent().remove(element)
    for drawing in page.xpath("//svg[@role='img']"):
        said = [drawing.findtext(tag) for tag in ("title", "desc")]
        for child in list(drawing):
            drawing.remove(child)
        drawing.attrib.clear()
        drawing.text = " | ".join(filter(None, said))
    text = etree.tostring(page, encoding="unicode", method="html")
    text = re.sub(r"sha256-[A-Za-z0-9+/=]+", "sha256-…", re.sub(r"\s+", " ", text))
    lines = (piece.strip() for piece in re.split(r"(?=<)|(?<=>)", text))
    return "\n".join(line for line in lines if line and not line.startswith("</"))


@pytest.mark.parametrize("name", ["small/index.html", "index.html"])
def test_the_markup(small: Path, name: str, snapshot: SnapshotAssertion) -> None:
    assert stable(small.parent / name) == snapshot


def test_the_gallery_and_a_task_as_a_screen_reader_hears_them(
    page: Any, small: Path, snapshot: SnapshotAssertion
) -> None:
    page.goto((small / "index.html").as_uri() + "#sort=loss&metric=bleu_dom")
    page.evaluate("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(".card")
    heard = [page.locator("#filters").aria_snapshot(), page.locator(".card").first.aria_snapshot()]
    page.locator(".card a").first.click()
    page.wait_for_selector("dialog[open] .findings")
    heard.append(page.locator("dialog").aria_snapshot())
    assert "\n\n".join(heard) == snapshot
