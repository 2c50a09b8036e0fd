"""One conversation with a server of OpenAI's protocol: a request is tried again until it is answered or refused."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from harness.errors import HarnessError, UsageError
from harness.generate.pace import Pace, retry_after
from harness.profile.schema import Served

FIRST_CONTACT_S = 10.0
"""A server that was never reached is given up sooner: its URL may be mistyped."""
LONGEST_WAIT_S = 60.0
_PASSING = frozenset({408, 409, 425, 429})
_TOO_LONG = re.compile(
    r"context.{0,20}(length|window|size)|(exceeds?|longer than).{0,60}(context|model length)|prompt is too long", re.I
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server said. `refused` is its reason where the prompt is too long for the model."""

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Of the attempt that was answered."""
    refused: str = ""


class _NotNowError(Exception):
    """The server is away, busy or broken: worth another try, after `after` seconds if it says so."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after


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
    met: bool = False
    """Whether the server has been reached."""
    _backoff: wait_exponential_jitter = field(
        default_factory=lambda: wait_exponential_jitter(multiplier=0.5, max=LONGEST_WAIT_S, jitter=0.5)
    )

    async def ask(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Return the server's reply.

        Raises:
            HarnessError: it refuses the request, or could not answer for `patience_s`.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_NotNowError), wait=self._wait, stop=self._give_up, reraise=True
        )
        try:
            return await retrying(self._once, path, body)
        except _NotNowError as error:
            raise HarnessError(
                f"the server {self.served.url} gave no answer for {self._patience():.0f} s: {error}",
                "see to it, then run the same command again: what it has answered is kept",
            ) from None

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.after if isinstance(error, _NotNowError) else None
        return self._backoff(state) if asked_for is None else asked_for

    def _give_up(self, state: RetryCallState) -> bool:
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > self._patience()

    def _patience(self) -> float:
        return self.served.patience_s if self.met else min(FIRST_CONTACT_S, self.served.patience_s)

    async def _once(self, path: str, body: Mapping[str, Any]) -> Reply:
        await self.pace.turn()
        started = time.monotonic()
        try:
            response = await self.client.post(self.served.url + path, json=body)
        except httpx2.TransportError as error:
            raise _NotNowError(str(error) or type(error).__name__) from error
        self.met = True
        if response.is_success:
            return _reply(response, time.monotonic() - started)
        said = _message(response, self.client.headers.get("Authorization", ""))
        passing = response.status_code in _PASSING or response.is_server_error
        if passing and "insufficient_quota" not in response.text:
            after = retry_after(response.headers.get("Retry-After"))
            if after is not None:
                self.pace.hold(after)
            raise _NotNowError(f"{response.status_code} {said}", after)
        if response.status_code in (400, 413, 422) and _TOO_LONG.search(said):
            return Reply(refused=said, seconds=time.monotonic() - started)
        hint = "look at `url`, `model` and `body` in the model file"
        if response.status_code in (401, 403):
            hint = f"look at the key in {self.served.key_env}" if self.served.key_env else "name its key by `key_env`"
        raise HarnessError(
            f"the server {self.served.url} refuses {self.served.model}: {response.status_code} {said}", hint
        )


@contextlib.asynccontextmanager
async def conversation(served: Served) -> AsyncIterator[Conversation]:
    """Open connections to the server and close them at the end."""
    key = key_of(served)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx2.Timeout(served.timeout_s, connect=FIRST_CONTACT_S)
    limits = httpx2.Limits(max_connections=served.concurrency)
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits) as client:
        yield Conversation(served, client, Pace(served.requests_per_minute))


def _reply(response: httpx2.Response, seconds: float) -> Reply:
    try:
        content = response.json()
        choice = content["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
        usage = content.get("usage") or {}
        return Reply(
            text=str(text or ""),
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            seconds=seconds,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _NotNowError(f"its reply is no completion: {response.text[:80]!r}") from error


def _message(response: httpx2.Response, authorization: str) -> str:
    """Return the server's own words in at most 160 characters, the key cut out of them."""
    try:
        content = response.json()
        error = content.get("error", content) if isinstance(content, dict) else content
        said = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
    except ValueError:
        said = response.text
    text = " ".join(str(said).split())
    key = authorization.removeprefix("Bearer ")
    return (text.replace(key, "…") if key else text)[:160] or response.reason_phrase
