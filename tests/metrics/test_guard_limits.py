from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.metrics import parser_pool
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence
from harness.metrics.registry import METRICS, messages, score_page
from harness.types import OVERRAN, Task
from tests.conftest import ROOT
from tests.metrics.hostile_pages import HOSTILE

if sys.platform != "win32":
    import resource

QUADRATIC = "<!DOCTYPE html><title>T</title>" + "<x>" * 2_900 + "</y>" * 60_000


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parser_pool, "PARSE_SECONDS", 0.5)
    yield


def test_a_parser_that_does_not_come_back_is_killed_and_replaced(short_patience: None) -> None:
    with pytest.raises(parser_pool.NotMeasured, match=r"longer than 0\.5 s"):
        parser_pool.tree_errors("<x>" * 20_000 + "</y>" * 20_000, False, 10)
    assert parser_pool.tree_errors("<p>Hi", True, 1) == []


def test_the_metrics_of_a_page_that_could_not_be_parsed_are_named_nulls(short_patience: None) -> None:
    scores = score_page(Evidence(Task("t", "p"), QUADRATIC, extract(QUADRATIC)))
    assert scores["well_formed"].value in (None, 0.0)
    if scores["well_formed"].value is None:
        assert "longer than" in scores["well_formed"].note
    assert scores["parses"].value is not None


def test_a_page_nested_too_deep_is_not_given_to_html5lib() -> None:
    page = "<!DOCTYPE html><title>T</title>" + "<div>" * 4_000 + "x" + "</div>" * 4_000
    scores = score_page(Evidence(Task("t", "p"), page, extract(page)))
    assert scores["well_formed"].value is None
    assert "4,000 deep" in scores["well_formed"].note


def test_a_page_too_large_is_null_in_time_and_said_so() -> None:
    page = "<!DOCTYPE html><p>" + "word <b>bold</b> " * 100_000 + "word " * 1_700_000
    assert len(page) > 10_000_000
    start = time.process_time()
    evidence = Evidence(Task("t", "p", reference="<p>word"), page, extract(page))
    scores = score_page(evidence)
    assert time.process_time() - start < 6
    assert scores["extracted"].value == 1
    for name in ("parses", "well_formed", "bleu", "bleu_dom", "text_similarity"):
        assert scores[name].value is None
        assert "characters, more than" in scores[name].note
    assert any("characters" in m.text for m in messages(evidence))


def test_a_dead_worker_is_replaced() -> None:
    parser_pool.tree_errors("<p>", True, 1)
    worker = parser_pool._pool.take()
    worker._process.kill()
    worker._process.wait()
    parser_pool._pool.put(worker)
    assert parser_pool.tree_errors("<p>", True, 1) == []


def test_many_threads_share_the_pool() -> None:
    found: list[int] = []

    def work(count: int) -> None:
        found.append(len(parser_pool.tree_errors("<p></b>" * count, True, 1)))

    threads = [threading.Thread(target=work, args=(count,)) for count in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == list(range(1, 9))


def computed() -> float:
    """Processor seconds of all parsers' processes so far, the dead ones included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:2]) if "harness.metrics._worker" in process.cmdline() else 0.0
    return seconds


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processor time of ended processes")
def test_thirty_slow_pages_cost_a_parser_their_deadlines_and_no_other_page_anything() -> None:
    if parser_pool._pool.size < 2:
        pytest.skip("one core parses one page at a time")
    pages = {name: make() for name, make in HOSTILE.items()}
    assert len(pages) >= 30
    began = time.monotonic()
    workers = [parser_pool._pool.take() for _ in range(2)]
    for worker in workers:
        assert worker.ask("tree_errors", ("<p>", True), 10) == (True, [])
        parser_pool._pool.put(worker)
    start = time.monotonic() - began
    over = threading.Event()
    waits: list[float] = []

    def stand_by() -> None:
        while not over.wait(0.1):
            began = time.monotonic()
            assert parser_pool.tree_errors("<p>", True, 1) == []
            waits.append(time.monotonic() - began)

    costs: dict[str, float] = {}
    overran: list[str] = []
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(stand_by)
        try:
            for name, page in pages.items():
                for parse in (
                    lambda page=page: parser_pool.facts(page, "document"),
                    lambda page=page: parser_pool.tree_errors(page, True, 1),
                ):
                    before = computed()
                    try:
                        parse()
                    except parser_pool.NotMeasured as reason:
                        assert str(reason).startswith(OVERRAN)
                        overran.append(name)
                    costs[name] = max(costs.get(name, 0), computed() - before)
        finally:
            over.set()
        other.result()
    print(
        f"{len(overran)} overran, the costliest {max(costs.values())}; {len(waits)} good pages, {max(waits)}; {start}"
    )
    # A process that is started anew loads the parsers, and the pages beside are counted too.
    assert max(costs.values()) < parser_pool.PARSE_SECONDS + 3
    # Whose page ended a process waits for the next one; the others have theirs, whatever else the machine is doing.
    assert len(waits) > 100
    assert sorted(waits)[len(waits) * 99 // 100] < 1
    assert max(waits) < 1 + 3 * start


TAGS = ["html", "head", "body", "p", "div", "b", "i", "a", "table", "tr", "td", "select", "option", "template", "svg"]
TAGS += ["math", "script", "style", "title", "form", "button", "frameset", "x-y", "textarea", "plaintext", "dialog"]
PIECES = st.one_of(
    st.sampled_from(TAGS).map("<{}>".format),
    st.sampled_from(TAGS).map("</{}>".format),
    st.sampled_from(TAGS).map('<{} class="a b" style=";:x" id=1 / >'.format),
    st.sampled_from(
        ["<!--", "-->", "<![CDATA[", "]]>", "<!doctype x", "&", "&#0;", "&#xD800;", "<?", "</", "<", "\0", "\r"]
    ),
    st.text(max_size=8),
)
NESTED = st.builds(lambda tag, n: f"<{tag}>" * n, st.sampled_from(TAGS), st.integers(1, 300))
PAGES = st.one_of(
    st.lists(PIECES, max_size=30).map("".join),
    st.text(),
    st.binary().map(lambda data: data.decode("utf-8", "replace")),
    st.binary().map(lambda data: data.decode("latin-1")),
    st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.lists(NESTED, max_size=3).map("".join),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(PAGES, PAGES, st.sampled_from(["document", "fragment"]), st.sampled_from(["eos", "length"]))
def test_any_text_gets_a_score_or_a_named_null(completion: str, reference: str, scope: str, reason: str) -> None:
    task = Task("t", "p", reference=reference, scope=scope)  # type: ignore[arg-type]
    evidence = Evidence(task, completion, extract(completion, reason, task.scope))
    scores = score_page(evidence)
    limits = {"binary": 1.0, "share": 1.0, "percent": 100.0}
    for metric in METRICS:
        score = scores.get(metric.name)
        if score is None:
            continue
        assert not score.note.startswith("the metric failed"), (metric.name, score.note)
        assert score.note if score.value is None else 0 <= score.value <= limits[metric.scale], metric.name
    tiers = [scores[name].value for name in ("extracted", "parses", "well_formed")]
    known = [tier for tier in tiers if tier is not None]
    assert known == sorted(known, reverse=True), "the tiers are cumulative"
    messages(evidence)


def test_a_folder_with_somebodys_own_harness_and_html_does_not_stop_the_parsers(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    for name in ("harness/__init__.py", "html.py"):
        (tmp_path / name).write_text("raise SystemExit('somebody else')\n")
    code = "from harness.metrics import parser_pool; print(parser_pool.tree_errors('<p>Hi', True, 1))"
    # as the installed command is started, which does not look where one stands
    command = [sys.executable, "-P", "-c", code]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
