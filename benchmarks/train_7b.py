"""Measures fine-tuning of Llama-2-7B's shape on one GPU: the original notebook's settings, ours, and what bounds them.

    python benchmarks/train_7b.py --tokenizer FOLDER --rows html_alpaca.jsonl [--out FOLDER] [--parts ceiling,ours,...]

Weights are random (see llama_shape.py), rows are real, every training is the one that `train` does. Speed is over the
second of two epochs: the real tokens of all rows by wall-clock time between two steps of the optimiser, padding not
counted. Model FLOP utilisation (MFU) is 4 N · tokens/s by the measured rate of a bf16 8192³ matrix product, with N the
weights of all linear layers and the head: 2 N for the forward pass, 2 N for the gradients of the activations; a frozen
base has no weight gradients, and neither attention, LoRA nor recomputing is counted as useful work.
"""

from __future__ import annotations

import argparse
import gc
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

from llama_shape import write_checkpoint  # noqa: E402

from harness.model.load import LoadedModel, Precision, load_tokenizer  # noqa: E402
from harness.model.prompt import PromptRenderer  # noqa: E402
from harness.model.weights import LocalWeights  # noqa: E402
from harness.profile.load import load_profile, resolve_model  # noqa: E402
from harness.profile.schema import Shape, Training  # noqa: E402
from harness.train import packed, sft  # noqa: E402
from harness.train.layout import Layout  # noqa: E402
from harness.train.plan import CARDS, best_layout, matrix_weights  # noqa: E402
from harness.types import Task, sha256  # noqa: E402

GIB = 2**30
T4_BYTES = int(14.5 * GIB)
PARTS = ("ceiling", "attention", "notebook", "ours", "bf16", "bf16-ours", "profile", "t4", "memory", "out-of-memory")


def ceiling() -> float:
    """Return the median FLOP/s of a bf16 8192³ product."""
    side = 8192
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(30):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        left @ right
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return 2 * side**3 / sorted(times)[len(times) // 2]


def attention_error() -> dict[str, float]:
    """Compare packed attention and its gradient with float32 attention of each row by itself: ‖difference‖ / ‖ref‖."""
    lengths = [5, 182, 400, 831, 1]
    total = sum(lengths)
    positions = torch.cat([torch.arange(length) for length in lengths])[None].cuda()
    parts = [torch.randn(1, 8, total, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    ours, _ = packed.attend_packed(None, *parts, None, position_ids=positions)
    weight = torch.randn_like(ours)
    (ours * weight).sum().backward()
    plain = [part.detach().float().requires_grad_() for part in parts]
    rows = [
        torch.nn.functional.scaled_dot_product_attention(*row, is_causal=True).transpose(1, 2)
        for row in zip(*(part.split(lengths, dim=2) for part in plain), strict=True)
    ]
    reference = torch.cat(rows, dim=1)
    (reference * weight.float()).sum().backward()

    def error(one: torch.Tensor, two: torch.Tensor) -> float:
        return float((one.float() - two).norm() / two.norm())

    gradients = (
        error(a.grad, b.grad) for a, b in zip(parts, plain, strict=True) if a.grad is not None and b.grad is not None
    )
    return {"output": error(ours, reference), "gradient": max(gradients)}


class Bench:
    """Loads what each part needs, one model at a time, and trains."""

    def __init__(self, checkpoint: Path, rows: Path) -> None:
        self.checkpoint = checkpoint
        self.profile = load_profile("llama-2-7b", ROOT / "baselines")
        self.tasks = [
            Task(sha256(line)[:12], row["instruction"], row.get("input") or "", row["output"])
            for line in rows.read_text(encoding="utf-8").splitlines()
            if (row := json.loads(line))
        ]
        self.loaded: LoadedModel | None = None
        self.renderer: PromptRenderer

    def load(self, precision: Precision) -> LoadedModel:
        """Return the model in that precision; the one before goes."""
        if self.loaded is None or self.loaded.precision != precision:
            self.loaded = None
            gc.collect()
            torch.cuda.empty_cache()
            self.loaded = LoadedModel(
                load_tokenizer(self.checkpoint), LocalWeights(self.checkpoint, "random"), precision
            )
            self.renderer = PromptRenderer(self.profile.file.prompt, False, self.loaded.tokenizer)
        return self.loaded

    def training(self, name: str, **sft_fields: Any) -> Training:
        """Return a model file's training over two epochs, with these fields of SFTConfig changed."""
        written = resolve_model(name, self.profile, ROOT / "baselines").file.train
        assert written is not None
        fields = {"num_train_epochs": 2, "save_strategy": "no", **sft_fields}
        return written.model_copy(update={"sft": written.sft | fields})

    def train(self, training: Training, precision: Precision, layout: Layout | None) -> dict[str, Any]:
        """Train for two epochs; return speed over the second, losses and memory."""
        loaded = self.load(precision)
        times: dict[int, float] = {}
        steps = 0

        def note(progress: sft.Progress) -> None:
            nonlocal steps
            torch.cuda.synchronize()
            times[progress.step], steps = time.perf_counter(), progress.steps

        with tempfile.TemporaryDirectory() as cache:
            os.environ["HARNESS_CACHE"] = cache
            done = sft.train_adapter(
                loaded, self.renderer, training, self.tasks, on_progress=note, on_notice=print, layout=layout
            )
        tokens = done.tokens if done.tokens < 150_000 else done.tokens // 2
        half = steps // 2
        speed = tokens / (times[steps] - times[half]) if "max_steps" not in training.sft else None
        losses = [point.loss for point in done.curve]
        return {
            "tokens": tokens,
            "steps": steps,
            "tokens_per_second": speed,
            "epoch_seconds": times[steps] - times[half] if "max_steps" not in training.sft else None,
            "seconds": done.seconds,
            "peak_gib": (done.peak_memory_bytes or 0) / GIB,
            "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
            "loss_first": losses[0],
            "loss_last": losses[-1],
            "losses": losses,
            "finite": all(loss is not None and math.isfinite(loss) for loss in losses),
            "layout": dict(done.layout),
            "out_of_memory": list(done.out_of_memory),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("train-7b"))
    parser.add_argument("--parts", default=",".join(PARTS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(write_checkpoint(Path(folder), arguments.tokenizer), arguments.rows)
        for part in arguments.parts.split(","):
            started = time.perf_counter()
            try:
                results[part] = _MEASURES[part](bench, arguments.out)
            except Exception as error:  # the other parts are still worth their time
                traceback.print_exc()
                results[part] = {"failed": str(error)[:300]}
            print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
            (arguments.out / "train_7b.json").write_text(json.dumps(results, indent=1))
    assert bench.profile.file.shape is not None
    report(results, bench.profile.file.shape)


NF4 = Precision("nf4", "bfloat16", "cuda")
BF16 = Precision("none", "bfloat16", "cuda")
KEPT = Layout(4, 1, checkpointing=False, plain_base=True)


def _t4(bench: Bench, _out: Path) -> dict[str, Any]:
    """Train in float16 with what a T4 has: no flash attention, and not one byte over the limit."""
    total = torch.cuda.get_device_properties(0).total_memory
    available = packed.packed_attention_available
    bench.loaded = None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(T4_BYTES / total)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    packed.packed_attention_available = lambda: False
    try:
        precision = Precision("nf4", "float16", "cuda")
        training, shape = bench.training("tuned"), bench.profile.file.shape
        assert shape is not None
        return bench.train(training, precision, best_layout(shape, training, "nf4", CARDS["t4"]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.backends.cuda.enable_flash_sdp(True)
        torch.backends.cuda.enable_cudnn_sdp(True)
        packed.packed_attention_available = available


def _memory(bench: Bench, _out: Path) -> dict[str, Any]:
    """Measure the peak of several layouts, two steps each, for the arithmetic of `plan`."""
    layouts = [Layout(m, 1, c, p) for m in (1, 4) for c in (False, True) for p in (False, True)]
    short = bench.training("tuned", max_steps=3)
    return {str(layout): _peak(bench, short, layout) for layout in layouts}


def _peak(bench: Bench, training: Training, layout: Layout) -> dict[str, Any]:
    done = bench.train(training, NF4, layout)
    return {"layout": asdict(layout), "peak_gib": done["peak_gib"]}


def _profile(bench: Bench, out: Path) -> dict[str, Any]:
    """Train four steps under torch's profiler; return the share of each kind of kernel in the GPU's busy time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        bench.train(bench.training("tuned", max_steps=4), NF4, KEPT)
    events = profiler.key_averages()
    (out / "profile.txt").write_text(
        events.table(sort_by="self_device_time_total", row_limit=60, max_name_column_width=110)
    )
    total = sum(event.self_device_time_total for event in events)
    top = sorted(events, key=lambda event: -event.self_device_time_total)[:16]
    return {event.key[:90]: round(event.self_device_time_total / total, 4) for event in top}


def _out_of_memory(bench: Bench, _out: Path) -> dict[str, Any]:
    """Begin with a layout that is far too large for 24 GiB and see where it ends."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(24 * GIB / total)
    try:
        return bench.train(bench.training("tuned", max_steps=4), NF4, KEPT)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


_MEASURES: dict[str, Callable[[Bench, Path], Any]] = {
    "ceiling": lambda _bench, _out: ceiling(),
    "attention": lambda _bench, _out: attention_error(),
    "notebook": lambda bench, _out: bench.train(bench.training("notebook"), NF4, None),
    "ours": lambda bench, _out: bench.train(bench.training("tuned"), NF4, KEPT),
    "bf16": lambda bench, _out: bench.train(
        bench.training("tuned").model_copy(update={"fit": "as-written"}), BF16, Layout(4, 1, checkpointing=False)
    ),
    "bf16-ours": lambda bench, _out: bench.train(bench.training("tuned"), BF16, Layout(4, 1, checkpointing=False)),
    "profile": _profile,
    "t4": _t4,
    "memory": _memory,
    "out-of-memory": _out_of_memory,
}


def report(results: dict[str, Any], shape: Shape) -> None:
    """Print the table."""
    peak = results.get("ceiling")
    work = 4 * matrix_weights(shape)
    print(f"{results['gpu']}, torch {results['torch']}; ceiling {(peak or 0) / 1e12:.0f} TFLOP/s")
    base = (results.get("notebook") or {}).get("tokens_per_second")
    for part, done in results.items():
        if not isinstance(done, dict) or "peak_gib" not in done:
            print(part, json.dumps(done)[:1800])
            continue
        speed = done["tokens_per_second"]
        words = f"{speed:.0f} tokens/s" if speed else "-"
        words += f", {speed / base:.2f}x notebook" if speed and base else ""
        words += f", MFU {work * speed / peak:.1%}" if speed and isinstance(peak, float) else ""
        print(
            f"{part}: {words}; peak {done['peak_gib']:.2f} GiB (reserved {done['reserved_gib']:.2f}); "
            f"loss {done['loss_first']:.4f} -> {done['loss_last']:.4f}"
            f"{'' if done['finite'] else ' NOT FINITE'}; {done['layout']}; {done['out_of_memory']}"
        )


if __name__ == "__main__":
    main()
