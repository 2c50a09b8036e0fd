"""Completions from a model on this machine: what is stored is taken from the store, the rest is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.generate.backend import Answer, Decoding, Place, StoredBackend, Unanswered
from harness.generate.backend import Wanted as _Wanted
from harness.generate.settings import GenerationSettings
from harness.generate.store import StoredCompletion
from harness.model.load import LoadedModel
from harness.model.prompt import PromptRenderer
from harness.types import Task

if TYPE_CHECKING:
    from harness.generate.choice import DecodingPlan

__all__ = ["Answer", "Decoding", "Generator", "Place", "Unanswered", "Wanted", "end_tokens"]

Tokens = tuple[int, ...]
Wanted = _Wanted[Tokens]
"""What is to be decoded: by place the store's key, the prompt's tokens and the seed."""


@dataclass(frozen=True)
class Generator(StoredBackend[Tokens]):
    """One model as it is asked: base weights, an adapter or none, and the examples that stand in its prompts."""

    name: str
    loaded: LoadedModel
    renderer: PromptRenderer
    settings: GenerationSettings
    adapter_folder: Path | None = None
    adapter_sha256: str | None = None
    examples: tuple[Task, ...] = ()

    @property
    def at_once(self) -> int:
        """How many rows are decoded side by side."""
        return self.settings.batch_size

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

    def prompt(self, task: Task) -> Tokens:
        """Return a task's prompt as token ids."""
        return tuple(self.renderer.tokens(task, self.examples))

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        precision, plan = self.loaded.precision, self._plan()
        return {
            "weights_sha256": self.loaded.weights.sha256,
            "adapter_sha256": self.adapter_sha256,
            "quantization": precision.quantization,
            "dtype": precision.dtype,
            "device": precision.device,
            "template_sha": self.renderer.sha,
            "examples": [example.id for example in self.examples],
            "backend": "transformers",
            "batch_size": self.settings.batch_size,
            "decoding": plan.record() if plan else None,
            "generation": self.settings.deciding() | {"samples": self.settings.samples},
        }

    def _plan(self) -> DecodingPlan | None:
        """How it is decoded on a GPU."""
        if self.loaded.precision.device != "cuda":
            return None
        from harness.generate.choice import plan_here

        return plan_here(self.loaded.weights.folder, self.loaded.precision.quantization, self.settings)

    def decode(self, wanted: Wanted) -> Iterator[tuple[Place, str, StoredCompletion]]:
        """Decode in this process and yield (place, key, completion) as rows finish.

        Running out of GPU memory halves the batch and goes on.
        """
        if not wanted:
            return
        import torch

        from harness.answer import thought_left_open
        from harness.generate.choice import choose_decoder
        from harness.generate.decode import Prompt
        from harness.generate.stopping import StopRule, answer_text

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
                    pending[number] = Prompt(number, tokens, seed, None if context is None else context - len(tokens))
            tokenizer = self.renderer.tokenizer
            # one template renders all prompts: it opens a thought in each of them or in none
            thought = thought_left_open(tokenizer.decode(wanted[places[0]][1][-16:]))
            stop = StopRule(
                tokenizer,
                end_tokens(model, tokenizer),
                self.settings.max_new_tokens,
                at_end_tag=True,
                cut_loops=self.settings.cut_loops,
                thinking=bool(thought),
            )
            batch_size, plan = self.settings.batch_size, self._plan()
            while pending:
                decoder = choose_decoder(self.loaded, model, stop, batch_size, self.settings.temperature, plan)
                short_of_memory = False
                try:
                    for decoded in decoder.decode(list(pending.values())):
                        prompt = pending.pop(decoded.key)
                        text = thought + answer_text(tokenizer, decoded.tokens, stop.marks)
                        yield (
                            places[decoded.key],
                            wanted[places[decoded.key]][0],
                            StoredCompletion(
                                text, decoded.finish_reason, len(prompt.tokens), len(decoded.tokens), decoded.seconds
                            ),
                        )
                except torch.OutOfMemoryError:
                    if batch_size == 1 and (plan is None or not plan.unpacked):
                        raise
                    short_of_memory = True  # what the error's traceback holds is freed behind this block
                if short_of_memory:
                    if batch_size == 1:  # the weights as they are loaded take least
                        plan, self.loaded.fused = None, None
                    batch_size = max(1, batch_size // 2)
                    torch.cuda.empty_cache()


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids at which a model ends its answer, as its makers say."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    found = {tokenizer.eos_token_id, *(ids if isinstance(ids, list | tuple) else [ids])}
    return frozenset(number for number in found if number is not None)
