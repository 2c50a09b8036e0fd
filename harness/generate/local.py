"""Completions from a model on this machine: what is stored is taken from the store, the rest is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.generate.settings import GenerationSettings
from harness.generate.store import CompletionStore, StoredCompletion
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.types import Completion, Task

Place = tuple[str, int]
"""Task id and sample number."""

Wanted = dict[Place, tuple[str, tuple[int, ...], int]]
"""What is to be decoded: by place the store's key, the prompt's tokens and the seed."""

Answer = tuple[Place, str, "StoredCompletion | Unanswered"]
"""A place, the store's key, and what came of it."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a prompt has no answer, through no fault of the model."""

    why: str


Decoding = Callable[["Generator", Wanted], Iterator[Answer]]
"""Decodes for a generator somewhere else than in its own process."""


@dataclass(frozen=True)
class Generator:
    """One model as it is asked: base weights, an adapter or none, and the examples that stand in its prompts."""

    name: str
    loaded: LoadedModel
    renderer: PromptRenderer
    settings: GenerationSettings
    adapter_folder: Path | None = None
    adapter_sha256: str | None = None
    examples: tuple[Task, ...] = ()

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what this model writes, and nothing that does not."""
        return {
            "weights": self.loaded.weights.sha256,
            "adapter": self.adapter_sha256,
            "precision": asdict(self.loaded.precision),
            "template": self.renderer.sha,
            "examples": [[example.prompt_sha, example.reference] for example in self.examples],
            "settings": self.settings.deciding(),
        }

    def complete(
        self,
        tasks: Sequence[Task],
        *,
        fresh: bool = False,
        on_done: Callable[[Completion, bool], None] | None = None,
    ) -> list[Completion]:
        """Return the completions of all tasks, in their order, samples of a task together.

        Args:
            tasks: What is asked.
            fresh: Decode anew even what the store holds.
            on_done: Called with each completion as it finishes, and whether it came from the store.
        """
        done: dict[Place, Completion] = {}
        for completion, stored in self.answers(tasks, fresh=fresh):
            done[completion.task, completion.sample] = completion
            if on_done:
                on_done(completion, stored)
        return [done[task.id, sample] for task in tasks for sample in range(self.settings.samples)]

    def answers(
        self, tasks: Sequence[Task], *, fresh: bool = False, decoding: Decoding | None = None
    ) -> Iterator[tuple[Completion, bool]]:
        """Yield each completion and whether it came from the store: those first, the others as they finish.

        Args:
            tasks: What is asked.
            fresh: Decode anew even what the store holds.
            decoding: Decodes what the store lacks; None does it in this process.
        """
        store = CompletionStore(self.identity())
        wanted: Wanted = {}
        for task in tasks:
            tokens = tuple(self.renderer.tokens(task, self.examples))
            for sample in range(self.settings.samples):
                seed = self.settings.row_seed(task.id, sample) if self.settings.temperature else 0
                key = CompletionStore.key(tokens, sample, seed)
                stored = None if fresh else store.get(key)
                if stored is not None:
                    yield self._completion((task.id, sample), stored), True
                else:
                    wanted[task.id, sample] = (key, tokens, seed)
        found = self.decode(wanted) if decoding is None else decoding(self, wanted)
        for place, key, answer in found:
            if isinstance(answer, StoredCompletion):
                store.put(key, answer)
            yield self._completion(place, answer), False

    def _completion(self, place: Place, answer: StoredCompletion | Unanswered) -> Completion:
        if isinstance(answer, Unanswered):
            return Completion(place[0], self.name, "", "error", place[1], note=answer.why, unanswered=answer.why)
        return Completion(
            task=place[0],
            model=self.name,
            text=answer.text,
            finish_reason=answer.finish_reason,
            sample=place[1],
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            seconds=answer.seconds,
            note=answer.note,
        )

    def decode(self, wanted: Wanted) -> Iterator[tuple[Place, str, StoredCompletion]]:
        """Decode in this process and yield (place, key, completion) as rows finish.

        Running out of GPU memory halves the batch and goes on.
        """
        if not wanted:
            return
        import torch

        from harness.generate.decode import Decoder, Prompt
        from harness.generate.stopping import StopRule

        places = list(wanted)
        with self.loaded.adapter(self.adapter_folder, self.adapter_sha256) as model:
            context = int(getattr(model.config, "max_position_embeddings", 0)) or None
            pending = {}
            for number, place in enumerate(places):
                key, tokens, seed = wanted[place]
                if context is not None and len(tokens) + 1 > context:
                    note = f"the prompt of {len(tokens)} tokens is longer than the context of {context}"
                    yield place, key, StoredCompletion("", "error", len(tokens), 0, 0.0, note)
                else:
                    pending[number] = Prompt(number, tokens, seed)
            tokenizer = self.renderer.tokenizer
            stop = StopRule(
                tokenizer,
                end_tokens(model, tokenizer),
                self.settings.max_new_tokens,
                at_end_tag=True,
                cut_loops=self.settings.cut_loops,
            )
            batch_size = self.settings.batch_size
            while pending:
                decoder = Decoder(model, stop, batch_size, self.settings.temperature)
                try:
                    for decoded in decoder.decode(list(pending.values())):
                        prompt = pending.pop(decoded.key)
                        text = tokenizer.decode(decoded.tokens, skip_special_tokens=True)
                        yield (
                            places[decoded.key],
                            wanted[places[decoded.key]][0],
                            StoredCompletion(
                                text, decoded.finish_reason, len(prompt.tokens), len(decoded.tokens), decoded.seconds
                            ),
                        )
                except torch.OutOfMemoryError:
                    if batch_size == 1:
                        raise
                    batch_size = max(1, batch_size // 2)
                    torch.cuda.empty_cache()


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids at which a model ends its answer, as its makers say."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(ids if isinstance(ids, list | tuple) else [ids])}
    return frozenset(number for number in found if number is not None)
