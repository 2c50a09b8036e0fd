"""Decoding on a fused model: steps run ahead of the program that reads their tokens, on CUDA as captured graphs.

While the device makes a step, the program reads the tokens of the step before and decides which rows have ended. A row
that ended takes part in one step more, whose token is dropped. A row owns places for its prompt and all that it may
write, and fills them from the first; it enters when there are so many.

Several models on the same weights, each with its adapter or none, decode in one queue: the prompts of the next enter as
those of the one before run out, so that only the last one's end runs on few rows. Steps, keys and values are the same
for all of them; what a model's prompts share is computed once, when its first one enters.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from harness.generate.llama.adapters import MIXED
from harness.generate.llama.model import FusedLlama
from harness.generate.llama.places import Places
from harness.generate.llama.prefill import BESIDE, Prefill
from harness.generate.llama.stepper import Stepper
from harness.generate.stopping import StopRule
from harness.generate.transformers.continuous_batching import Decoded, Prompt
from harness.generate.transformers.prefill import MIN_SHARED_PREFIX, Tokens, common_prefix

SPARE = 2
"""Places of a row beyond its last token: for the step that it takes part in after its end."""
PROMPT_ROOM = 256
"""Keys and values have room for so many tokens of a prompt on average, and for all that a row may write. Where prompts
are longer than that, fewer rows are there at once."""
PREFILL_TOKENS = 4096
"""Prompts enter together up to this many tokens."""
ENTERING_SHARE, ENTERING_SHARE_PACKED = 16, 6
"""Where prompts cannot enter within a step of the others, they wait until this part of the rows is free: by themselves
they read all weights, as a step does, and unpack packed ones."""


@dataclass
class _Row:
    prompt: Prompt
    start: int
    """The first of its places."""
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    ended: bool = False


@dataclass
class _Result:
    """Tokens on their way from the device, one for each of the rows that were there when the step was started."""

    rows: list[_Row]
    tokens: torch.Tensor
    arrived: torch.cuda.Event | None


@dataclass
class StreamDecoder:
    """Greedy or sampled decoding of many prompts, with the interface of `Decoder`.

    Args:
        fused: The models: it holds their adapters.
        stop: When a completion ends whose prompt has no rule of its own.
        batch_size: How many rows are decoded at once.
        temperature: 0 is greedy.
        observe: Called with the keys of the rows and the logits behind them, (rows, vocabulary), before each choice.
    """

    fused: FusedLlama
    stop: StopRule
    batch_size: int
    temperature: float = 0.0
    observe: Callable[[Sequence[int], torch.Tensor], None] | None = None

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt]) -> Iterator[Decoded]:
        """Yield completions as they finish.

        One model's prompts enter after the other's, of each those first that are longer than usual, else by their keys.
        """
        if prompts:
            yield from _Stream(self, prompts).run()


class _Stream:
    def __init__(self, settings: StreamDecoder, prompts: Sequence[Prompt]) -> None:
        self.settings = settings
        self.fused = settings.fused
        self.rows: list[_Row] = []
        self.flying: deque[_Result] = deque()
        count = min(settings.batch_size, len(prompts))
        self.usual = max((len(p.tokens) for p in prompts if len(p.tokens) <= PROMPT_ROOM), default=0)
        self.waiting = deque(sorted(prompts, key=lambda p: (p.model, -max(len(p.tokens), self.usual), p.key)))
        needs = sorted(map(self._need, prompts), reverse=True)
        self.longest = needs[0]
        self.prefixes = {number: _shared_prefix(group) for number, group in _by_model(prompts).items()}
        # place 0 takes padding, then come a shared prefix and the rows
        shared = max(map(len, self.prefixes.values()))
        room = count * (PROMPT_ROOM + max(self._rule(prompt).max_new_tokens for prompt in prompts))
        room = max(self.longest, min(room, sum(needs[:count])))
        self.pool = self.fused.pool(1 + shared + room)
        self.places = Places(1 + shared, room)
        observe = None if settings.observe is None else self._observe
        self.stepper = Stepper(self.fused, count, self.pool, self.longest, settings.temperature, observe)
        self.prefill = Prefill(self.fused, self.pool, self.longest, self.stepper.graphs)
        self.before = time.monotonic()
        self.entered = -1
        """The model that the stored prefix is of."""

    def run(self) -> Iterator[Decoded]:
        """Start steps, one ahead of the tokens that are read."""
        while self.waiting or self.rows or self.flying:
            stepped = False
            while not stepped and self._worth_entering():
                beside = self._enter_beside_rows()
                if not self._enter(beside):
                    break
                stepped = beside
            if self.rows and not stepped:
                self._send(list(self.rows), self.stepper.step(len(self.rows), self._adapter_of_all()))
            while len(self.flying) > 1 or (self.flying and not self.rows):
                yield from self._look(self.flying.popleft())

    def _observe(self, logits: torch.Tensor) -> None:
        assert self.settings.observe is not None
        self.settings.observe([row.prompt.key for row in self.rows], logits)

    def _worth_entering(self) -> bool:
        enough = max(1, self.stepper.rows // (ENTERING_SHARE_PACKED if self.fused.packed else ENTERING_SHARE))
        free = self.stepper.rows - len(self.rows)
        if self.waiting and free and self._enter_beside_rows():
            return True
        return bool(self.waiting) and (not self.rows or free >= min(enough, len(self.waiting)))

    def _enter_beside_rows(self) -> bool:
        """Whether the next prompts enter within a step of the rows: where few can, and none is long."""
        prompt, most = self.waiting[0], BESIDE[-1]
        few = self.stepper.rows - len(self.rows) <= 2 * most.prompts
        short = len(prompt.tokens) - len(self.prefixes[prompt.model]) <= most.tokens
        return bool(self.rows) and few and short and self.fused.enters_beside

    def _rule(self, prompt: Prompt) -> StopRule:
        return prompt.stop or self.settings.stop

    def _need(self, prompt: Prompt) -> int:
        """Return how many places a prompt and its answer may take.

        Those of usual length take as many as each other: what one gives back, the next one fits into.
        """
        return max(len(prompt.tokens), self.usual) + self._rule(prompt).max_new_tokens + SPARE

    def _adapter_of_all(self) -> int:
        """Return the adapter that all rows go through, or `MIXED`."""
        found = {self.fused.adapter_of[row.prompt.model] for row in self.rows}
        return found.pop() if len(found) == 1 else MIXED

    def _enter(self, beside: bool) -> bool:
        """Let as many waiting prompts of one model enter as go together and have room; return whether any had.

        Args:
            beside: Within a step of the rows.
        """
        model = self.waiting[0].model
        adapter, shared = self.fused.adapter_of[model], len(self.prefixes[model])
        entering: list[_Row] = []
        left, first = BESIDE[-1].tokens if beside else PREFILL_TOKENS, len(self.rows)
        most = min(self.stepper.rows, first + BESIDE[-1].prompts) if beside else self.stepper.rows
        while (
            first + len(entering) < most
            and self.waiting
            and self.waiting[0].model == model
            and (not entering or len(self.waiting[0].tokens) - shared <= left)
            and (start := self.places.take(self._need(self.waiting[0]))) is not None
        ):
            left -= len(self.waiting[0].tokens) - shared
            entering.append(_Row(self.waiting.popleft(), start))
        if not entering:
            return False
        count, starts = len(entering), [row.start for row in entering]
        if shared:
            self._store_prefix(model)
        tokens = [row.prompt.tokens for row in entering]
        if beside:
            others = self._adapter_of_all()
            batch = self.prefill.batch(tokens, starts, shared, BESIDE)
            both = adapter if others == adapter else MIXED
            written, logits = self.stepper.step_and_enter(first, both, batch, adapter)
            self._send(list(self.rows), written)
        else:
            logits = self.prefill.run(self.prefill.batch(tokens, starts, shared), adapter)
        logits = logits[:count]
        if self.settings.observe is not None:
            self.settings.observe([row.prompt.key for row in entering], logits)
        columns = [
            (0, len(row.prompt.tokens), start, row.prompt.seed, adapter)
            for row, start in zip(entering, starts, strict=True)
        ]
        self.stepper.set_rows(first, columns)
        state = self.stepper.state[:, first : first + count]
        chosen = self.fused.operations.choose(logits, self.settings.temperature, state[3].contiguous(), state[1] - 1)
        self.stepper.set_tokens(first, chosen)
        self.rows += entering
        self._send(entering, chosen)
        return True

    def _store_prefix(self, model: int) -> None:
        """Let what a model's prompts share take the place of what those before shared: their rows have copies."""
        if self.entered != model:
            self.prefill.run(self.prefill.batch([self.prefixes[model]], [1], 0), self.fused.adapter_of[model])
            self.entered = model

    def _send(self, rows: list[_Row], tokens: torch.Tensor) -> None:
        """Let tokens travel to this program while the device goes on."""
        if tokens.device.type != "cuda":
            self.flying.append(_Result(rows, tokens, None))
            return
        here = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
        here.copy_(tokens, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self.flying.append(_Result(rows, here, arrived))

    def _look(self, result: _Result) -> list[Decoded]:
        """Read a step's tokens, take out the rows that ended and return them."""
        if result.arrived is not None:
            result.arrived.synchronize()
        now = time.monotonic()
        alive = [(row, token) for row, token in zip(result.rows, result.tokens.tolist(), strict=True) if not row.ended]
        share = (now - self.before) / max(1, len(alive))
        self.before = now
        finished = []
        for row, token in alive:
            row.tokens.append(token)
            row.seconds += share
            reason = row.prompt.ended(self.settings.stop, row.tokens)
            if reason is not None:
                row.ended = True
                tokens = row.tokens[:-1] if reason == "eos" else row.tokens
                finished.append(Decoded(row.prompt.key, tokens, reason, row.seconds))
        if finished:
            kept = [number for number, row in enumerate(self.rows) if not row.ended]
            for row in self.rows:
                if row.ended:
                    self.places.give_back(row.start, self._need(row.prompt))
            self.rows = [self.rows[number] for number in kept]
            self.stepper.keep_rows(kept)
        return finished


def _by_model(prompts: Sequence[Prompt]) -> dict[int, list[Tokens]]:
    found: dict[int, list[Tokens]] = {}
    for prompt in prompts:
        found.setdefault(prompt.model, []).append(prompt.tokens)
    return found


def _shared_prefix(prompts: Sequence[Tokens]) -> Tokens:
    """Return the first tokens that all prompts share, where they are worth being computed apart."""
    shared = common_prefix(prompts) if len(prompts) > 1 else 0
    return prompts[0][:shared] if shared >= MIN_SHARED_PREFIX else ()
