"""Completions from a server of OpenAI's protocol: vLLM, llama.cpp, TGI, `transformers serve`, or a hosted one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.generate.backend import Answer, Place, StoredBackend, Wanted
from harness.generate.concurrently import Work, as_they_come
from harness.generate.server import Reply, conversation
from harness.generate.settings import GenerationSettings
END_TAG = "</html>"
from harness.generate.store import StoredCompletion
from harness.model.prompt import PromptRenderer
from harness.profile.schema import Served
from harness.types import FinishReason, Row, Task

Body = dict[str, Any]
"""A request without what all requests of a model share."""

_SEEDS = 2**31
"""Some servers keep seeds in 32 bits."""
_END = re.compile(re.escape(END_TAG), re.IGNORECASE)


@dataclass(frozen=True)
class ServedModel(StoredBackend[Body]):
    """One model behind a server, as it is asked."""

    on_these_machines: ClassVar[bool] = False

    name: str
    served: Served
    renderer: PromptRenderer
    settings: GenerationSettings
    examples: tuple[Task, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return everything known here that decides what the model writes; its weights are the server's secret."""
        return {
            "server": self.served.url,
            "model": self.served.model,
            "body": self.served.body,
            "settings": self.settings.deciding(),
        }

    def prompt(self, task: Task) -> Body:
        """Return the conversation, or the whole text, that ends with a task's request."""
        if self._chat:
            return {"messages": self.renderer.turns(task, self.examples)}
        return {"prompt": self.renderer.text(task, self.examples)}

    @property
    def _chat(self) -> bool:
        return self.renderer.chat

    def request(self, prompt: Body, seed: int) -> Body:
        """Return the whole body of a request."""
        body = {
            "model": self.served.model,
            **prompt,
            "max_tokens": self.settings.max_new_tokens,
            "temperature": self.settings.temperature,
        }
        if self.settings.temperature:
            body["seed"] = seed % _SEEDS
        return {name: value for name, value in (body | self.served.body).items() if value is not None}

    def decode(self, wanted: Wanted[Body]) -> Iterator[Answer]:
        """Ask the server, `concurrency` requests under way at once, and yield answers as they come."""
        path = "/chat/completions" if self._chat else "/completions"
        at_once = min(self.served.concurrency, len(wanted))

        @contextlib.asynccontextmanager
        async def opening() -> AsyncIterator[Work[Place, Answer]]:
            async with conversation(self.served) as server:

                async def answer(place: Place) -> Answer:
                    key, prompt, seed = wanted[place]
                    return place, key, completion(await server.ask(path, self.request(prompt, seed)), at_once)

                yield answer

        return as_they_come(list(wanted), opening, at_once)

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "weights_sha256": None,
            "adapter_sha256": None,
            "quantization": None,
            "dtype": None,
            "device": None,
            "template_sha": self.renderer.sha,
            "examples": [example.id for example in self.examples],
            "backend": "openai",
            "batch_size": self.served.concurrency,
            "generation": self.settings.deciding() | {"samples": self.settings.samples},
            "server": {
                "url": self.served.url,
                "model": self.served.model,
                "api": "chat" if self._chat else "completions",
                "body": self.served.body,
            },
        }

    def price(self, rows: Sequence[Row]) -> dict[str, Any] | None:
        """Return what these rows cost by the prices in the model file, from the store or not."""
        price = self.served.price
        if price is None:
            return None
        tokens = {
            side: sum(row["timing"][f"{side}_tokens"] for row in rows if row["model"] == self.name)
            for side in ("prompt", "completion")
        }
        amount = (tokens["prompt"] * price.prompt + tokens["completion"] * price.completion) / 1e6
        return {"amount": round(amount, 6), "currency": price.currency}


def completion(reply: Reply, at_once: int) -> StoredCompletion:
    """Return the server's reply as the store keeps it, cut behind `</html>` where our own decoding would end.

    Its time is divided over the requests that were under way beside it.
    """
    seconds = reply.seconds / at_once
    if reply.refused:
        return StoredCompletion("", "error", 0, 0, seconds, reply.refused)
    end = _END.search(reply.text)
    text = reply.text[: end.end()] if end else reply.text
    reason, note = _finish(reply.finish_reason, closed=end is not None)
    return StoredCompletion(text, reason, reply.prompt_tokens, reply.completion_tokens, seconds, note)


def _finish(word: str | None, *, closed: bool) -> tuple[FinishReason, str]:
    """Return our word for the server's, and a note where they do not mean the same."""
    if word == "content_filter":
        return "error", "the server's filter ended the answer"
    if closed:
        return "stop", ""
    if word == "length":
        return "length", ""
    return "eos", "" if word in ("stop", "eos", "eos_token", "stop_sequence") else f"the server ended it by '{word}'"
