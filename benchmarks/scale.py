"""What spreading work over Ray workers costs and gains, against the same classes in one process, in the same run.

python benchmarks/scale.py score  --pages 2000 --workers 1,2   # one process, then 1 and 2 workers of one browser
python benchmarks/scale.py decode --prompts 64 --workers 1,2   # the embedded model in fp32, one CPU each
python benchmarks/scale.py memory --rows 1000000   # the driver's memory while synthetic rows pass through it
python benchmarks/scale.py model  --pages-per-second P --driver-ms D --tokens-per-second T --efficiency E

The first pages and tokens of each variant warm it up and are not timed. `model` extrapolates to 100,000 pages on 1, 4,
16 and 64 nodes from the figures that the others print.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cluster.facts import NodeFacts

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

WARM = 8
SUITE = "html_starter"


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """An empty cache, so that no rendering is found there."""
    before = os.environ.get("HARNESS_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("HARNESS_CACHE")
            if before is not None:
                os.environ["HARNESS_CACHE"] = before


def pages(count: int, mark: str) -> list[Any]:
    """Distinct pages: references of the embedded suite, each with a number in its text; no task has a reference."""
    from harness.suite.load import find_suite, load_suite
    from harness.types import Completion

    suite = load_suite(find_suite(SUITE), None)
    tasks = [replace(task, checks=(), reference="") for task in suite.train + suite.held_out if task.reference]
    texts = [task.reference for task in suite.train + suite.held_out if task.reference]
    made = []
    for number in range(count):
        text = texts[number % len(texts)].replace("</body>", f"<p>{mark} {number}</p></body>")
        task = tasks[number % len(tasks)]
        made.append((task, Completion(text, "eos", task=task.id, model="base", sample=number)))
    return made


def timed_score(executor: Any, count: int) -> float:
    """Pages a second, warm."""

    def drain(work: list[Any]) -> int:
        found = executor.rows(SUITE, work, {}, lambda _, name: f"shots/{name}", lambda: None)
        return sum(len(rows) for rows in found)

    drain(pages(4 * WARM, "warm"))
    work = pages(count, "page")
    started = time.perf_counter()
    assert drain(work) == count
    return count / (time.perf_counter() - started)


def score(count: int, sizes: list[int]) -> None:
    import harness.render
    from harness.pipeline.executor import LocalExecutor
    from harness.progress import ProgressReporter
    from harness.render import Renderer, RenderSettings
    from harness.storage.cache import cache_folder

    class OneBrowser(LocalExecutor):
        """The local executor with as many browsers as a worker has."""

        def __enter__(self) -> OneBrowser:
            renderer = Renderer(RenderSettings(workers=1), cache_dir=cache_folder("renders"))
            self._renderer = self._open.enter_context(renderer)
            return self

    assert harness.render.Renderer is Renderer
    with own_cache(), OneBrowser(ProgressReporter()) as local:
        base = timed_score(local, count)
    say(part="score", executor="local", pages=count, pages_per_second=round(base, 3))
    for workers in sizes:
        with own_cache(), ray_executor(workers, scorers=workers, browsers=1) as spread:
            rate = timed_score(spread, count)
        say(
            part="score", executor="ray", workers=workers, pages_per_second=round(rate, 3),
            against_local=round(rate / base, 3), efficiency=round(rate / base / workers, 3),
        )  # fmt: skip


def ray_executor(cpus: int, **actors: Any) -> Any:
    """A Ray executor on this machine; Ray counts as many CPUs as the variant needs."""
    import ray

    from harness.cluster.actors import Actors
    from harness.cluster.executor import RayExecutor

    ray.shutdown()
    options = {"num_cpus": cpus + 1, "object_store_memory": 200_000_000, "include_dashboard": False}
    ray.init(address="local", log_to_driver=False, **options)
    executor = RayExecutor(None, Actors(models=actors.pop("models", 1), cpus=1, **actors), lambda _: None)
    executor._open.callback(ray.shutdown)
    return executor


def decode(count: int, sizes: list[int]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from harness.generate.settings import GenerationSettings
    from harness.generate.transformers.generator import Generator
    from harness.model.load import Precision, load_model
    from harness.model.profile import base_weights, load_profile
    from harness.model.prompt import PromptRenderer
    from harness.suite.load import find_suite, load_suite

    torch.set_num_threads(1)
    profile = load_profile("smollm2-135m", ROOT / "baselines")
    file = profile.file
    loaded = load_model(base_weights(profile), Precision("none", "float32", "cpu"))
    renderer = PromptRenderer(file.prompt, file.chat, loaded.tokenizer)
    settings = GenerationSettings(max_new_tokens=64, batch_size=8, cut_loops=False)
    generator = Generator("base", loaded, renderer, settings)
    suite = load_suite(find_suite(SUITE), None)
    tasks = (suite.train + suite.held_out) * (1 + count // 60)

    def wanted(begin: int, end: int) -> dict[Any, Any]:
        return {(f"{n}", 0): (tuple(renderer.tokens(task)), 0) for n, task in enumerate(tasks[begin:end], begin)}

    def rate(decoding: Any, workers: int) -> tuple[float, dict[str, str]]:
        list(decoding(wanted(0, WARM * workers)))
        started = time.perf_counter()
        found = {place[0]: answer for place, answer in decoding(wanted(2 * WARM, 2 * WARM + count))}
        spent = time.perf_counter() - started
        assert len(found) == count
        tokens = sum(answer.completion_tokens for answer in found.values())
        return tokens / spent, {name: answer.text for name, answer in found.items()}

    base, texts = rate(generator.decode, 1)
    say(part="decode", executor="local", prompts=count, tokens_per_second=round(base, 2))
    for workers in sizes:
        with ray_executor(workers + 1, models=workers, scorers=1, browsers=1) as spread:
            speed, same = rate(lambda prompts, pool=spread: pool.decode(generator, prompts), workers)
        say(
            part="decode", executor="ray", workers=workers, tokens_per_second=round(speed, 2),
            against_local=round(speed / base, 3), efficiency=round(speed / base / workers, 3),
            equal_answers=sum(texts[name] == text for name, text in same.items()), of=count,
        )  # fmt: skip


class Echo:
    """A worker that makes a row of the usual size of each number."""

    def setup(self) -> NodeFacts:
        """Return what a pool asks of a new worker."""
        from harness.cluster.facts import NodeFacts

        return NodeFacts("here", "here", "", "", {}, {}, "", None, "")

    def work(self, items: list[tuple[int, int]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Yield all rows at once."""
        text = "x" * 500
        yield [(number, {"task": item, "completion": text, "page": text}) for number, item in items]


def memory(count: int) -> None:
    """Rows pass from a lazy iterator through two workers into an append-only file, as in a run."""
    import psutil
    import ray

    from harness.cluster.pool import WorkerPool
    from harness.cluster.retries import Lost
    from harness.cluster.source import StreamedBatches
    from harness.storage.jsonl import append_lines

    ray.init(address="local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False)
    actor = ray.remote(num_cpus=1, max_restarts=0)(Echo)
    pool: WorkerPool[int, dict[str, object]] = WorkerPool("echo", actor.remote, 2, lambda _: None, print)
    process = psutil.Process()
    done, cpu, started, reports = 0, 0.0, time.perf_counter(), [count // 100, count // 10, count // 2, count]
    with tempfile.TemporaryDirectory() as folder, StreamedBatches(iter(range(count)), 48, 200) as source:
        cpu = sum(process.cpu_times()[:2])
        for pairs in pool.map(source, lambda w, items: w.work.options(num_returns="streaming").remote(items)):
            append_lines(Path(folder) / "journal.jsonl", [row for _, row in pairs if not isinstance(row, Lost)])
            done += len(pairs)
            while reports and done >= reports[0]:
                say(part="memory", rows=reports.pop(0), driver_mib=round(process.memory_info().rss / 2**20, 1))
        spent = time.perf_counter() - started
        cpu = sum(process.cpu_times()[:2]) - cpu
    assert done == count
    say(part="memory", rows=count, seconds=round(spent, 1), driver_ms_per_row=round(1000 * cpu / count, 4))
    pool.close()
    ray.shutdown()


def model(options: argparse.Namespace) -> None:
    """T(n) = start + max(answering, scoring, what the driver can take in) + the last batch, for n equal nodes."""
    pages_, tokens = 100_000, 400
    for nodes in (1, 4, 16, 64):
        spread = 1.0 if nodes == 1 else options.efficiency
        scoring = pages_ / (nodes * options.scorers * options.pages_per_second * spread)
        answering = pages_ * tokens / (nodes * options.gpus * options.tokens_per_second * spread)
        driver = pages_ * options.driver_ms / 1000
        tail = 48 / options.pages_per_second
        seconds = options.start + max(scoring, answering, driver) + tail
        say(
            nodes=nodes, minutes=round(seconds / 60, 1), answering=round(answering / 60, 1),
            scoring=round(scoring / 60, 1), driver=round(driver / 60, 1),
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    spread = {name: parts.add_parser(name) for name in ("score", "decode")}
    spread["score"].add_argument("--pages", type=int, default=2000)
    spread["decode"].add_argument("--prompts", type=int, default=64)
    for part in spread.values():
        part.add_argument("--workers", type=lambda text: [int(size) for size in text.split(",")], default=[1, 2])
    parts.add_parser("memory").add_argument("--rows", type=int, default=1_000_000)
    costs = parts.add_parser("model")
    costs.add_argument("--pages-per-second", type=float, required=True, help="of one worker with one browser")
    costs.add_argument("--driver-ms", type=float, required=True, help="the driver's CPU time for a row")
    costs.add_argument("--tokens-per-second", type=float, required=True, help="of one GPU")
    costs.add_argument("--efficiency", type=float, default=1.0)
    costs.add_argument("--gpus", type=int, default=8, help="of a node")
    costs.add_argument("--scorers", type=int, default=56, help="of a node")
    costs.add_argument("--start", type=float, default=60.0, help="seconds until models are loaded")
    options = parser.parse_args()
    if options.part == "score":
        score(options.pages, options.workers)
    elif options.part == "decode":
        decode(options.prompts, options.workers)
    elif options.part == "memory":
        memory(options.rows)
    else:
        model(options)


if __name__ == "__main__":
    main()
