"""Measures fine-tuning of the embedded model on a CPU, as the model file's `sft` stands and as the harness plans it.

    python benchmarks/train_cpu.py [--steps N] [--repeats N] [--threads N] [--ways as-written,float32] [--json FILE]

Every training is the one that `train` does with `tuned.yaml`, cut after so many steps (0: not cut), in turn: a machine
that others use too slows all ways alike. Speed is tokens by wall-clock time, the losses are printed beside it. The way
`products` prints the rate of the products of a layer and of the head.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.model.load import Precision, load_model  # noqa: E402
from harness.model.profile import base_weights, load_profile, resolve_model  # noqa: E402
from harness.model.prompt import PromptRenderer  # noqa: E402
from harness.runs.environment import hardware  # noqa: E402
from harness.suite.load import find_suite, load_suite  # noqa: E402
from harness.suite.split import stratified  # noqa: E402
from harness.train.job import TrainingJob  # noqa: E402
from harness.train.sft import train_adapter  # noqa: E402


def measure(job: TrainingJob) -> dict[str, Any]:
    """Train; return tokens a second, the losses and the layout."""
    done = train_adapter(job)
    shutil.rmtree(done.folder)
    return {
        "tokens_per_second": (done.tokens or 0) / done.seconds,
        "seconds": done.seconds,
        "losses": [point.loss for point in done.curve],
        "layout": dict(done.layout),
    }


def product_rates(tokens: int) -> dict[str, list[float]]:
    """Return GFLOP/s of y = x Wᵀ and of g W at the sizes of a layer's four products and of the head, by dtype."""
    rates: dict[str, list[float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for outputs, inputs in ((960, 624), (576, 592), (3072, 608), (576, 1552), (49152, 576)):
            x, w, g = (
                torch.randn(shape).to(dtype) for shape in ((tokens, inputs), (outputs, inputs), (tokens, outputs))
            )
            for left, right in ((x, w.t()), (g, w)):
                seconds = []
                for _ in range(6):
                    began = time.perf_counter()
                    _ = left @ right
                    seconds.append(time.perf_counter() - began)
                rates.setdefault(str(dtype), []).append(2 * tokens * inputs * outputs / min(seconds) / 1e9)
    return rates


def main() -> None:
    """Measure each way in turn, as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--ways", default="as-written,float32,bfloat16", help="of these and `products`")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{hardware().cpu}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    ways = options.ways.split(",")
    if "products" in ways:
        ways.remove("products")
        for dtype, rates in product_rates(512).items():
            print(f"{dtype}: {', '.join(f'{rate:.0f}' for rate in rates)} GFLOP/s", flush=True)
    profile = load_profile("smollm2-135m", ROOT / "baselines")
    written = resolve_model("tuned", profile, ROOT / "baselines").file.train
    assert written is not None
    loaded = load_model(base_weights(profile), Precision("none", "float32", "cpu"))
    renderer = PromptRenderer(profile.file.prompt, profile.file.chat, loaded.tokenizer)
    tasks = stratified(load_suite(find_suite("html_starter")).train, written.rows)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way in ways:
            plan = {"batch_plan": "as-written" if way == "as-written" else "auto"}
            limit = {"max_steps": options.steps} if options.steps else {}
            products = {} if way == "as-written" else {"bf16": way == "bfloat16"}
            training = written.model_copy(update={**plan, "sft": {**written.sft, **limit, **products}})
            done = measure(TrainingJob(loaded, renderer, training, tasks))
            found[way].append(done)
            losses = ", ".join(f"{loss:.4f}" for loss in done["losses"])
            print(
                f"{way}: {done['tokens_per_second']:.0f} tokens/s, {done['seconds']:.0f} s in all, {losses}", flush=True
            )
    for way, runs in found.items():
        if runs:
            median = statistics.median(run["tokens_per_second"] for run in runs)
            print(f"{way}: median {median:.0f} tokens/s, {runs[0]['layout']}")
    if options.json:
        options.json.write_text(json.dumps({"processor": hardware().cpu, "ways": found}, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
