"""The server behind the blind page: loopback only, one random token in every address."""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pydantic import JsonValue

from harness.errors import HarnessError, UsageError
from harness.runs.folder import VOTES_FILE
from harness.runs.pairs import Pair
from harness.runs.read import load_run, read_votes
from harness.runs.samples import SampleRecord, TaskKey
from harness.runs.schema import JsonObject
from harness.vote.ballots import (
    CHOICES,
    Ballot,
    append_vote,
    ballots_of,
    first_samples,
    last_votes,
    stands_for,
    vote_of,
)
from harness.vote.page import page

HOST = "127.0.0.1"
_MAX_BODY = 4096
_TYPES = {".webp": "image/webp", ".png": "image/png"}


class VoteServer(ThreadingHTTPServer):
    """Serves ballots that this voter has not judged yet and writes down the votes."""

    daemon_threads = True

    def __init__(self, run_dir: Path, ballots: list[Ballot], given: Collection[TaskKey], voter: str, port: int) -> None:
        self.run_dir = run_dir.resolve()
        self.ballots = {secrets.token_hex(8): ballot for ballot in ballots}
        self.voter = voter
        self.token = secrets.token_urlsafe(24)
        self.lock = threading.Lock()
        self.judged = {name for name, ballot in self.ballots.items() if ballot.key in given}
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The address to open; it holds the token and is worth keeping to oneself."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def next_ballot(self) -> JsonObject:
        """Return the next ballot as the page takes it: no model's name, no file's name."""
        with self.lock:
            waiting = next((name for name in self.ballots if name not in self.judged), None)
            counts = {"done": len(self.judged), "total": len(self.ballots)}
        if waiting is None:
            return {"id": None, **counts}
        ballot = self.ballots[waiting]
        sides = {name: self._side(row) for name, row in (("left", ballot.left), ("right", ballot.right))}
        return {"id": waiting, "prompt": ballot.prompt, "input": ballot.input, **sides, **counts}

    def _side(self, row: SampleRecord) -> JsonValue:
        return {"code": row.page, "shot": self.shot_file(row) is not None}

    def shot_file(self, row: SampleRecord) -> Path | None:
        """Return the desktop screenshot of a row if it lies inside the run's folder."""
        name = row.shots.get("desktop")
        if name is None:
            return None
        path = (self.run_dir / name).resolve()
        inside = path.is_relative_to(self.run_dir / "shots") and path.suffix in _TYPES
        return path if inside and path.is_file() else None

    def record(self, name: str, choice: str) -> None:
        """Write one vote down; a ballot is judged only when its line is on the disk."""
        vote = vote_of(self.ballots[name], choice, self.voter, datetime.now(UTC).isoformat(timespec="seconds"))  # type: ignore[arg-type]
        with self.lock:
            append_vote(self.run_dir / VOTES_FILE, vote)
            self.judged.add(name)


def _on_pair(pair: Pair, left: str, right: str) -> bool:
    """Whether a vote between `left` and `right` is one between the models of `pair`."""
    first, second = pair
    return (stands_for(first, left) and stands_for(second, right)) or (
        stands_for(first, right) and stands_for(second, left)
    )


class _Handler(BaseHTTPRequestHandler):
    server: VoteServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        parts = self._path()
        if parts is None:
            return
        match parts:
            case [] | [""]:
                nonce = secrets.token_urlsafe(16)
                policy = (
                    f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
                    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
                )
                self._send(page(nonce).encode("utf-8"), "text/html; charset=utf-8", policy)
            case ["next"]:
                self._send(json.dumps(self.server.next_ballot()).encode("utf-8"), "application/json")
            case ["shot", name, ("left" | "right") as side] if name in self.server.ballots:
                ballot = self.server.ballots[name]
                file = self.server.shot_file(ballot.left if side == "left" else ballot.right)
                if file is None:
                    self._refuse(HTTPStatus.NOT_FOUND, "no screenshot")
                else:
                    self._send(file.read_bytes(), _TYPES[file.suffix])
            case _:
                self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        parts = self._path()
        if parts is None:
            return
        length = self.headers.get("Content-Length", "")
        if parts != ["vote"] or not length.isdigit() or int(length) > _MAX_BODY:
            self.close_connection = True
            self._refuse(HTTPStatus.BAD_REQUEST, "not a vote")
            return
        try:
            sent = json.loads(self.rfile.read(int(length)))
            name, choice = sent["id"], sent["choice"]
            known = name in self.server.ballots and choice in CHOICES
        except (ValueError, KeyError, TypeError):
            known = False
        # A page of another origin cannot send this type without asking first, and is not answered when it asks.
        if not known or self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.BAD_REQUEST, "not a vote")
            return
        try:
            self.server.record(name, choice)
        except HarnessError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
            return
        self._send(b"{}", "application/json")

    def _path(self) -> list[str] | None:
        """Return the path behind the token; None after refusing a wrong host or token (DNS rebinding, other users)."""
        port = self.server.server_address[1]
        if self.headers.get("Host") not in {f"{HOST}:{port}", f"localhost:{port}"}:
            self.close_connection = True
            self._refuse(HTTPStatus.FORBIDDEN, "wrong host")
            return None
        token, _, rest = self.path.split("?", 1)[0].removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            self.close_connection = True
            self._refuse(HTTPStatus.FORBIDDEN, "wrong token")
            return None
        return rest.split("/") if rest else []

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(why.encode("utf-8"), "text/plain; charset=utf-8", status=status)

    def _send(
        self, body: bytes, kind: str, policy: str = "default-src 'none'", status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        for header, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the address holds the token."""


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does; elsewhere than in the main thread signals are not ours to take."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_server(
    run_dir: Path,
    port: int = 0,
    *,
    pair: Pair | None = None,
    suite: str | None = None,
    voter: str = "",
    seed: int | None = None,
) -> VoteServer:
    """Return the server, bound to loopback and not yet serving; `port` 0 takes a free one.

    Raises:
        UsageError: no run, no two models with answers to vote on, or the port is taken.
    """
    run = load_run(run_dir)
    chosen = pair or next(iter(run.pairs), None)
    known = {*run.families, *(row.model for row in run.rows)}
    if chosen is None or not {*chosen} <= known:
        raise UsageError(
            f"the run {run.name} has no two models to vote on", f"there is {', '.join(sorted(known)) or 'none'}"
        )
    order = secrets.randbits(64) if seed is None else seed
    ballots = ballots_of(run.rows, run.tasks, chosen, seed=order, suite=suite)
    if not ballots:
        raise UsageError(f"{chosen.first} and {chosen.second} have no task on which their pages differ")
    counting, _ = last_votes(read_votes(run_dir), first_samples(run.rows))
    given = {vote.of_task for vote in counting if vote.voter == voter and _on_pair(chosen, vote.left, vote.right)}
    try:
        return VoteServer(run_dir, ballots, given, voter, port)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}", "leave --port out to take a free one"
        ) from None


def serve_votes(server: VoteServer, say: Callable[[str], object] = print) -> int:
    """Serve the blind page until Ctrl-C or SIGTERM and return how many votes were given.

    They lie in the run's votes.jsonl. A shell that starts it in the background has it ignore Ctrl-C; SIGTERM, which
    `kill` and service managers send, ends it in the same way.
    """
    with server:
        before = len(server.judged)
        # told within: who reads the line may end it at once
        with contextlib.suppress(KeyboardInterrupt), _ended_by_sigterm():
            say(f"Vote at {server.url} ({len(server.ballots) - before} pairs to judge; stop with Ctrl-C)")
            server.serve_forever()
        return len(server.judged) - before
