"""Decoding on a fused model: steps run ahead of the program that reads their tokens, on CUDA as captured graphs.

While the device makes a step, the program reads the tokens of the step before and decides which rows have ended. A row
that ended takes part in one step more, whose token is dropped. A row owns places for its prompt and all that it may
write, and fills them from the first; it enters when there are so many.

Several models on the same weights, each with its adapter or none, decode in one queue, by turns, so that the answers
that are expected to be long begin early whichever model writes them, and only the end runs on few rows; or model by
model. Steps, keys and values are the same for all of them; what the prompts of a model share is computed once, when
its first one enters.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from harness.generate.llama.adapters import MIXED
from harness.generate.llama.model import FusedLlama
from harness.generate.llama.places import Places
from harness.generate.llama.prefill import BESIDE, Prefill
from harness.generate.llama.prompt_batch import NO_PREFIX, SharedPrefix
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

        Prompts that are longer than usual enter first, else each model's first one, by their keys, then each one's
        second, and so on; where the weights go `model_by_model`, those of one model before those of the next.
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
        self.waiting = deque(self._in_turn(prompts))
        needs = sorted(map(self._need, prompts), reverse=True)
        self.longest = needs[0]
        # place 0 takes padding, then come what each model's prompts share, and the rows
        self.shared = {number: _shared_prefix(group) for number, group in _by_model(prompts).items()}
        ends = list(accumulate(map(len, self.shared.values())))
        self.prefixes = {
            number: SharedPrefix(1 + end - len(tokens), len(tokens))
            for end, (number, tokens) in zip(ends, self.shared.items(), strict=True)
        }
        shared = ends[-1]
        room = count * (PROMPT_ROOM + max(self._rule(prompt).max_new_tokens for prompt in prompts))
        room = max(self.longest, min(room - shared, sum(needs[:count])))
        self.pool = self.fused.pool(1 + shared + room)
        self.places = Places(1 + shared, room)
        observe = None if settings.observe is None else self._observe
        self.stepper = Stepper(self.fused, count, self.pool, self.longest, settings.temperature, observe)
        self.prefill = Prefill(self.fused, self.pool, self.longest, self.stepper.graphs)
        self.before = time.monotonic()
        self.entered: set[int] = set()
        """Models whose prefixes are stored."""

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
                self._send(list(self.rows), self.stepper.step(len(self.rows), self._adapter_of(self.rows)))
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
        short = self._entering_tokens(prompt) <= most.tokens
        return bool(self.rows) and few and short and self.fused.enters_beside

    def _rule(self, prompt: Prompt) -> StopRule:
        return prompt.stop or self.settings.stop

    def _need(self, prompt: Prompt) -> int:
        """Return how many places a prompt and its answer may take.

        Those of usual length take as many as each other: what one gives back, the next one fits into.
        """
        return max(len(prompt.tokens), self.usual) + self._rule(prompt).max_new_tokens + SPARE

    def _in_turn(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return prompts in the order in which they enter."""
        rank: Counter[int] = Counter()
        turns = []
        for prompt in sorted(prompts, key=lambda prompt: prompt.key):
            turns.append((rank[prompt.model], prompt))
            rank[prompt.model] += 1

        def order(turn: tuple[int, Prompt]) -> tuple[int, int, int, int]:
            number, prompt = turn
            first = prompt.model if self.fused.model_by_model else 0
            return first, -max(len(prompt.tokens), self.usual), number, prompt.model

        return [prompt for _, prompt in sorted(turns, key=order)]

    def _adapter_of(self, rows: Sequence[_Row]) -> int:
        """Return the adapter that rows go through: `MIXED` where they differ, and where most steps have different ones.

        Then a row goes through its own in all steps, and none is captured once more for what a few steps would gain.
        """
        found = {self.fused.adapter_of[row.prompt.model] for row in rows}
        by_turns = not self.fused.model_by_model and len(set(self.fused.adapter_of)) > 1
        return MIXED if by_turns or len(found) > 1 else found.pop()

    def _enter(self, beside: bool) -> bool:
        """Let as many waiting prompts enter as go together and have room; return whether any had.

        Args:
            beside: Within a step of the rows.
        """
        entering: list[_Row] = []
        left, first = BESIDE[-1].tokens if beside else PREFILL_TOKENS, len(self.rows)
        most = min(self.stepper.rows, first + BESIDE[-1].prompts) if beside else self.stepper.rows
        while (
            first + len(entering) < most
            and self.waiting
            and (not entering or self._entering_tokens(self.waiting[0]) <= left)
            and (start := self.places.take(self._need(self.waiting[0]))) is not None
        ):
            left -= self._entering_tokens(self.waiting[0])
            entering.append(_Row(self.waiting.popleft(), start))
        if not entering:
            return False
        entering.sort(key=lambda row: row.prompt.model)
        count, starts = len(entering), [row.start for row in entering]
        for row in entering:
            self._store_prefix(row.prompt.model)
        tokens = [row.prompt.tokens for row in entering]
        prefixes = [self.prefixes[row.prompt.model] for row in entering]
        adapters = [self.fused.adapter_of[row.prompt.model] for row in entering]
        if beside:
            batch = self.prefill.batch(tokens, starts, prefixes, adapters, BESIDE)
            written, logits = self.stepper.step_and_enter(first, self._adapter_of([*self.rows, *entering]), batch)
            self._send(list(self.rows), written)
        else:
            batch = self.prefill.batch(tokens, starts, prefixes, adapters)
            logits = self.prefill.run(batch, self._adapter_of(entering))
        logits = logits[:count]
        if self.settings.observe is not None:
            self.settings.observe([row.prompt.key for row in entering], logits)
        columns = [
            (0, len(row.prompt.tokens), row.start, row.prompt.seed, adapter)
            for row, adapter in zip(entering, adapters, strict=True)
        ]
        self.stepper.set_rows(first, columns)
        state = self.stepper.state[:, first : first + count]
        chosen = self.fused.operations.choose(logits, self.settings.temperature, state[3].contiguous(), state[1] - 1)
        self.stepper.set_tokens(first, chosen)
        self.rows += entering
        self._send(entering, chosen)
        return True

    def _entering_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens of a prompt are computed when it enters."""
        return len(prompt.tokens) - self.prefixes[prompt.model].length

    def _store_prefix(self, model: int) -> None:
        """Compute what a model's prompts share, once."""
        if self.shared[model] and model not in self.entered:
            place, adapter = self.prefixes[model].place, self.fused.adapter_of[model]
            batch = self.prefill.batch([self.shared[model]], [place], [NO_PREFIX], [adapter])
            self.prefill.run(batch, adapter)
            self.entered.add(model)

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
