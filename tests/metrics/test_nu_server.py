"""The warm checker processes: what one page may cost, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from harness.metrics import nu, nu_process, nu_server
from tests.metrics.hostile_pages import HOSTILE

GOOD = '<!DOCTYPE html><html lang="en"><title>T</title><p>x</p></html>'
ENDLESS = '<!DOCTYPE html><html lang="en"><title>T</title>' + "".join(
    f'<label for="x{n}">x</label>' for n in range(20_000)
)
"""Over ten seconds of computing for Nu."""


@pytest.fixture(scope="module")
def checkers(nu_choice: nu.NuChoice) -> Iterator[nu_server.Checkers]:
    own = nu_server.Checkers(nu_choice.java, nu_choice.jar)
    own.check([GOOD.encode()])
    yield own
    own.close()


def ready(checkers: nu_server.Checkers) -> nu_process.Server:
    """One that answers now."""
    server = checkers._server(private=False)
    assert server._java is not None
    return server


def gone(pids: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_one_page_of_60_000_attributes_among_forty_costs_itself_alone(nu_choice: nu.NuChoice) -> None:
    pages = [GOOD] * 40
    pages[17] = HOSTILE["60,000 attributes"]()
    reports = nu.check_pages(pages)
    assert all(report is not None for report in reports)
    silent = [index for index, report in enumerate(reports) if report is not None and report.silent]
    assert silent == [17]
    assert reports[17] is not None
    assert reports[17].silent.startswith(nu.OVERRAN)


def test_a_page_that_overruns_is_named_and_the_others_are_sent_again(
    checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 1.0)
    pages = [ENDLESS, GOOD.replace("x", "<b>y"), ENDLESS, *[GOOD] * 30]
    told = checkers.check([page.encode() for page in pages])
    assert [isinstance(said, str) for said in told] == [True, False, True, *[False] * 30]
    assert all(said.startswith(nu.OVERRAN) for said in told if isinstance(said, str))
    assert told[1]
    assert told[3:] == [[]] * 30


def test_others_do_not_wait_for_a_slow_page(checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slow ones, more than there are processes, and one that comes when they are all at work."""
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 30.0)
    slow = threading.Thread(target=checkers.check, args=([ENDLESS.encode()] * 3,))
    slow.start()
    deadline = time.monotonic() + 60
    while len([flight for flight in checkers._flights.values() if flight.slow]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert checkers.check([GOOD.encode()]) == [[]]
    assert slow.is_alive()
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 0.2)
    slow.join()


def test_a_jvm_that_ends_by_itself_is_replaced(checkers: nu_server.Checkers) -> None:
    server = ready(checkers)
    assert server._java is not None
    server._java.kill()
    assert checkers.check([GOOD.encode()] * 3) == [[]] * 3
    assert server not in checkers._alive()


def test_a_page_under_which_a_jvm_ends_twice_is_named(
    checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = nu_process.Server.ask

    def deadly(self: nu_process.Server, document: bytes) -> list[dict[str, object]]:
        if b"DEADLY" in document and self._java is not None:
            self._java.kill()
        return ask(self, document)

    monkeypatch.setattr(nu_process.Server, "ask", deadly)
    fine, deadly_page = checkers.check([GOOD.encode(), GOOD.replace("x", "DEADLY").encode()])
    assert (fine, deadly_page) == ([], "the Nu Html Checker ended on this page, twice")


def test_idle_processes_end(checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = [ready(checkers)._process.pid]
    monkeypatch.setattr(nu_server, "IDLE_SECONDS", 0.1)
    assert gone(pids)
    monkeypatch.setattr(nu_server, "IDLE_SECONDS", 60.0)
    assert checkers.check([GOOD.encode()]) == [[]]


def test_it_listens_on_loopback_alone_and_fetches_nothing(checkers: nu_server.Checkers) -> None:
    from http.client import HTTPConnection

    server = ready(checkers)
    assert server._java is not None
    assert nu_process._loopback_port(server._java) == server._port
    connection = HTTPConnection("127.0.0.1", server._port, timeout=20)
    connection.request("GET", "/?out=json&doc=file:///etc/hostname", headers={"User-Agent": "test"})
    assert b"URL-based checks are prohibited" in connection.getresponse().read()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "kill"])
def test_no_jvm_outlives_the_harness(nu_choice: nu.NuChoice, tmp_path: Path, how: signal.Signals) -> None:
    script = textwrap.dedent(
        f"""
        import time
        from harness.metrics import nu_server
        checkers = nu_server.Checkers({nu_choice.java!r}, {nu_choice.jar!r})
        checkers.warm()
        server = checkers._servers[0]
        server.wait()
        print(server._process.pid, server._java.pid, flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(psutil.pid_exists, pids))
    process.send_signal(how)
    process.wait(10)
    assert gone(pids)


@pytest.mark.slow
def test_thirty_slow_pages_cost_their_deadlines_and_no_other_page_anything(nu_choice: nu.NuChoice) -> None:
    pages = {name: make() for name, make in HOSTILE.items()}
    assert len(pages) >= 30
    checkers = nu_server.checkers(nu_choice.java, nu_choice.jar)
    assert checkers.check([GOOD.encode()]) == [[]]
    over = threading.Event()
    own: dict[int, tuple[float, float]] = {}
    """The longest that each attempt at a page was seen at work: processor seconds of its JVM, seconds."""
    waits: list[float] = []

    def observe() -> None:
        while not over.wait(0.02):
            now = time.monotonic()
            with checkers._lock:
                for number, flight in checkers._flights.items():
                    own[number] = flight.server.computed() - flight.computed, now - flight.started

    def stand_by() -> None:
        while not over.wait(0.1):
            began = time.monotonic()
            assert checkers.check([GOOD.encode()]) == [[]]
            waits.append(time.monotonic() - began)

    with ThreadPoolExecutor(2) as beside:
        others = [beside.submit(observe), beside.submit(stand_by)]
        try:
            reports = nu.check_pages(list(pages.values()))
        finally:
            over.set()
        for other in others:
            other.result()
    silent = [report.silent for report in reports if report is not None and report.silent]
    assert all(why.startswith(nu.OVERRAN) for why in silent)
    longest = [max(column) for column in zip(*own.values(), strict=True)]
    print(len(silent), "silent; longest", longest, "of", len(own), "attempts; a good page:", len(waits), max(waits))
    # A JVM may compute on two cores between two looks at it.
    assert longest[0] < nu_server.PAGE_SECONDS + 1
    assert longest[1] < nu_server.PATIENCE * nu_server.PAGE_SECONDS + 1
    # Pages beside do not wait for the slow ones, but those whose JVM has to end wait for another one, some repeatedly.
    assert len(waits) >= 10
    assert sorted(waits)[len(waits) // 2] < 1
