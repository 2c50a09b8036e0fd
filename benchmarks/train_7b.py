"""Measures fine-tuning of Llama-2-7B's shape on one GPU: the original notebook's settings, ours, and what bounds them.

    python benchmarks/train_7b.py --tokenizer FOLDER --rows FILE.jsonl [--json FILE] [--only ours,...] [--seconds S]
    python benchmarks/train_7b.py --tokenizer FOLDER --rows FILE.jsonl --shape tiny     # its logic, on a CPU in float32

Weights are random (see llama_shape.py), rows are real, every training is the one that `train` does, over two epochs
(`ours` over four, of which the last two count) or until `--seconds` have passed. Speed is over all steps after the
first ones: real tokens (padding not counted) by wall-clock time. Our own trainer is a step ahead of the GPU: the clock
starts when the GPU has done all that it was given, which is one step more than the trainer has told of. `notebook`
trains by trl's own trainer. Model FLOP utilisation (MFU) is 4 N · tokens/s by the measured rate of a bf16 8192³ matrix
product, with N the weights of all linear layers and the head: 2 N for the forward pass, 2 N for the gradients of the
activations; a frozen base has no weight gradients, and neither attention, LoRA nor recomputing is counted as useful
work. Each part prints its result as it ends and adds it to the JSON file: a call that is cut off leaves figures.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from gpu_limits import attention_error, matmul_rate  # noqa: E402
from kernel_shares import Watch  # noqa: E402
from llama_shape import SHAPES, write_checkpoint  # noqa: E402

from harness.model.gpu_memory import CARDS, matrix_weights, this_card  # noqa: E402
from harness.model.load import LoadedModel, Precision  # noqa: E402
from harness.model.profile import load_profile, resolve_model  # noqa: E402
from harness.model.profile_schema import Shape, Training  # noqa: E402
from harness.model.prompt import PromptRenderer  # noqa: E402
from harness.model.tokenizer import load_tokenizer  # noqa: E402
from harness.model.weights import LocalWeights  # noqa: E402
from harness.train import packed_attention, sft  # noqa: E402
from harness.train.batch_layout import BatchPlan  # noqa: E402
from harness.train.callbacks import Progress  # noqa: E402
from harness.train.job import TrainingJob  # noqa: E402
from harness.train.memory_plan import best_layout, peak_memory, tokens_per_second  # noqa: E402
from harness.train.trainer_run import free_memory  # noqa: E402
from harness.types import Task, sha256  # noqa: E402

GIB = 2**30
T4_BYTES = int(14.5 * GIB)
WARM = 3
"""Steps before speed is counted: kernels are compiled and memory is taken in them."""
OURS_WARM = 26
"""Two of four epochs."""
RECORDED_NOTEBOOK = 3627.0
"""tokens/s of the notebook's settings as they were first measured on an H100."""
DEVICE, BFLOAT16, FLOAT16 = (
    ("cuda", "bfloat16", "float16") if torch.cuda.is_available() else ("cpu", "float32", "float32")
)
NF4 = Precision("nf4", BFLOAT16, DEVICE)
BF16 = Precision("none", BFLOAT16, DEVICE)
KEPT = BatchPlan(4, 1, checkpointing=False, plain_base=True)


class Enough(Exception):
    """A training has run for as long as it is asked to."""


class Bench:
    """Loads what each part needs, one model at a time, and trains."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.checkpoint = write_checkpoint(folder, options.tokenizer, options.shape)
        self.seconds: float = options.seconds
        self.tiny = options.shape == "tiny"
        self.profile = load_profile("llama-2-7b", ROOT / "baselines")
        sizes = SHAPES[options.shape]
        self.shape = Shape.model_validate({name: size for name, size in sizes.items() if name in Shape.model_fields})
        self.tasks = [
            Task(sha256(line)[:12], row["instruction"], row.get("input") or "", row["output"])
            for line in options.rows.read_text(encoding="utf-8").splitlines()
            if (row := json.loads(line))
        ]
        self.loaded: LoadedModel | None = None
        self.renderer: PromptRenderer

    def load(self, precision: Precision) -> LoadedModel:
        """Return the model in that precision; the one before goes."""
        if self.loaded is None or self.loaded.precision != precision:
            self.forget()
            self.loaded = LoadedModel(
                load_tokenizer(self.checkpoint), LocalWeights(self.checkpoint, "random"), precision
            )
            self.renderer = PromptRenderer(self.profile.file.prompt, False, self.loaded.tokenizer)
        return self.loaded

    def forget(self) -> None:
        """Free the model's memory."""
        self.loaded = None
        gc.collect()
        if DEVICE == "cuda":
            torch.cuda.empty_cache()

    def training(self, name: str, **sft_fields: Any) -> Training:
        """Return a model file's training over two epochs, with these fields of SFTConfig changed."""
        written = resolve_model(name, self.profile, ROOT / "baselines").file.train
        assert written is not None
        fields = {"num_train_epochs": 2, "save_strategy": "no", "include_num_input_tokens_seen": "all", **sft_fields}
        if self.tiny:
            fields["max_length"] = 256
        return written.model_copy(update={"sft": written.sft | fields})

    def train(
        self,
        training: Training,
        precision: Precision,
        layout: BatchPlan | None,
        watch: Watch | None = None,
        warm: int = WARM,
    ) -> dict[str, Any]:
        """Train; return speed, losses and memory. `watch` sees four steps after the warm ones, and then it is over."""
        loaded = self.load(precision)
        times: list[float] = []
        tokens: list[int] = []
        losses: list[float] = []
        notices: list[str] = []
        steps = 0

        def note(progress: Progress) -> None:
            nonlocal steps
            if DEVICE == "cuda" and progress.step == warm:
                torch.cuda.synchronize()
            times.append(time.perf_counter())
            tokens.append(progress.tokens)
            losses.append(progress.loss if progress.loss is not None else math.nan)
            steps = progress.steps
            if watch is not None and progress.step == WARM:
                watch.start()
            if watch is not None and progress.step == WARM + 4:
                watch.stop()
                raise Enough
            if watch is None and times[-1] - times[0] > self.seconds and progress.step > WARM + 1:
                raise Enough

        done = None
        with tempfile.TemporaryDirectory() as cache:
            os.environ["HARNESS_CACHE"] = cache
            with contextlib.suppress(Enough):
                job = TrainingJob(loaded, self.renderer, training, self.tasks)
                done = sft.train_adapter(job, layout, on_progress=note, on_notice=notices.append)
        peak, reserved = _peak_memory()
        free_memory()
        half = steps // 2
        whole = done is not None and len(times) == steps and half > WARM and "max_steps" not in training.sft
        first = warm - 1 + int(training.batch_plan == "auto")
        speed = (tokens[-1] - tokens[first]) / (times[-1] - times[warm - 1]) if len(times) > first + 1 else None
        return {
            "tokens_per_second": speed,
            "steps": len(times),
            "of_steps": steps,
            "tokens": tokens[-1],
            "peak_gib": peak,
            "reserved_gib": reserved,
            "loss_first": losses[0],
            "loss_last": losses[-1],
            "losses": losses,
            "step_seconds": [round(later - earlier, 4) for earlier, later in itertools.pairwise(times)],
            "finite": all(math.isfinite(loss) for loss in losses),
            "second_half_seconds": times[-1] - times[half - 1] if whole else None,
            "first_half_seconds": done.seconds - (times[-1] - times[half - 1]) if whole and done else None,
            "half_tokens": tokens[-1] - tokens[half - 1] if whole else None,
            "layout": asdict(layout) if layout and not notices else dict(done.layout) if done else None,
            "out_of_memory": notices,
        }


def _peak_memory() -> tuple[float, float]:
    if DEVICE == "cpu":
        return 0.0, 0.0
    return torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB


def ours(bench: Bench) -> dict[str, Any]:
    """Train with the preset in the layout that `plan` chooses for this card, beside what `plan` promises of it."""
    training = bench.training("tuned", num_train_epochs=4)
    card = this_card() or CARDS["h100"]
    layout = best_layout(bench.shape, training, "nf4", card) or KEPT
    done = bench.train(training, NF4, layout, warm=OURS_WARM)  # by then kernels are compiled for all kinds of lengths
    speed = tokens_per_second(bench.shape, training, layout, "nf4", card)
    half = done["half_tokens"]
    done["promised"] = {
        "card": card.name,
        "peak_gib": peak_memory(bench.shape, training, layout, "nf4").total / GIB,
        "tokens_per_second": speed,
        "half_seconds": half / speed if half else None,
    }
    return done


def t4(bench: Bench) -> dict[str, Any]:
    """Train in float16 with what a T4 has: no flash attention, and not one byte over the limit."""
    training = bench.training("tuned")
    layout = best_layout(bench.shape, training, "nf4", CARDS["t4"])
    available = packed_attention.varlen_available
    bench.forget()
    _limit_memory(T4_BYTES)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    packed_attention.varlen_available = lambda: False
    try:
        done = bench.train(training, Precision("nf4", FLOAT16, DEVICE), layout)
    finally:
        _limit_memory(None)
        torch.backends.cuda.enable_flash_sdp(True)
        torch.backends.cuda.enable_cudnn_sdp(True)
        packed_attention.varlen_available = available
    assert layout is not None
    return done | {"promised": {"peak_gib": peak_memory(bench.shape, training, layout, "nf4").total / GIB}}


def _limit_memory(size: int | None) -> None:
    if DEVICE == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(1.0 if size is None else size / total)


def profile(bench: Bench) -> dict[str, Any]:
    """Return the share of each kind of kernel in the GPU's busy time over four steps of the preset."""
    watch = Watch()
    bench.train(bench.training("tuned"), NF4, KEPT, watch)
    return watch.result()


def memory(bench: Bench) -> dict[str, Any]:
    """Measure the peak of several layouts, three steps each, for the arithmetic of `plan`."""
    layouts = [BatchPlan(m, 1, c, p) for m in (1, 4) for c in (False, True) for p in (False, True)]
    short = bench.training("tuned", max_steps=3)
    return {str(layout): round(bench.train(short, NF4, layout)["peak_gib"], 2) for layout in layouts}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """Begin with a layout that is far too large for 24 GiB and see where it ends."""
    _limit_memory(24 * GIB)
    try:
        return bench.train(bench.training("tuned", max_steps=4), NF4, KEPT)
    finally:
        _limit_memory(None)


BARE = BatchPlan(4, 1, checkpointing=False)
MEASURES: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "ceiling": lambda _: {"flops": matmul_rate(DEVICE)},
    "ours": ours,
    "notebook": lambda bench: bench.train(bench.training("notebook"), NF4, None),
    "profile": profile,
    "bf16-ours": lambda bench: bench.train(bench.training("tuned"), BF16, BARE),
    "bf16": lambda bench: bench.train(
        bench.training("tuned").model_copy(update={"batch_plan": "as-written"}), BF16, BARE
    ),
    "t4": t4,
    "attention": lambda _: attention_error(DEVICE),
    "memory": memory,
    "out-of-memory": out_of_memory,
}
DEFAULT = ("ceiling", "ours", "notebook", "profile", "bf16-ours", "bf16", "t4", "attention")


def line(part: str, results: dict[str, Any], shape: Shape) -> str:
    """Return a part's result in words, against the parts that came before it."""
    done = results[part]
    if "losses" not in done:
        return f"{part}: {json.dumps(done)[:2500]}"
    speed, flops = done["tokens_per_second"], results.get("ceiling", {}).get("flops")
    words = [f"{part}: {speed:.0f} tokens/s" if speed else f"{part}: -"]
    if speed and flops and DEVICE == "cuda":  # on a CPU the products are others and the figure means nothing
        words.append(f"MFU {4 * matrix_weights(shape) * speed / flops:.1%} of {flops / 1e12:.0f} TFLOP/s")
    others = {name: results.get(name, {}).get("tokens_per_second") for name in MEASURES if name != part}
    words += [f"{speed / other:.2f}x {name}" for name, other in others.items() if speed and other]
    words += [f"{speed / RECORDED_NOTEBOOK:.2f}x the notebook as recorded"] if speed else []
    words.append(f"peak {done['peak_gib']:.2f} GiB (reserved {done['reserved_gib']:.2f})")
    words.append(
        f"loss {done['loss_first']:.4f} -> {done['loss_last']:.4f}, {done['steps']} of {done['of_steps']} steps"
    )
    words.append("all finite" if done["finite"] else "NOT FINITE")
    if done["second_half_seconds"]:
        words.append(f"halves {done['first_half_seconds']:.1f} s, {done['second_half_seconds']:.1f} s")
    words += [f"promised {done['promised']}"] if "promised" in done else []
    return "; ".join([*words, str(done["layout"]), *done["out_of_memory"]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with Llama-2's tokenizer")
    parser.add_argument("--rows", type=Path, required=True, help="html_alpaca's rows, JSONL")
    parser.add_argument("--json", type=Path, default=Path("train_7b.json"), help="written anew after each part")
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="a training ends after so many at the latest")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--weights", type=Path, help="a folder to keep the random weights in")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(MEASURES):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "CPU"
    results: dict[str, Any] = {"gpu": name, "torch": torch.__version__, "seconds": {}, "argv": sys.argv[1:]}
    print(f"{name}, torch {torch.__version__}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.weights or Path(folder), options)
        results["seconds"]["checkpoint"] = time.perf_counter() - started
        for part in parts:
            started = time.perf_counter()
            try:
                results[part] = MEASURES[part](bench)
            except Exception as error:  # the other parts are still worth their time
                traceback.print_exc()
                results[part] = {"failed": str(error)[:300]}
                bench.forget()
            results["seconds"][part] = time.perf_counter() - started
            options.json.write_text(json.dumps(results, indent=1))
            print(line(part, results, bench.shape), f"[{results['seconds'][part]:.0f} s]", flush=True)
    return int(any("failed" in results[part] for part in parts))


if __name__ == "__main__":
    sys.exit(main())
