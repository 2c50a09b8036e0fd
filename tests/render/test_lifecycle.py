"""Browsers die and are replaced, programs are killed, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.render import Renderer, RenderRequest, RenderSettings
from harness.render.launch import Room, sweep

PLAIN = "<!DOCTYPE html><html lang='en'><title>x</title><p>Hello</p>"
# A process per page: what befalls the browser of a shared process is the matter of test_shared_process.py.
SETTINGS = RenderSettings(axe=False, workers=1, shared_process=False)
PROGRAM = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests ignore it, and with them this
from harness.render import *
with Renderer(RenderSettings(axe=False, workers=2)) as renderer:
    def pages():
        for number in range(100_000):
            yield RenderRequest(str(number), {PLAIN!r})
    renderer.render(pages(), lambda request, rendering: print(rendering.outcome, flush=True))
"""


def descendants() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def browsers_of(renderer: Renderer) -> list[psutil.Process]:
    assert renderer._pool is not None
    return renderer._pool._browsers()


def kill_browsers(renderer: Renderer) -> list[psutil.Process]:
    """Kill them with their children: Debian's browser is a shell script around the program."""
    family = [p for browser in browsers_of(renderer) for p in (*browser.children(recursive=True), browser)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return family


def test_nothing_is_left_behind(browser_there: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = descendants()
    with Renderer(SETTINGS) as renderer:
        assert renderer.render([RenderRequest("a", PLAIN)])["a"].outcome == "ok"
        assert list(tmp_path.iterdir())
        assert descendants() > before
    assert descendants() <= before
    assert list(tmp_path.iterdir()) == []


def test_a_dead_browser_is_replaced_and_its_page_tried_again(browser_there: None) -> None:
    with Renderer(SETTINGS) as renderer:
        assert renderer.render([RenderRequest("a", PLAIN)])["a"].outcome == "ok"
        kill_browsers(renderer)
        assert renderer.render([RenderRequest("b", PLAIN)])["b"].outcome == "ok"

        killed = []

        def kill_soon() -> None:
            time.sleep(0.8)
            killed.extend(kill_browsers(renderer))

        threading.Thread(target=kill_soon).start()
        slow = "<p>x<script>const end = performance.now() + 1500; while (performance.now() < end);</script>"
        assert renderer.render([RenderRequest("c", slow)])["c"].outcome == "ok"
        assert killed


def test_browsers_are_recycled(browser_there: None) -> None:
    seen = set()
    with Renderer(RenderSettings(axe=False, workers=1, pages_per_browser=2, shared_process=False)) as renderer:
        for number in range(5):
            assert renderer.render([RenderRequest(str(number), PLAIN)])[str(number)].outcome == "ok"
            seen |= {browser.pid for browser in browsers_of(renderer)}
            assert len(browsers_of(renderer)) == 1
    assert len(seen) == 3


def test_a_page_that_outgrows_its_memory_crashes_alone(browser_there: None) -> None:
    # In one script: a timer of an earlier one can fire before the parser has reached the next, where `all` is not yet.
    grow = (
        "<p>x<script>const all = []; const more = () => all.push(new Uint8Array(3e7).fill(1));"
        "setTimeout(() => { for (;;) more() }, 0)</script>"
    )
    with Renderer(RenderSettings(axe=False, workers=2, renderer_memory=400)) as renderer:
        done = renderer.render([RenderRequest("grow", grow), RenderRequest("a", PLAIN), RenderRequest("b", PLAIN)])
        assert renderer.peak_memory > 0
    assert done["grow"].outcome == "crash", done["grow"].detail
    assert "MiB" in done["grow"].detail
    assert done["a"].outcome == done["b"].outcome == "ok"


def test_it_works_from_any_thread(browser_there: None) -> None:
    outcomes = []

    def work() -> None:
        with Renderer(SETTINGS) as renderer:
            outcomes.append(renderer.render([RenderRequest("a", PLAIN)])["a"].outcome)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["ok", "ok"]


def test_an_error_of_the_caller_stops_the_browsers(browser_there: None) -> None:
    before = descendants()

    def fail(request: RenderRequest, rendering: object) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), Renderer(SETTINGS) as renderer:
        renderer.render((RenderRequest(str(number), PLAIN) for number in range(50)), fail)
    assert descendants() <= before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL, "group"])
def test_nothing_is_left_after_the_program_is_stopped(
    browser_there: None, tmp_path: Path, ending: signal.Signals | str
) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    for _ in range(3):
        assert program.stdout.readline().strip() == "ok"
    family = psutil.Process(program.pid).children(recursive=True)
    assert len(family) > 3
    if ending == "group":  # as a terminal does on Ctrl-C, and harder
        os.killpg(program.pid, signal.SIGKILL)
    else:
        program.send_signal(ending)
    program.stdout.close()
    program.wait(timeout=20)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [process.name() for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_dead_are_swept_and_of_the_living_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = tmp_path / f"html-harness-render-{gone.pid}-abc"
    dead.mkdir()
    (dead / "file").touch()
    (dead / ".html-harness-renderer").touch()
    namesake = tmp_path / f"html-harness-render-{gone.pid}-results"
    namesake.mkdir()
    other = tmp_path / "html-harness-render-notes"
    other.mkdir()
    room = Room()
    assert not dead.exists()
    sweep()
    assert room.path.exists() and other.exists() and namesake.exists()
    room.clear()
    assert not room.path.exists()


@pytest.mark.slow
def test_a_thousand_pages_need_no_more_memory_than_a_hundred(browser_there: None) -> None:
    own = psutil.Process()
    held = []

    def done(request: RenderRequest, rendering: object) -> None:
        if int(request.key) % 100 == 99:
            family = [own, *own.children(recursive=True)]
            held.append(sum(process.memory_info().rss for process in family if process.is_running()))

    with Renderer(RenderSettings(axe=False)) as renderer:
        result = renderer.render(
            (RenderRequest(str(number), PLAIN.replace("Hello", f"Hello {number}")) for number in range(1000)), done
        )
    assert {rendering.outcome for rendering in result.values()} == {"ok"}
    assert max(held[2:]) < 1.3 * max(held[:2])
