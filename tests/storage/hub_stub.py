"""A hub on loopback: the part of its API that huggingface_hub and datasets ask, with faults to order."""

from __future__ import annotations

import atexit
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.conftest import ROOT
from tests.warm_python import WarmPython

COMMIT = "a" * 40
CALL = """
import sys
from harness.errors import HarnessError
for program in sys.argv[1:]:
    try:
        exec(program)
    except HarnessError as error:
        print("error:", error)
"""
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """What the hub has under one name."""

    files: dict[str, bytes]
    gated: int = 0
    """The status with which it is refused: 401 without a token, 403 with one that has no access."""
    terms: bool = False
    """It is gated and handed out all the same, as to one who accepted its terms."""
    card: dict[str, Any] = field(default_factory=dict)
    """What its README.md says of it, such as `license`."""
    breaks: dict[str, int] = field(default_factory=dict)
    """After how many bytes the connection breaks, once, by file."""
    fails_after_a_break: bool = False
    """No file is served any more from the first break on, but for what `broken = False` of the stub mends."""


_ports = [0]


def _server(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server where the last one was, so that processes led there serve again."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", _ports[-1]), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    _ports.append(server.server_port)
    return server


class HubStub:
    """Serves repositories by `models/NAME` or `datasets/NAME` while the block runs; `asked` is the log."""

    def __init__(self, **repositories: Repository) -> None:
        self.repositories = {name.replace("__", "/"): found for name, found in repositories.items()}
        self.asked: list[str] = []
        self.broken = False
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self._server = _server(Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request as the hub would."""
        path = unquote(urlsplit(request.path).path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append(" ".join((request.command, path, request.headers.get("Range") or "")).strip())
        api, file = _API.match(path), _FILE.match(path)
        kind, name = (
            (api[1], api[2]) if api else ("datasets" if file and file[1] else "models", file[2] if file else "")
        )
        repository = self.repositories.get(f"{kind}/{name}")
        if repository is None:
            _refuse(request, 404, "RepoNotFound" if api or file else "")
        elif repository.fails_after_a_break and self.broken and file and request.command == "GET":
            _refuse(request, 500, "")
        elif repository.gated and (file or (api and api[3] != "revision")):
            _refuse(request, repository.gated, "GatedRepo")  # what it is called and holds can be seen without access
        elif api:
            _send(request, json.dumps(_told(name, repository, api, body)).encode())
        elif file and file[4] in repository.files:
            self._send_file(request, repository, file[4])
        else:
            _refuse(request, 404, "EntryNotFound")

    def _send_file(self, request: BaseHTTPRequestHandler, repository: Repository, name: str) -> None:
        content = repository.files[name]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        begin = int((re.match(r"bytes=(\d+)-", request.headers.get("Range") or "") or [0, 0])[1])
        headers = {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        stop = repository.breaks.pop(name, None) if request.command == "GET" else None
        self.broken |= stop is not None
        _send(request, content[begin:], 206 if begin else 200, headers, stop)


def _told(name: str, repository: Repository, api: re.Match[str], body: bytes) -> Any:
    files = repository.files
    entries = [
        {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for path, content in files.items()
    ]
    if api[3] == "tree":
        return [entry for entry in entries if str(entry["path"]).startswith(api[5] or "")]
    if api[3] == "paths-info":
        wanted = json.loads(body)["paths"] if body.startswith(b"{") else re.findall(r"paths=([^&]+)", body.decode())
        return [entry for entry in entries if entry["path"] in map(unquote, wanted)]
    about = {
        "id": name,
        "sha": COMMIT,
        "private": False,
        "gated": "manual" if repository.gated or repository.terms else False,
    }
    return about | {"cardData": repository.card, "siblings": [{"rfilename": path} for path in files]}


def _send(
    request: BaseHTTPRequestHandler,
    content: bytes,
    status: int = 200,
    headers: dict[str, str] | None = None,
    stop: int | None = None,
) -> None:
    request.send_response(status)
    for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content[:stop])
    if stop is not None:
        request.close_connection = True


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str) -> None:
    _send(request, b"{}", status, {"X-Error-Code": code} if code else None)


CLIENTS = ("datasets", "harness.model.weights", "harness.suite.load", "harness.suite.new")
MODELS = (*CLIENTS, "harness.model.load", "harness.pipeline.config", "transformers.models.llama.modeling_llama")
"""What the programs of `ask` need not import, where they want a model's weights or more of it."""


@functools.cache
def _led_to(hub: str, imports: tuple[str, ...]) -> tuple[WarmPython, Path]:
    """A process whose hub clients were imported with that address, and the link at which they have their caches."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    home = Path(folder) / "hf"
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        environment.pop(name, None)
    return WarmPython(imports, environment), home


def ask(hub: str, place: Path, *programs: str, imports: tuple[str, ...] = CLIENTS) -> str:
    """What a process says that is led to this hub, and whose caches are its own."""
    (place / "hf").mkdir(parents=True, exist_ok=True)
    python, home = _led_to(hub, imports)
    home.unlink(missing_ok=True)
    home.symlink_to(place / "hf", target_is_directory=True)
    done = python.run(CALL, *programs, cwd=place, environment={"HARNESS_CACHE": str(place / "cache")})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
