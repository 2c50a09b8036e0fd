"""Completions from a server of OpenAI's protocol: vLLM, llama.cpp, TGI, `transformers serve`, or a hosted one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from harness.errors import HarnessError
from harness.generate.backend import Answers, GenerationRequests, SampleKey, StoredBackend
from harness.generate.openai.client import LOOK_AT, conversation
from harness.generate.openai.concurrent import Work, as_they_come
from harness.generate.openai.protocol import refused
from harness.generate.settings import GenerationSettings
from harness.generate.store import CompletionStore
from harness.model.profile_schema import Served
from harness.model.prompt import PromptRenderer
from harness.runs.manifest import BackendEntry, Price
from harness.runs.samples import SampleRecord
from harness.runs.schema import JsonObject
from harness.types import Answer, Task

Body = JsonObject
"""A request without what all requests of a model share."""

_SEEDS = 2**31
"""Some servers keep seeds in 32 bits."""
REFUSALS = 8
"""So many rows at the beginning, all of them refused, stand for every row."""


@dataclass(frozen=True)
class ServedModel(StoredBackend[Body]):
    """One model behind a server, as it is asked."""

    name: str
    served: Served
    renderer: PromptRenderer
    settings: GenerationSettings
    examples: tuple[Task, ...] = ()

    def identity(self) -> JsonObject:
        """Return everything known here that decides what the model writes; its weights are the server's secret."""
        identity: JsonObject = {
            "server": self.served.url,
            "model": self.served.model,
            "body": self.served.body,
            "settings": self.settings.cache_key_fields(),
        }
        return identity | ({"omit": [*sorted(self.served.omit)]} if self.served.omit else {})

    def prompt(self, task: Task) -> Body:
        """Return the conversation, or the whole text, that ends with a task's request."""
        if self._chat:
            return {"messages": [{**turn} for turn in self.renderer.turns(task, self.examples)]}
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
        body = {name: value for name, value in body.items() if name not in self.served.omit}
        return {name: value for name, value in (body | self.served.body).items() if value is not None}

    def decode(self, wanted: GenerationRequests[Body]) -> Answers:
        """Ask the server, `concurrency` requests under way at once, and yield answers as they come.

        Raises:
            HarnessError: the server refuses every row. What it refused is then not kept, for it may be asked wrongly.
        """
        path = "/chat/completions" if self._chat else "/completions"
        at_once = min(self.served.concurrency, len(wanted))

        answered = self._answered_before(wanted)

        @contextlib.asynccontextmanager
        async def opening() -> AsyncIterator[Work[SampleKey, tuple[SampleKey, Answer]]]:
            async with conversation(self.served, only_row=len(wanted) == 1 and not answered) as server:

                async def ask(place: SampleKey) -> tuple[SampleKey, Answer]:
                    prompt, seed = wanted[place]
                    answer = await server.ask(path, self.request(prompt, seed))
                    return place, replace(answer, seconds=answer.seconds / at_once)  # divided over those beside it

                yield ask

        first = set(list(wanted)[:REFUSALS])
        withheld: dict[SampleKey, Answer] = {}
        for place, answer in as_they_come(list(wanted), opening, at_once):
            if not answered and refused(answer):
                withheld[place] = answer
                if first <= withheld.keys() and len(wanted) > 1:
                    raise HarnessError(
                        f"the server {self.served.url} refuses every row of {self.served.model}: {answer.note}", LOOK_AT
                    )
                continue
            answered = answered or not answer.unanswered
            if answered:
                yield from withheld.items()
                withheld = {}
            yield place, answer
        yield from withheld.items()

    def _answered_before(self, wanted: GenerationRequests[Body]) -> bool:
        """Whether the server has answered rows of this run in an earlier call, which those in `wanted` go on from."""
        store = CompletionStore(self.identity())
        keys = (CompletionStore.key(prompt, sample, seed) for (_, sample), (prompt, seed) in wanted.items())
        anew = any(store.get(key) is not None for key in keys)
        return not anew and store.answered

    @override
    def manifest(self) -> BackendEntry:
        omit: JsonObject = {"omit": [*sorted(self.served.omit)]} if self.served.omit else {}
        return BackendEntry(
            template_sha=self.renderer.sha,
            examples=tuple(example.id for example in self.examples),
            backend="openai",
            batch_size=self.served.concurrency,
            generation=self.settings.cache_key_fields() | {"samples": self.settings.samples},
            server={
                "url": self.served.url,
                "model": self.served.model,
                "api": "chat" if self._chat else "completions",
                "body": self.served.body,
                **omit,
            },
        )

    def price(self, rows: Sequence[SampleRecord]) -> Price | None:
        """Return what these rows cost by the prices in the model file, from the store or not."""
        price = self.served.price
        if price is None:
            return None
        own = [row.timing for row in rows if row.model == self.name]
        prompt, completion = (sum(t.prompt_tokens for t in own), sum(t.completion_tokens for t in own))
        amount = (prompt * price.prompt + completion * price.completion) / 1e6
        return Price(amount=round(amount, 6), currency=price.currency)
