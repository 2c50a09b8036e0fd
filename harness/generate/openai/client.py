"""One conversation with a server of OpenAI's protocol: a request is tried again until it is answered or refused."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import httpx2
from pydantic import JsonValue
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from harness.errors import HarnessError, UsageError
from harness.generate.openai.protocol import NoReplyError, ServerError, read_events, read_reply, refused
from harness.generate.openai.rate_limit import Pace, retry_after
from harness.model.profile_schema import Served
from harness.types import Answer

FIRST_CONTACT_S = 10.0
"""A server that was never reached is given up sooner: its URL may be mistyped."""
LONGEST_WAIT_S = 60.0
LOOK_AT = "look at `url`, `model` and `body` in the model file; `omit: [seed]` takes a field out"
_RETRYABLE_STATUS = frozenset({408, 409, 425, 429})
_NEVER = frozenset({501, 505, 506, 508, 510, 511})
"""Of the server's own faults those that do not pass."""
_ANY_ROW = frozenset({401, 402, 404, 405, 407, 410})
"""What is refused so is refused whatever the row: the key, the money, the model's name, the URL."""
_FILTERED = re.compile(r"moderat|content.{0,3}(filter|policy|management)|flagged|safety|guardrail|prohibited", re.I)
_WANTS_A_STREAM = re.compile(
    r"\bstream\b.{0,60}\b(must|only|required?|needs?|enabled?|true)\b|\b(only|must|requires?|needs?|set|enable)\b.{0,60}\bstream",
    re.I,
)
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|(exceeds?|longer than).{0,60}(context|model length)|prompt is too long", re.I
)


class _NotNowError(Exception):
    """The server is away, busy or broken: worth another try, after `after` seconds if it says so."""

    def __init__(self, why: str, after: float | None = None, *, of_the_row: bool = False) -> None:
        super().__init__(why)
        self.after = after
        self.of_the_row = of_the_row
        """The server is there and answers: it may be this request alone that it breaks on."""


def key_of(served: Served) -> str | None:
    """Return the key that the environment holds; None where the server needs none.

    Raises:
        UsageError: the variable is not set, or holds what no header can carry.
    """
    if served.key_env is None:
        return None
    key = os.environ.get(served.key_env, "").strip()
    if not key:
        raise UsageError(f"the environment variable {served.key_env} is not set", "put the server's key into it")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"the environment variable {served.key_env} holds no key", "it has letters that no key has")
    return key


@dataclass
class Conversation:
    """Asks one server, at its pace."""

    served: Served
    client: httpx2.AsyncClient
    pace: Pace
    only_row: bool = False
    """It is asked one thing alone and has answered none before: a status that refuses it may refuse every row."""
    met: bool = False
    """Whether the server has been reached."""
    streams: bool = False
    """The server answers by a stream of events only, as the model file or the server itself says."""
    answered_at: float = 0.0
    """When the last request was answered, on the monotonic clock."""
    _backoff: wait_exponential_jitter = field(
        default_factory=lambda: wait_exponential_jitter(multiplier=0.5, max=LONGEST_WAIT_S, jitter=0.5)
    )

    async def ask(self, path: str, body: Mapping[str, JsonValue]) -> Answer:
        """Return what came of the row, which may be that the server refuses it.

        Raises:
            HarnessError: it refuses every row by its key, model or address, or could not answer for `patience_s`.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_NotNowError), wait=self._wait, stop=self._give_up, reraise=True
        )
        began = time.monotonic()
        try:
            answer: Answer = await retrying(self._once, path, body)
        except _NotNowError as error:
            why = f"gave no answer for {self._patience():.0f} s: {error}"
            if error.of_the_row and self.answered_at > began:  # the others are answered all the while
                return Answer("", "error", unanswered=f"the server {why}")
            raise HarnessError(
                f"the server {self.served.url} {why}",
                "see to it, then run the same command again: what it has answered is kept",
            ) from None
        if not refused(answer):
            self.answered_at = time.monotonic()
        return answer

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.after if isinstance(error, _NotNowError) else None
        return self._backoff(state) if asked_for is None else asked_for

    def _give_up(self, state: RetryCallState) -> bool:
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > self._patience()

    def _patience(self) -> float:
        return self.served.patience_s if self.met else min(FIRST_CONTACT_S, self.served.patience_s)

    async def _once(self, path: str, body: Mapping[str, JsonValue]) -> Answer:
        await self.pace.turn()
        started = time.monotonic()
        sent = dict(body)
        if self.streams:
            sent |= {"stream": True}
            if "stream_options" not in self.served.omit:
                sent |= {"stream_options": {"include_usage": True}}
        try:
            response = await self.client.post(self.served.url + path, json=sent)
        except httpx2.TransportError as error:
            raise _NotNowError(str(error) or type(error).__name__) from error
        self.met = True
        seconds = time.monotonic() - started
        if not response.is_success:
            return self._refusal(response, response.status_code, _message(response, self._authorization), sent, seconds)
        try:
            return _reply(response, seconds)
        except ServerError as error:
            said = _short(str(error), self._authorization)
            return self._refusal(response, error.status or 400, said, sent, seconds)
        except NoReplyError as error:
            raise _NotNowError(f"its reply is no completion: {error}", of_the_row=True) from error

    @property
    def _authorization(self) -> str:
        return str(self.client.headers.get("Authorization", ""))

    def _refusal(
        self, response: httpx2.Response, status: int, said: str, sent: Mapping[str, JsonValue], seconds: float
    ) -> Answer:
        """Return that this row is refused, or raise what holds for more than this row.

        Raises:
            _NotNowError: the refusal passes.
            HarnessError: every row would be refused.
        """
        no_money = "insufficient_quota" in response.text
        if (status in _RETRYABLE_STATUS or (status >= 500 and status not in _NEVER)) and not no_money:
            after = retry_after(response.headers.get("Retry-After"))
            if after is not None:
                self.pace.hold(after)
            raise _NotNowError(f"{status} {said}", after, of_the_row=status == 500)
        if self.served.stream is None and not sent.get("stream") and _WANTS_A_STREAM.search(said):
            self.streams = True
            raise _NotNowError(f"{status} {said}", 0.0)
        too_long = _TOO_LONG.search(said) is not None
        of_the_row = status not in _ANY_ROW and 400 <= status < 600 and (status != 403 or _FILTERED.search(said))
        if of_the_row and not no_money and (too_long or not self.only_row):
            why = said if too_long else f"refused by the server: {status} {said}"
            return Answer("", "error", seconds=seconds, note=why)
        hint = LOOK_AT
        if status in (401, 403):
            hint = f"look at the key in {self.served.key_env}" if self.served.key_env else "name its key by `key_env`"
        raise HarnessError(f"the server {self.served.url} refuses {self.served.model}: {status} {said}", hint)


@contextlib.asynccontextmanager
async def conversation(served: Served, *, only_row: bool = False) -> AsyncIterator[Conversation]:
    """Open connections to the server and close them at the end."""
    key = key_of(served)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(served.timeout_s, connect=FIRST_CONTACT_S)
    limits = httpx2.Limits(max_connections=served.concurrency)
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits) as client:
        yield Conversation(
            served, client, Pace(served.requests_per_minute), only_row=only_row, streams=bool(served.stream)
        )


def _reply(response: httpx2.Response, seconds: float) -> Answer:
    if "text/event-stream" in response.headers.get("Content-Type", "") or response.text.startswith(("data:", ": ")):
        return read_events(_lines(response.text), seconds)
    try:
        content = response.json()
    except ValueError as error:
        raise NoReplyError(f"{response.text[:80]!r}") from error
    try:
        return read_reply(content, seconds)
    except NoReplyError as error:
        raise NoReplyError(f"{error}: {response.text[:80]!r}") from error


def _lines(text: str) -> list[str]:
    """The lines of a stream of events; other separators than line breaks may stand within a page."""
    return re.split(r"\r\n|\r|\n", text)


def _message(response: httpx2.Response, authorization: str) -> str:
    """Return the server's own words in at most 160 characters, the key cut out of them."""
    try:
        content = response.json()
        error = content.get("error", content) if isinstance(content, dict) else content
        said = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
    except ValueError:
        said = response.text
    return _short(str(said), authorization) or response.reason_phrase


def _short(said: str, authorization: str) -> str:
    text = " ".join(said.split())
    key = authorization.removeprefix("Bearer ")
    return (text.replace(key, "…") if key else text)[:160]
