"""How long the whole comparison takes: 2 models × 500 tasks × 20 metrics, against the limit of 5 seconds on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.compare_speed [--tasks 500] [--repeats 3]

Times `summarise` with 10,000 replicates on made-up rows with the registry's own metrics, first in a fresh process (with
the imports of scipy and statsmodels) and then warm, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

LIMIT_S = 5.0
METRICS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    started = time.perf_counter()
    import numpy as np

    from harness.compare import summarise
    from harness.metrics.registry import scorer_manifest
    from harness.runs.manifest import ScorerEntry
    from harness.runs.samples import SampleRecord, TaskRecord

    imported = time.perf_counter() - started
    scorers = {name: ScorerEntry.model_validate(facts) for name, facts in scorer_manifest().items()}
    while len(scorers) < METRICS:
        scorers[f"extra_{len(scorers)}"] = ScorerEntry(scale="percent", kind="similarity")
    random = np.random.default_rng(0)
    rows = [
        SampleRecord.model_validate(_row(random, f"{task:04d}", model, scorers))
        for task in range(arguments.tasks)
        for model in ("base", "tuned")
    ]
    tasks = {
        row.of_task: TaskRecord(suite="s", task=row.task, category=f"c{int(row.task) % 10}", difficulty="easy")
        for row in rows
    }
    times = []
    for _ in range(arguments.repeats):
        begin = time.perf_counter(), time.process_time()
        summarise(rows, scorers, tasks=tasks)
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    result = {
        "tasks": arguments.tasks,
        "metrics": len(scorers),
        "import_s": round(imported, 2),
        "first_s": round(times[0][0], 2),
        "first_cpu_s": round(times[0][1], 2),
        "best_s": round(min(wall for wall, _ in times), 2),
        "best_cpu_s": round(min(cpu for _, cpu in times), 2),
        "limit_s": LIMIT_S,
        "share_of_limit": round(min(wall for wall, _ in times) / LIMIT_S, 2),
    }
    print(json.dumps(result))


def _row(random: Any, task: str, model: str, scorers: dict[str, Any]) -> dict[str, Any]:
    length, chance = int(random.integers(40, 400)), 0.5 if model == "base" else 0.6
    totals = [length - order for order in range(4)]
    counts = [length, length, *[int(t * chance**o) for o, t in enumerate(totals, 1)], *totals]
    draw: dict[str, Any] = {
        "binary": lambda: int(random.random() < chance),
        "share": lambda: float(random.binomial(4, chance)) / 4,
        "percent": lambda: float(100 * random.beta(3 * chance, 3 - 3 * chance)),
    }
    return {
        "suite": "s",
        "task": task,
        "model": model,
        "sample": 0,
        "scores": {metric: draw[about.scale]() for metric, about in scorers.items()},
        "counts": {metric: counts for metric, about in scorers.items() if about.corpus},
        "outcome": "ok",
        "finish_reason": "eos",
    }


if __name__ == "__main__":
    main()
