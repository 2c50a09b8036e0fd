"""Decoding speed of Llama-2-7B's shape in 4 bit on one GPU: ours beside transformers' ways and the memory's limit.

    python benchmarks/generate_7b.py --tokenizer FOLDER [--out FILE.json] [--parts exact,ours,...] [--card l4|t4]

Weights and adapter are random (see llama_shape.py) and never stop by themselves, so every answer's length is fixed: the
last 136 pairs of html_alpaca_lengths.json. Useful tokens are those lengths summed; what a way decodes beyond them is
its own loss. The limit is the weights as they are held read once for each step at the card's measured rate of reading.

`exact` compares greedy answers in float32 with transformers' `generate`, and 16-bit logits with both references;
`ours` answers for base and tuned from one load, loading included, on unpacked weights and on those in 4 bit; `steps`
times steps of both at a full batch; `profile` says what a step's time goes into; `plain` is `generate` on the NF4
weights, 64 prompts at once in input order; `batch` is `generate_batch` (continuous batching) on them; `capped` answers
within the memory of an L4, beside `generate` on 128 tokens each in the largest batch that fits there (`--card t4`:
within a T4's and by its means, which are float16, no Triton, no flash attention and kernels compiled for 7.5); `entry`
times prompts that enter by themselves; `joint` answers 136 and 544 prompts of real lengths for base and tuned one after
the other and in one queue, by turns; `by reference` those with the longest answers first, as a run orders its tasks by
their references, whose lengths these are. Each part prints a line of JSON when it is done.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from llama_shape import llama_config, write_adapter, write_checkpoint  # noqa: E402

from harness.generate.llama import nf4_ops, nvrtc  # noqa: E402
from harness.generate.llama.adapters import MIXED  # noqa: E402
from harness.generate.llama.decoder import StreamDecoder  # noqa: E402
from harness.generate.llama.graphs import Graphs  # noqa: E402
from harness.generate.llama.kernels import kernels_for  # noqa: E402
from harness.generate.llama.model import FusedLlama  # noqa: E402
from harness.generate.llama.prefill import USES_OF_A_CAPTURE, Prefill  # noqa: E402
from harness.generate.llama.prompt_batch import NO_PREFIX, prompt_batch  # noqa: E402
from harness.generate.llama.stepper import Stepper  # noqa: E402
from harness.generate.settings import GenerationSettings  # noqa: E402
from harness.generate.transformers.adapter_kinds import unwrapped  # noqa: E402
from harness.generate.transformers.continuous_batching import Decoded, Decoder, Prompt  # noqa: E402
from harness.generate.transformers.decoder_factory import make_decoder, make_joint_decoder  # noqa: E402
from harness.generate.transformers.decoder_verdict import FUSED, Verdict  # noqa: E402
from harness.generate.transformers.plan import plan_decoding  # noqa: E402
from harness.model.gpu_memory import CARDS, GIB, Card, linear_weights, this_card  # noqa: E402
from harness.model.load import LoadedModel, Precision  # noqa: E402
from harness.model.profile_schema import Shape  # noqa: E402
from harness.model.tokenizer import load_tokenizer  # noqa: E402
from harness.model.weights import LocalWeights  # noqa: E402

PARTS = ("exact", "ours", "joint", "steps", "entry", "profile", "plain", "batch", "capped")
PROMPTS = 136
JOINT_ROUNDS = {136: 3, 544: 1}
"""By prompts. The first round counts where it is the only one: by then kernels are compiled."""
FULL_BATCHES = (1, 8, 16, 24, 32, 64, 128)
BEST_BATCH = {"l4": 50, "t4": 30}
"""In how many rows `generate` is fastest in a card's memory, on short answers."""


class FixedLength:
    """A stop rule for random weights: only a prompt's own limit ends it."""

    max_new_tokens = 1024

    def reason(self, tokens: Any) -> None:
        """Never end."""


def prompts_of_real_length(count: int = PROMPTS) -> list[Prompt]:
    """Return random tokens of the real lengths of prompts and answers."""
    lengths = json.loads((ROOT / "benchmarks" / "html_alpaca_lengths.json").read_text())["lengths"][-count:]
    generator = torch.Generator().manual_seed(3)
    return [
        Prompt(number, tuple(torch.randint(3, 32000, (asked,), generator=generator).tolist()), number, answered)
        for number, (asked, answered) in enumerate(lengths)
    ]


def seconds_of(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def reading_rate() -> float:
    """Return bytes per second of reading 8 GiB once, the best of ten: a sum, which writes next to nothing."""
    data = torch.ones(2**30, dtype=torch.float64, device="cuda")
    data.sum()
    best = min(seconds_of(lambda: data.sum()) for _ in range(10))
    return data.numel() * 8 / best


def _generate(model: Any, prompts: list[Prompt], tokens: int | None = None) -> None:
    """Answer all at once by transformers' `generate`, as long as the longest answer where no length is given."""
    width = max(len(prompt.tokens) for prompt in prompts)
    rows = torch.tensor([[0] * (width - len(p.tokens)) + list(p.tokens) for p in prompts], device="cuda")
    mask = torch.tensor([[0] * (width - len(p.tokens)) + [1] * len(p.tokens) for p in prompts], device="cuda")
    length = tokens or max(int(prompt.limit or 0) for prompt in prompts)
    model.generate(
        rows, attention_mask=mask, max_new_tokens=length, do_sample=False, eos_token_id=-1, pad_token_id=0
    )  # fmt: skip


def _check(rows: Iterable[Decoded], prompts: list[Prompt]) -> None:
    """Let all be decoded, to their full lengths."""
    assert sorted((row.key, len(row.tokens)) for row in rows) == [(p.key, p.limit) for p in prompts]


class Bench:
    """What all parts share."""

    def __init__(self, tokenizer: Path, folder: Path, shape: str, card: str = "l4") -> None:
        self.shape, self.card = shape, card
        self.weights, self.adapter = folder / "weights", folder / "adapter"
        write_checkpoint(self.weights, tokenizer, shape)
        if not self.adapter.exists():
            write_adapter(self.adapter, self.weights, shape)
        self.loaded = self._load()
        self.prompts = prompts_of_real_length()
        self.useful = sum(int(prompt.limit or 0) for prompt in self.prompts)
        self.settings = GenerationSettings(1024, 64)

    def _load(self) -> LoadedModel:
        return LoadedModel(
            load_tokenizer(self.weights),
            LocalWeights(self.weights, "random"),
            Precision("nf4", "float16" if self.card == "t4" else "bfloat16", "cuda"),
        )

    def exact(self) -> dict[str, Any]:
        """Same greedy tokens in float32 as `generate`; in 16 bit, how far logits are from float32 on equal weights."""
        from transformers import AutoModelForCausalLM, LlamaForCausalLM

        torch.manual_seed(1)
        config = llama_config("tiny")
        config.update(
            {"hidden_size": 512, "intermediate_size": 1376, "num_key_value_heads": 2, "initializer_range": 0.1}
        )
        config.update({"num_attention_heads": 8, "head_dim": 64, "num_hidden_layers": 4})
        small = LlamaForCausalLM(config).float().cuda().eval()
        few = [Prompt(p.key, p.tokens, p.seed, min(int(p.limit or 0), 80)) for p in self.prompts[:40]]
        stop: Any = FixedLength()
        answers: dict[str, dict[int, list[int]]] = {"plain": {}}
        for prompt in few:
            ids = torch.tensor([prompt.tokens], device="cuda")
            out = small.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=prompt.limit, do_sample=False,
                eos_token_id=-1, pad_token_id=0,
            )  # fmt: skip
            answers["plain"][prompt.key] = out[0, len(prompt.tokens) :].tolist()
        for batch in (1, 7, 32):
            decoder = StreamDecoder(FusedLlama(small, kernels_for(torch.device("cuda"))), stop, batch)
            answers[f"ours, batch {batch}"] = {row.key: row.tokens for row in decoder.decode(few)}
        stepwise = Decoder(small, stop, 32)
        answers["stepwise, batch 32"] = {row.key: row.tokens for row in stepwise.decode(few)}
        alike = [Prompt(p.key, (*range(50, 90), *p.tokens), p.seed, p.limit) for p in few]
        prefixed = [
            {row.key: row.tokens for row in decoder.decode(alike)}
            for decoder in (stepwise, StreamDecoder(FusedLlama(small, kernels_for(torch.device("cuda"))), stop, 9))
        ]
        equal = {
            name: sum(found[key] == answers["plain"][key] for key in found)
            for name, found in answers.items()
            if name != "plain"
        }
        # 16 bit: the whole shape, one forward pass over real lengths, against float32 on the same unpacked values
        found: dict[str, Any] = {"prompts": len(few), "equal_to_generate_in_float32": equal}
        found["equal_with_a_shared_prefix"] = sum(prefixed[0][key] == prefixed[1][key] for key in prefixed[0])
        self.loaded.drop_adapters()
        model = self.loaded.model
        fused = FusedLlama(model, kernels_for(torch.device("cuda")))
        prompt = max(self.prompts, key=lambda one: len(one.tokens))
        ids = torch.tensor([prompt.tokens], device="cuda")
        with torch.inference_mode():
            theirs = model(ids).logits[0, -1].float()
            pool = fused.pool(1 + len(prompt.tokens))
            entering = prompt_batch([prompt.tokens], [1], [NO_PREFIX], [0]).to(ids.device)
            ours = fused.prefill(entering, pool, 1024)[0].float()
            stepped = fused.pool(1 + len(prompt.tokens))
            start = torch.tensor([1], device="cuda")
            for position, token in enumerate(prompt.tokens):
                at = torch.tensor([position], device="cuda")
                last = fused.step(torch.tensor([token], device="cuda"), stepped, start, at, 1024)[0].float()
            del fused, pool, stepped
            wide = AutoModelForCausalLM.from_pretrained(self.weights, dtype=torch.float32, device_map={"": 0})
            self._unpack_into(model, wide)
            truth = wide(ids).logits[0, -1].double()
            del wide
        for name, logits in (("transformers", theirs), ("ours, whole prompt", ours), ("ours, step by step", last)):
            error = (logits.double() - truth).norm() / truth.norm()
            found[f"error of 16-bit logits, {name}"] = float(error)
        return found

    def _unpack_into(self, packed: Any, wide: Any) -> None:
        from bitsandbytes.functional import dequantize_4bit

        modules = dict(wide.named_modules())
        for name, module in unwrapped(packed).named_modules():
            state = getattr(getattr(module, "weight", None), "quant_state", None)
            if state is not None:
                same = modules[name.removesuffix(".base_layer")]
                same.weight.data = dequantize_4bit(module.weight.data, state).float()

    def ours(self) -> dict[str, Any]:
        """Base and tuned from one load, as a run decodes them."""
        card = this_card()
        assert card is not None
        return {kind: self._answers(card, kind) for kind in FUSED}

    def _answers(self, card: Card, kind: Any) -> dict[str, Any]:
        """The speed of all prompts on a card, and the memory beside what the plan says."""
        self.loaded.release()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self.loaded = self._load()
        plan = plan_decoding(self._plan_shape(), "nf4", card, self.settings.batch_size, self.settings.max_new_tokens)
        assert kind in plan.fused, plan
        found: dict[str, Any] = {"prompts": len(self.prompts), "useful_tokens": self.useful, "plan": str(plan)}
        found["rows"] = plan.rows
        found["load_s"] = seconds_of(lambda: self.loaded.model)
        for name, adapter in (
            ("base", None),
            ("tuned", self.adapter),
            ("base again", None),
            ("tuned again", self.adapter),
        ):
            with self.loaded.adapter(adapter, None if adapter is None else "random") as model:
                rows, taken = self._decoded(model, kind, plan.rows)
            assert sorted((row.key, len(row.tokens)) for row in rows) == [(p.key, p.limit) for p in self.prompts]
            found[name] = {"seconds": taken, "useful_tokens_per_s": self.useful / taken}
        found["both_with_load_s"] = found["load_s"] + found["base"]["seconds"] + found["tuned"]["seconds"]
        found["planned_gib"] = plan.memory / GIB
        found["peak_gib"] = torch.cuda.max_memory_allocated() / GIB
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / GIB
        found["base_unchanged"] = not self.loaded.changed_weights()
        return found

    def joint(self) -> dict[str, Any]:
        """Base and tuned one after the other, each with graphs and a cache of its own, and both in one queue."""
        card = this_card()
        assert card is not None
        plan = plan_decoding(self._plan_shape(), "nf4", card, self.settings.batch_size, self.settings.max_new_tokens)
        found: dict[str, Any] = {"plan": str(plan)}
        for count, rounds in JOINT_ROUNDS.items():
            few = prompts_of_real_length()
            prompts = [replace(one, key=key) for key, one in enumerate(few * (count // PROMPTS))]
            useful = 2 * sum(int(prompt.limit or 0) for prompt in prompts)
            for kind in plan.fused[:1]:
                longest = sorted(prompts, key=lambda prompt: -int(prompt.limit or 0))
                by_reference = [replace(one, key=key) for key, one in enumerate(longest)]
                base, both = (None,), (None, self.adapter)
                ways: dict[str, Callable[[], float]] = {
                    "apart": partial(self._apart, kind, plan.rows, prompts, both),
                    "base, by reference": partial(self._apart, kind, plan.rows, by_reference, base),
                    "together": partial(self._together, kind, plan.rows, prompts),
                    "together, by reference": partial(self._together, kind, plan.rows, by_reference),
                }
                times: dict[str, list[float]] = {way: [] for way in ways}
                for _ in range(rounds):
                    for way, taken in ways.items():
                        times[way].append(taken())
                best = {way: min(seconds[1:] or seconds) for way, seconds in times.items()}
                found[f"{kind}, {count} prompts each"] = {
                    "useful_tokens": useful,
                    "seconds": times,
                    "useful_tokens_per_s": {
                        way: useful / (2 if way.startswith("base") else 1) / seconds for way, seconds in best.items()
                    },
                    "times_apart": {way: best["apart"] / best[way] for way in best if not way.startswith("base")},
                }
        return found

    def _apart(self, kind: Any, rows: int, prompts: list[Prompt], adapters: Sequence[Path | None]) -> float:
        """Return the seconds of decoding: attaching an adapter counts neither here nor in one queue."""
        stop: Any = FixedLength()
        taken = 0.0
        for adapter in adapters:
            with self.loaded.adapter(adapter, None if adapter is None else "random") as model:
                decoder = make_decoder(Verdict(kind), self.loaded, model, stop, rows, 0.0)
                taken += seconds_of(lambda decoder=decoder: _check(decoder.decode(prompts), prompts))  # type: ignore[misc]
        return taken

    def _together(self, kind: Any, rows: int, prompts: list[Prompt]) -> float:
        stop: Any = FixedLength()
        adapters = [(None, None), (self.adapter, "random")]
        decoder = make_joint_decoder(Verdict(kind), self.loaded, adapters, stop, rows, 0.0)
        both = prompts + [replace(prompt, key=len(prompts) + prompt.key, model=1) for prompt in prompts]
        return seconds_of(lambda: _check(decoder.decode(both), both))

    def _plan_shape(self) -> Shape:
        sizes = llama_config(self.shape).to_dict()
        return Shape(**{name: sizes[name] for name in Shape.model_fields if name in sizes})

    def _decoded(self, model: Any, kind: Any, rows: int) -> tuple[list[Any], float]:
        answers: list[Any] = []
        stop: Any = FixedLength()

        def decode() -> None:
            answers.extend(make_decoder(Verdict(kind), self.loaded, model, stop, rows, 0.0).decode(self.prompts))

        return answers, seconds_of(decode)

    def _fused(self, adapter: bool, packed: bool) -> FusedLlama:
        folder = self.adapter if adapter else None
        with torch.inference_mode(False), self.loaded.adapter(folder, "random" if adapter else None) as model:
            if not isinstance(self.loaded.fused, FusedLlama) or self.loaded.fused.packed != packed:
                self._make_room()
                self.loaded.fused = FusedLlama(model, kernels_for(torch.device("cuda")), packed)
            self.loaded.fused.adapt(model)
        return self.loaded.fused

    @torch.inference_mode()
    def steps(self) -> dict[str, Any]:
        """Steps of a full batch whose rows stand evenly between 64 and 320 tokens: as they do on average."""
        rate = reading_rate()
        found: dict[str, Any] = {"reading_gb_per_s": rate / 1e9}
        shape = self._plan_shape()
        head = 2 * shape.vocab_size * shape.hidden_size
        for packed, each in ((False, 2.0), (True, 0.5 + 4 / 64)):
            weights = head + each * linear_weights(shape)
            for who in ("base", "tuned", "half of each"):
                fused = self._fused(who != "base", packed)
                for rows in FULL_BATCHES:
                    taken = self._step_seconds(fused, rows, mixed=who == "half of each")
                    name = f"{'4 bit' if packed else 'unpacked'}, {who}, {rows} rows"
                    found[name] = {
                        "ms": taken * 1000,
                        "tokens_per_s": rows / taken,
                        "of_the_limit": weights / rate / taken,
                    }
        return found

    def _step_seconds(self, fused: FusedLlama, rows: int, count: int = 40, mixed: bool = False) -> float:
        stepper = self._standing(fused, rows)
        adapter = MIXED if mixed else fused.adapter_of[0]
        stepper.step(rows, adapter)
        return seconds_of(lambda: [stepper.step(rows, adapter) for _ in range(count)]) / count

    def _standing(self, fused: FusedLlama, rows: int) -> Stepper:
        """Rows that stand evenly between 64 and 320 tokens, every other one with the adapter where one is on."""
        slot = 400
        pool = fused.pool(1 + rows * slot)
        pool.keys.normal_()
        pool.values.normal_()
        stepper = Stepper(fused, rows, pool, slot, 0.0)
        on = fused.adapter_of[0]
        columns = [(5 + row, 64 + row * 256 // rows, 1 + row * slot, row, on * (row % 2)) for row in range(rows)]
        stepper.set_rows(0, columns)
        return stepper

    @torch.inference_mode()
    def entry(self) -> dict[str, Any]:
        """Prompts that enter together: until the program goes on, and until the GPU is done."""
        found: dict[str, Any] = {}
        for packed in (False, True):
            fused = self._fused(True, packed)
            for count in (1, 4, 16, 60):
                prompts = [prompt.tokens for prompt in self.prompts[:count]]
                starts = [1 + 300 * number for number in range(count)]
                pool = fused.pool(1 + 300 * count)

                prefill = Prefill(fused, pool, 300, Graphs())

                def enter(prefill: Prefill = prefill, prompts: Any = prompts, starts: Any = starts) -> None:
                    prefill.run(prefill.batch(prompts, starts, [NO_PREFIX] * len(starts), [1] * len(starts)), 1)

                for _ in range(1 + USES_OF_A_CAPTURE):
                    enter()
                done = seconds_of(lambda enter=enter: [enter() for _ in range(10)]) / 10  # type: ignore[misc]
                torch.cuda.synchronize()
                started = time.perf_counter()
                enter()
                ahead = time.perf_counter() - started
                torch.cuda.synchronize()
                tokens = sum(map(len, prompts))
                name = f"{'4 bit' if packed else 'unpacked'}, {count} prompts, {tokens} tokens"
                found[name] = {"ms": done * 1000, "program_ms": ahead * 1000}
        return found

    @torch.inference_mode()
    def profile(self) -> dict[str, Any]:
        """What a step of 64 rows on unpacked weights and one of 16 in 4 bit spend their time in, with the adapter."""
        return {"unpacked": self._profile(False, 64), "4 bit": self._profile(True, 16)}

    def _profile(self, packed: bool, rows: int) -> dict[str, Any]:
        fused = self._fused(True, packed)
        stepper = self._standing(fused, rows)
        stepper._step(rows, 1)
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            stepper._step(rows, 1)
            torch.cuda.synchronize()
        kinds: dict[str, list[float]] = {}
        for event in profiler.events():
            if event.device_time > 0:
                kinds.setdefault(event.name[:60], []).append(event.device_time)
        ranked = sorted(kinds.items(), key=lambda kind: -sum(kind[1]))[:16]
        return {name: {"ms": sum(times) / 1000, "times": len(times)} for name, times in ranked}

    def plain(self) -> dict[str, Any]:
        """`generate` on the NF4 weights: the first 64 prompts at once, as long as the longest answer among them."""
        self._make_room()
        part = self.prompts[:64]
        with self.loaded.adapter(None, None) as model:
            _generate(model, part, 4)
            fixed = seconds_of(lambda: _generate(model, part, 128))
            taken = seconds_of(lambda: _generate(model, part))
        useful = sum(int(prompt.limit or 0) for prompt in part)
        return {
            "64 x 128 tokens": {"seconds": fixed, "tokens_per_s": 64 * 128 / fixed},
            "real lengths": {"prompts": 64, "seconds": taken, "useful_tokens_per_s": useful / taken},
        }

    def capped(self) -> dict[str, Any]:
        """Both within a smaller card's memory; what runs out of it fails."""
        card, whole = CARDS[self.card], torch.cuda.get_device_properties(0).total_memory  # type: ignore[index]
        rows = BEST_BATCH[self.card]
        self._make_room()
        torch.cuda.set_per_process_memory_fraction(card.memory / whole)
        try:
            found: dict[str, Any] = {"card": card.name, "gib": card.memory / GIB}
            found["ours"] = self._answers(card, "fused-nf4")
            part = [Prompt(p.key, p.tokens, p.seed, 128) for p in self.prompts[:rows]]
            tokens = 128 * rows
            with self.loaded.adapter(None, None) as model:
                stop: Any = FixedLength()
                decoder = make_decoder(Verdict("fused-nf4"), self.loaded, model, stop, found["ours"]["rows"], 0.0)
                ours = seconds_of(lambda: list(decoder.decode(part)))
                found[f"ours, {rows} x 128 tokens"] = {"seconds": ours, "tokens_per_s": tokens / ours}
                self._make_room()
                torch.cuda.reset_peak_memory_stats()
                _generate(model, part, 4)
                theirs = seconds_of(lambda: _generate(model, part, 128))
            found[f"generate, {rows} x 128 tokens"] = {
                "seconds": theirs,
                "tokens_per_s": tokens / theirs,
                "peak_gib": torch.cuda.max_memory_allocated() / GIB,
            }
            return found
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def batch(self) -> dict[str, Any]:
        """Continuous batching of transformers on the NF4 weights, each request with its own length."""
        from transformers import GenerationConfig

        self._make_room()
        with self.loaded.adapter(None, None) as model:
            config = GenerationConfig(max_new_tokens=1024, do_sample=False, eos_token_id=-1, pad_token_id=0)
            manager = model.init_continuous_batching(generation_config=config)
            manager.start()
            try:
                started = time.perf_counter()
                for prompt in self.prompts:
                    manager.add_request(list(prompt.tokens), max_new_tokens=prompt.limit)
                done = 0
                while done < len(self.prompts) and time.perf_counter() - started < 90:
                    result = manager.get_result(timeout=5)
                    done += int(result is not None and bool(result.is_finished()))
                taken = time.perf_counter() - started
            finally:
                manager.stop(block=True)
        if done < len(self.prompts):
            return {"failed": f"{done} of {len(self.prompts)} prompts after {taken:.0f} s"}
        return {"seconds": taken, "useful_tokens_per_s": self.useful / taken}

    def _make_room(self) -> None:
        self.loaded.fused = None
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--shape", default="7b")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--card", choices=sorted(BEST_BATCH), default="l4")
    parser.add_argument("--weights", type=Path, help="a folder to keep the random weights in")
    arguments = parser.parse_args()
    if arguments.card == "t4":
        sys.modules["triton"] = None  # type: ignore[assignment]  # as if it were not installed
        torch.backends.cuda.enable_flash_sdp(False)
        for module in (nvrtc, nf4_ops):
            module.architecture = lambda _: "compute_75"  # type: ignore[attr-defined]
    results: dict[str, Any] = {"gpu": torch.cuda.get_device_name(0), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.tokenizer, arguments.weights or Path(folder), arguments.shape, arguments.card)
        for part in arguments.parts.split(","):
            started = time.perf_counter()
            try:
                results[part] = getattr(bench, part)()
            except Exception as error:  # the other parts still count
                traceback.print_exc()
                results[part] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            print(json.dumps({part: results[part], "took_s": round(time.perf_counter() - started, 1)}), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
