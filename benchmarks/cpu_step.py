"""A step of decoding on a CPU beside its bound: the multipliers' time or the memory's, whichever is longer.

    taskset -c 0 python benchmarks/cpu_step.py [--dtype bfloat16] [--rows 1,8,16,32,64] [--rounds 5]

The embedded model decodes one token of each row; rows stand between 64 and 320 tokens. The multipliers' time is the
step's multiplications at the speed of the best of a few large products in the same dtype, the memory's that of reading
all weights, keys and values once at the speed at which a large tensor is summed; both measured here, on the threads of
this process. Beside it a step of transformers' own layers on the same rows, all as long as the longest, as `generate`
pads them. Prints one JSON object: milliseconds, the best of the rounds, ways in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch

SHORTEST, LONGEST = 64, 320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rows", default="1,8,16,32,64")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with torch.inference_mode():
        print(json.dumps(measure(arguments.dtype, [int(one) for one in arguments.rows.split(",")], arguments.rounds)))


def measure(dtype: str, counts: list[int], rounds: int) -> dict[str, Any]:
    """Return the speeds of this machine and, by the number of rows, times and bounds."""
    from harness.generate.llama.cpu_model import CpuLlama
    from harness.model.load import Precision, load_model
    from harness.model.profile import base_weights, load_profile

    loaded = load_model(base_weights(load_profile("smollm2-135m")), Precision("none", dtype, "cpu"))
    model, started = loaded.model, time.perf_counter()
    fused = CpuLlama(model)
    packing = time.perf_counter() - started
    flops, bandwidth = _flops(loaded.precision.torch_dtype, rounds), _bandwidth(rounds)
    found: dict[str, Any] = {}
    for count in counts:
        lengths = torch.linspace(LONGEST, SHORTEST, count).long()
        ours, theirs = _ours(fused, lengths), _theirs(model, lengths)
        times = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
        best, plain = (min(column) for column in zip(*times, strict=True))
        multiply, read = _bound(fused, lengths, flops, bandwidth)
        found[str(count)] = {
            "ms": round(best * 1e3, 1),
            "of_the_bound": round(max(multiply, read) / best, 2),
            "multipliers_ms": round(multiply * 1e3, 1),
            "memory_ms": round(read * 1e3, 1),
            "transformers_ms": round(plain * 1e3, 1),
        }
    about = {"processor": _processor(), "threads": torch.get_num_threads(), "dtype": dtype}
    speeds = {"gflops": round(flops / 1e9, 1), "gb_per_s": round(bandwidth / 1e9, 1), "packing_s": round(packing, 2)}
    return about | speeds | {"rows": found}


def _ours(fused: Any, lengths: torch.Tensor) -> Callable[[], object]:
    pool = fused.pool(1 + len(lengths) * (LONGEST + 1))
    starts = 1 + torch.arange(len(lengths)) * (LONGEST + 1)
    tokens = torch.arange(len(lengths)) + 1000
    seeds = torch.zeros_like(tokens)

    def step() -> object:
        logits = fused.step(tokens, pool, starts, lengths, LONGEST + 1)
        return fused.operations.choose(logits, 0.0, seeds, lengths)

    return step


def _theirs(model: Any, lengths: torch.Tensor) -> Callable[[], object]:
    from transformers.cache_utils import DynamicCache

    config, count = model.config, len(lengths)
    shape = (count, config.num_key_value_heads, LONGEST, config.hidden_size // config.num_attention_heads)
    filled = torch.zeros(shape, dtype=model.dtype)
    mask = (torch.arange(LONGEST + 1)[None] >= LONGEST - lengths[:, None]).long()

    def step() -> object:
        cache = DynamicCache()
        for number in range(config.num_hidden_layers):
            cache.update(filled, filled, number)
        ids = torch.arange(count)[:, None] + 1000
        done = model(
            input_ids=ids, attention_mask=mask, position_ids=lengths[:, None], past_key_values=cache, use_cache=True
        )
        return done.logits[:, -1].argmax(-1)

    return step


def _bound(fused: Any, lengths: torch.Tensor, flops: float, bandwidth: float) -> tuple[float, float]:
    """Return the seconds that multiplying and that reading take at least."""
    matrices = sum(weight.numel() for weight in _matrices(fused))
    tokens, size = int(lengths.sum()) + len(lengths), fused.size
    attended = 4 * tokens * fused.heads * size * len(fused.layers)
    stored = 2 * tokens * fused.narrow * size * len(fused.layers)
    multiplied = 2 * matrices * len(lengths) + attended
    return multiplied / flops, (matrices + stored) * fused.dtype.itemsize / bandwidth


def _matrices(fused: Any) -> list[torch.Tensor]:
    return [fused.head, *(product.matrix for layer in fused.layers for product in layer.products.values())]


def _flops(dtype: torch.dtype, rounds: int) -> float:
    best = 0.0
    for size in (768, 1536, 2048):
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        for _ in range(rounds):
            best = max(best, 2 * size**3 / _seconds(lambda: left @ right))  # noqa: B023  # called at once
    return best


def _bandwidth(rounds: int) -> float:
    large = torch.zeros(2**26)
    return max(large.numel() * 4 / _seconds(large.sum) for _ in range(rounds))


def _seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def _processor() -> str:
    from harness.runs.environment import hardware

    return hardware().cpu or ""


if __name__ == "__main__":
    main()
