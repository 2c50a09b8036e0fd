"""Every attacking page ends in its expected outcome, in time, and leaves the pool alive and the network silent."""

from __future__ import annotations

import json
import random
import shlex
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.render import Renderer, RenderRequest, RenderSettings, browser
from harness.types import Rendering
from tests.hostile.conftest import Listener
from tests.hostile.corpus import HostilePage, load

PAGES = load()
ESCAPES = [page for page in PAGES if page.name.startswith(("escape-", "read-", "form-", "meta-", "permissions"))]
# One of each kind of end, the quick ones: these run always, all of them in slow runs.
SOME = {
    "loop-timer",
    "memory-array",
    "location-assign",
    "alert-once",
    "nested-60000",
    "override-getters",
    "override-query",
    "clobber-document",
    "remove-root",
    "escape-script",
    "memory-deep-recursion",
    "console-flood-worker",
    "fake-axe",
    "null-bytes",
}
PLAIN = RenderRequest("plain", '<!DOCTYPE html><html lang="en"><title>Plain</title><main><h1>Plain</h1></main></html>')


def verify(page: HostilePage, rendering: Rendering) -> str:
    """What is wrong with how the page ended, or nothing."""
    if rendering.outcome != page.expect:
        return f"{page.name}: {rendering.outcome} ({rendering.detail}) instead of {page.expect}"
    return "" if rendering.seconds < 10 else f"{page.name}: {rendering.seconds:.1f} s"


def test_there_are_enough_attacks_and_each_says_what_it_is() -> None:
    assert len(PAGES) >= 60
    assert all(page.attack and page.expect for page in PAGES)
    assert len({page.attack for page in PAGES}) == len(PAGES)
    assert {page.name for page in PAGES} >= SOME


def test_some_attacks_of_each_kind(listener: Listener) -> None:
    chosen = {page.name: page for page in PAGES if page.name in SOME}
    with Renderer(RenderSettings(workers=2)) as renderer:
        done = renderer.render(
            RenderRequest(name, page.aimed_at(listener.tcp, listener.udp)) for name, page in chosen.items()
        )
        after = renderer.render([PLAIN])["plain"]
    assert [fault for name, page in chosen.items() if (fault := verify(page, done[name]))] == []
    assert after.outcome == "ok"
    # The page's own axe finds nothing, ours does; own getters lie about the text, ours do not.
    assert {violation["id"] for violation in done["fake-axe"].accessibility or ()} == {"image-alt"}
    assert done["override-query"].visible_text == "Text"


@pytest.mark.slow
@pytest.mark.parametrize("namespace", [True, False])
def test_all_attacks_in_any_order_while_others_are_rendered(listener: Listener, namespace: bool) -> None:
    shuffled = random.Random(7 + namespace).sample(PAGES, len(PAGES))
    pages = {page.name: page for page in shuffled}
    faults: list[str] = []
    plain: list[Rendering] = []

    def requests():
        for number, page in enumerate(shuffled):
            yield RenderRequest(page.name, page.aimed_at(listener.tcp, listener.udp))
            yield RenderRequest(f"plain {number}", PLAIN.html)

    def done(request: RenderRequest, rendering: Rendering) -> None:
        if request.key in pages:
            faults.append(verify(pages[request.key], rendering))
        else:
            plain.append(rendering)

    with Renderer(RenderSettings(workers=2, namespace=namespace)) as renderer:
        renderer.render(requests(), done)
    assert [fault for fault in faults if fault] == []
    assert len(faults) == len(PAGES)
    # Whoever is rendered beside an attack comes out as if alone.
    assert {rendering.outcome for rendering in plain} == {"ok"}
    assert len({(rendering.dom_hash, tuple(rendering.screenshots.items())) for rendering in plain}) == 1


def test_the_listener_hears_what_does_escape(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", int(listener.tcp.split(":")[1]))):
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", int(listener.udp.split(":")[1])))
    for _ in range(50):
        if len(listener.heard) == 2:
            break
        time.sleep(0.1)
    assert sorted(line[:3] for line in listener.heard) == ["tcp", "udp"]
    listener.heard.clear()


@pytest.mark.skipif(
    sys.platform == "win32", reason="the browser's own log of its network is asked for by a shell script"
)
def test_without_a_namespace_neither_a_socket_nor_the_resolver_is_used(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = browser.find_browser()
    if choice.path is None:
        pytest.skip("Playwright keeps its browser's path to itself here")
    logs = tmp_path / "logs"
    logs.mkdir()
    logging = tmp_path / "browser"  # each of the renderer's browsers writes a log of its own
    logging.write_text(
        f'#!/bin/sh\nexec {shlex.quote(choice.path)} --log-net-log={shlex.quote(str(logs))}/$$.json "$@"\n'
    )
    logging.chmod(0o755)
    chosen = browser.BrowserChoice(str(logging), choice.name, choice.version, "logs its network")
    monkeypatch.setattr("harness.render.renderer.find_browser", lambda: chosen)
    with Renderer(RenderSettings(workers=1, axe=False, screenshots=False, namespace=False)) as renderer:
        done = renderer.render(RenderRequest(page.name, page.aimed_at(listener.tcp, listener.udp)) for page in ESCAPES)
    assert [fault for page in ESCAPES if (fault := verify(page, done[page.name]))] == []
    written = sorted(logs.iterdir())
    assert len(written) >= 2  # the browser of pages that share a process, and the one of pages that do not
    assert [use for log in written for use in network_use(log)] == []


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32", reason="the browser's own log of its network is asked for by a shell script"
)
def test_the_log_would_show_an_open_door(listener: Listener, tmp_path: Path, launch: Callable[..., Any]) -> None:
    log = tmp_path / "net.json"
    open_browser = launch(f"--log-net-log={log}")
    page = open_browser.new_page()
    page.set_content(f"<img src='http://{listener.tcp}/x.png'><img src='http://no-such-host.test/x.png'>")
    page.wait_for_timeout(1000)
    open_browser.close()
    used = network_use(log)
    assert any("TCP_CONNECT" in line for line in used)
    assert any("HOST_RESOLVER" in line for line in used)
    assert listener.heard
    listener.heard.clear()


def network_use(log: Path) -> list[str]:
    """The connections and look-ups in Chromium's log of its network, but not its look at its own interfaces."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    try:
        record = json.loads(text)
    except ValueError:  # the browser was killed before it wrote the end, maybe within a line
        whole = text if text.endswith("},") else text.rpartition("\n")[0]
        record = json.loads(whole.strip().rstrip(",") + "]}")
    names = {number: name for name, number in record["constants"]["logEventTypes"].items()}
    used = []
    for event in record["events"]:
        name = names[event["type"]]
        address = str(event.get("params", {}).get("address", ""))
        if name in ("TCP_CONNECT_ATTEMPT", "HOST_RESOLVER_MANAGER_JOB", "HOST_RESOLVER_DNS_TASK", "UDP_BYTES_SENT"):
            used.append(f"{name} {address}".strip())
    return used


def test_no_proxy_of_the_machine_is_asked(monkeypatch: pytest.MonkeyPatch, listener: Listener) -> None:
    monkeypatch.setenv("http_proxy", f"http://{listener.tcp}")
    monkeypatch.setenv("https_proxy", f"http://{listener.tcp}")
    assert "http" in urllib.request.getproxies()
    pages = {page.name: page for page in PAGES if page.name in ("escape-fetch", "escape-websocket-worker")}
    with Renderer(RenderSettings(workers=1, axe=False, namespace=False)) as renderer:
        done = renderer.render(
            RenderRequest(name, page.aimed_at("a.example", "b.example")) for name, page in pages.items()
        )
    assert {rendering.outcome for rendering in done.values()} <= {"blocked-resource", "ok"}
