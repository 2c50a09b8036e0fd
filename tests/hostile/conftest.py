from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from harness.errors import HarnessError
from harness.render.browser import find_browser


@pytest.fixture(scope="session", autouse=True)
def _browser_there() -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))


class Listener:
    """Hears whatever reaches the loopback by TCP or UDP."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.tcp, self.udp = (f"127.0.0.1:{s.getsockname()[1]}" for s in (self._tcp, self._udp))
        self.heard: list[str] = []
        self._open = True
        self._threads = [threading.Thread(target=hear, daemon=True) for hear in (self._hear_tcp, self._hear_udp)]
        for each in (self._tcp, self._udp):
            each.settimeout(0.1)
        for thread in self._threads:
            thread.start()

    def _hear_tcp(self) -> None:
        while self._open:
            try:
                connection, peer = self._tcp.accept()
            except TimeoutError:
                continue
            self.heard.append(f"tcp {peer}")
            connection.close()

    def _hear_udp(self) -> None:
        while self._open:
            try:
                self.heard.append(f"udp {self._udp.recvfrom(2048)}")
            except TimeoutError:
                continue

    def close(self) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._tcp.close()
        self._udp.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    open_ears = Listener()
    yield open_ears
    time.sleep(0.3)
    open_ears.close()
    assert open_ears.heard == []
