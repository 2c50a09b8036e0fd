"""The warm checker processes: what one page may cost, and what is left of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
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


@pytest.fixture
def checkers(nu_choice: nu.NuChoice) -> nu_server.Checkers:
    """Those of this process; tests that leave no JVM come last, for a start takes three seconds of computing."""
    return nu_server.checkers(nu_choice.java, nu_choice.jar)


def ready(checkers: nu_server.Checkers) -> nu_process.Server:
    """One that answers now."""
    checkers.warm()
    server = checkers._servers[0]
    server.wait()
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


def test_a_connection_that_is_closed_costs_no_jvm_and_no_page(checkers: nu_server.Checkers) -> None:
    """The servlet closes it unasked where a report has too many messages, or after a while."""
    before = ready(checkers)
    too_many = GOOD.replace("<p>", "<p" + " a=1" * 30_000 + ">")
    assert len(checkers.check([too_many.encode()])[0]) > nu_process.MOST_MESSAGES
    assert checkers.check([GOOD.encode()]) == [[]]
    kept = before._kept
    assert kept is not None
    kept.sock.shutdown(socket.SHUT_RDWR)
    assert checkers.check([GOOD.encode()]) == [[]]
    assert ready(checkers) is before


def test_who_gives_up_leaves_nothing_behind(checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = checkers._changed.wait

    def interrupted(timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return waiting(timeout)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkers._changed, "wait", interrupted)
        checkers.check([GOOD.encode()] * 500)
    assert len(checkers._queue) == 0
    assert checkers.check([GOOD.encode()]) == [[]]


def test_it_listens_on_loopback_alone_and_fetches_nothing(checkers: nu_server.Checkers) -> None:
    from http.client import HTTPConnection

    server = ready(checkers)
    assert server._java is not None
    assert nu_process._loopback_port(server._java) == server._port
    connection = HTTPConnection("127.0.0.1", server._port, timeout=20)
    connection.request("GET", "/?out=json&doc=file:///etc/hostname", headers={"User-Agent": "test"})
    assert b"URL-based checks are prohibited" in connection.getresponse().read()


def test_a_jvm_that_ends_by_itself_is_replaced(checkers: nu_server.Checkers) -> None:
    server = ready(checkers)
    assert server._java is not None
    server._java.kill()
    assert checkers.check([GOOD.encode()] * 3) == [[]] * 3
    assert server not in checkers._alive()


def test_idle_processes_end(checkers: nu_server.Checkers, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = [ready(checkers)._process.pid]
    monkeypatch.setattr(nu_server, "IDLE_SECONDS", 0.1)
    assert gone(pids)
    monkeypatch.setattr(nu_server, "IDLE_SECONDS", 60.0)
    assert checkers.check([GOOD.encode()]) == [[]]


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


def test_a_page_that_overruns_is_named_and_costs_no_other_its_report(
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
    """Three slow ones, more than there are processes for one caller, and one that comes when these are at work."""
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 30.0)
    slow = threading.Thread(target=checkers.check, args=([ENDLESS.encode()] * 3,))
    slow.start()
    deadline = time.monotonic() + 60
    while len([flight for flight in list(checkers._flights.values()) if flight.slow]) < nu_server.PROCESSES:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert checkers.check([GOOD.encode()]) == [[]]
    assert slow.is_alive()
    assert len(checkers._servers) <= nu_server.MOST_PROCESSES
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 0.2)
    slow.join()


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


def started(choice: nu.NuChoice) -> tuple[nu_server.Checkers, float, float]:
    """Checkers whose first JVM has started, the processor seconds of that, and how much longer it took than they."""
    own = nu_server.Checkers(choice.java, choice.jar)
    began = time.monotonic()
    server = ready(own)
    return own, server.computed(), max(1.0, (time.monotonic() - began) / server.computed())


def longest_wait(deadline: float, start: float, stretch: float) -> float:
    """Seconds that a page may wait for others: their deadline and a start, with `MOST_PROCESSES` at work beside it.

    Both are processor seconds, `stretch` what a second of them took at the test's begin; half as much again for a
    machine that is busier later.
    """
    return (
        1.5
        * stretch
        * nu_server.MOST_PROCESSES
        * (deadline + start)
        / min(nu_server.MOST_PROCESSES, os.cpu_count() or 1)
    )


@pytest.mark.slow
def test_thirty_slow_pages_cost_their_deadlines_and_no_other_page_anything(
    nu_choice: nu.NuChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {name: make() for name, make in HOSTILE.items()}
    assert len(pages) >= 30
    checkers, start, stretch = started(nu_choice)
    monkeypatch.setattr(nu_server, "checkers", lambda java, jar: checkers)
    over = threading.Event()
    own: dict[int, tuple[float, float]] = {}
    """The longest that each attempt at a page was seen at work: processor seconds of its JVM, seconds."""
    waits: list[float] = []

    def observe() -> None:
        while not over.wait(0.02):
            now = time.monotonic()
            with checkers._changed:
                for server, flight in checkers._flights.items():
                    own[id(flight)] = server.computed() - flight.computed, now - flight.started
                    flights.append(flight)

    flights: list[object] = []  # kept, so that no two have one id

    def stand_by() -> None:
        while not over.wait(0.1):
            began = time.monotonic()
            assert checkers.check([GOOD.encode()]) == [[]]
            waits.append(time.monotonic() - began)

    with ThreadPoolExecutor(2) as beside:
        others = [beside.submit(observe), beside.submit(stand_by)]
        began = time.monotonic()
        try:
            reports = nu.check_pages(list(pages.values()))
        finally:
            over.set()
        took = time.monotonic() - began
        for other in others:
            other.result()
    checkers.close()
    silent = {name: report.silent for name, report in zip(pages, reports, strict=True) if report and report.silent}
    assert None not in reports
    assert all(why.startswith(nu.OVERRAN) for why in silent.values()), silent
    longest = [max(column) for column in zip(*own.values(), strict=True)]
    print(f"{len(silent)} silent in {took:.1f} s; longest {longest}; {len(waits)} good pages: {max(waits):.2f} s of")
    print(
        f"{longest_wait(nu_server.PAGE_SECONDS, start, stretch):.1f} s; a start {start:.1f} s, stretched {stretch:.1f}"
    )
    # A JVM may compute on two cores between two looks at it.
    assert longest[0] < nu_server.PAGE_SECONDS + 1
    assert longest[1] < nu_server.PATIENCE * nu_server.PAGE_SECONDS + 1
    assert len(waits) >= 10
    assert sorted(waits)[len(waits) // 2] < 1
    assert max(waits) < longest_wait(nu_server.PAGE_SECONDS, start, stretch)


@pytest.mark.slow
def test_slow_pages_of_more_callers_than_processes_cost_another_a_deadline_and_a_start(
    nu_choice: nu.NuChoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nu_server, "PAGE_SECONDS", 2.0)
    checkers, start, stretch = started(nu_choice)
    waits = []
    with ThreadPoolExecutor(4) as callers:
        slow = [callers.submit(checkers.check, [ENDLESS.encode()] * 2) for _ in range(4)]
        while not all(future.done() for future in slow):
            time.sleep(0.1)
            began = time.monotonic()
            assert checkers.check([GOOD.encode()]) == [[]]
            waits.append(time.monotonic() - began)
    checkers.close()
    print(f"{len(waits)} good pages: {max(waits):.2f} s of {longest_wait(2, start, stretch):.1f} s")
    assert all(isinstance(told, str) for future in slow for told in future.result())
    assert max(waits) < longest_wait(2.0, start, stretch)
