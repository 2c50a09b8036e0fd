"""Two GPUs against one: the same answers and losses, and how much faster; one call measures everything.

    python benchmarks/two_gpus.py --tokenizer FOLDER --rows ROWS.jsonl [--parts shard,ray,kill,train,resume,equal]
    python benchmarks/two_gpus.py --device cpu --tiny --parts ray,shard,equal,kill      # the same logic without a GPU

`train` runs `accelerate launch -m harness train` on Llama-2-7B's shape in 4 bit (random weights, real rows) with one
and with two processes at the same effective batch; `resume` begins one with one process and ends it with two, and the
other way round. `ray` and `shard` decode with one replica and with one on each GPU;
`equal` compares answers of the embedded model in float32 row for row; `kill` kills one of two replicas on the way.
NVLink multicast stays off. Each part prints a line of JSON; one that fails says so, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ["NCCL_NVLS_ENABLE"] = "0"
WARM = 4
"""Steps that start everything up."""
PARTS = ("shard", "ray", "kill", "train", "resume", "equal")
Answers = dict[str, str]


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


class Bench:
    """A checkpoint of Llama's shape, or the embedded model for the tiny form, and prompts for it."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.gpus = 1.0 if options.device == "cuda" else 0.0
        self.count = 12 if options.tiny else 2048
        """Prompts that are shared out: a minute for one GPU, so that the loading of replicas hardly counts."""
        self.undisturbed: tuple[Answers, float] | None = None
        """What two replicas answered, and in how many seconds."""
        self.new_tokens = 12 if options.tiny else 128
        self.checkpoint: Path | None = None

    def generator(self, *, embedded: bool = False) -> Any:
        """The model that answers: the embedded one in float32, else the 7B shape in 4 bit."""
        from llama_shape import write_checkpoint

        from harness.generate.settings import GenerationSettings
        from harness.generate.transformers.generator import Generator
        from harness.model.load import Precision, load_model
        from harness.model.profile import base_weights, load_profile
        from harness.model.profile_schema import Weights
        from harness.model.prompt import PromptRenderer

        device = self.options.device
        if embedded or self.options.tiny:
            profile = load_profile("smollm2-135m", ROOT / "baselines")
            weights, precision = base_weights(profile), Precision("none", "float32", device)
        else:
            profile = load_profile("llama-2-7b", ROOT / "baselines")
            if self.checkpoint is None:
                where = self.options.weights or self.folder / "shape"
                self.checkpoint = write_checkpoint(where, self.options.tokenizer)
            weights, precision = Weights(folder=str(self.checkpoint)), Precision("nf4", "bfloat16", device)
        loaded = load_model(weights, precision)
        renderer = PromptRenderer(profile.file.prompt, profile.file.chat, loaded.tokenizer)
        batch = 4 if self.options.tiny else 32
        return Generator("base", loaded, renderer, GenerationSettings(self.new_tokens, batch, cut_loops=False))

    def wanted(self, generator: Any, count: int) -> dict[Any, Any]:
        """So many prompts, those of the suite again and again with a number, so that each is another."""
        from dataclasses import replace

        from harness.suite.load import find_suite, load_suite

        suite = load_suite(find_suite("html_starter"), None)
        tasks = suite.train + suite.held_out
        prompts = (
            replace(tasks[number % len(tasks)], prompt=f"{tasks[number % len(tasks)].prompt} ({number})")
            for number in range(count)
        )
        return {(f"{n}", 0): (generator.prompt(task), 0) for n, task in enumerate(prompts)}


@contextlib.contextmanager
def replicas(bench: Bench, count: int) -> Iterator[Any]:
    """A Ray executor with so many replicas of the model on this machine; what it and Ray say goes to stderr."""
    import ray

    from harness.cluster.actors import Actors
    from harness.cluster.executor import RayExecutor

    ray.init(
        address="local", num_cpus=max(4, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False,
        object_store_memory=200_000_000,
    )  # fmt: skip
    try:
        actors = Actors(models=count, gpus=bench.gpus, cpus=1, scorers=1)
        with (
            mock.patch("harness.cluster.executor.refuse_strangers"),  # no page is rendered: no browser is needed
            contextlib.redirect_stdout(sys.stderr),
            RayExecutor(None, actors, print) as executor,
        ):
            yield executor
    finally:
        ray.shutdown()


def by_ray(bench: Bench, generator: Any, count: int, kill_after: float | None = None) -> tuple[Answers, float]:
    """Answers and seconds with `count` replicas, warm; the last of them is killed that many seconds after the start."""
    import ray

    with replicas(bench, count) as executor:
        list(executor.decode(generator, bench.wanted(generator, 4 * count)))
        while any(worker.hello is not None for worker in executor._models._workers):  # the slower one loads still
            list(executor.decode(generator, bench.wanted(generator, 4 * count)))
        prompts = bench.wanted(generator, bench.count)
        last = executor._models._workers[-1].actor
        killing = threading.Timer(kill_after or 0.0, ray.kill, (last,))
        started = time.perf_counter()
        if kill_after is not None:
            killing.start()
        found = [(place[0], answer) for place, answer in executor.decode(generator, prompts)]
        seconds = time.perf_counter() - started
    assert len(found) == len(dict(found)) == bench.count, "an answer is lost or doubled"
    return {name: answer.text for name, answer in found}, seconds


def part_ray(bench: Bench) -> dict[str, Any]:
    generator = bench.generator()
    speeds = {}
    for count in (1, 2):
        bench.undisturbed = by_ray(bench, generator, count)
        speeds[count] = 60 * bench.count / bench.undisturbed[1]
    return {"completions_per_minute": speeds, "speedup": round(speeds[2] / speeds[1], 3)}


def part_shard(bench: Bench) -> dict[str, Any]:
    """Each part in a process of its own with a GPU of its own, as `--shard` runs them."""
    bench.generator()  # writes the checkpoint
    speeds = {}
    for count in (1, 2):
        processes = []
        for number in range(1, count + 1):
            own = {"CUDA_VISIBLE_DEVICES": str(number - 1)} if bench.options.device == "cuda" else {}
            command = [
                sys.executable, __file__, *sys.argv[1:], "--one-shard", f"{number}/{count}", "--folder",
                str(bench.folder),
            ]  # fmt: skip
            processes.append(subprocess.Popen(command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True))
        reports = [json.loads(process.communicate()[0].strip().splitlines()[-1]) for process in processes]
        assert sum(report["answers"] for report in reports) == bench.count
        speeds[count] = 60 * bench.count / max(report["seconds"] for report in reports)
    return {"completions_per_minute": speeds, "speedup": round(speeds[2] / speeds[1], 3)}


def one_shard(bench: Bench, word: str) -> None:
    from harness.runs.shard import parse_shard

    generator = bench.generator()
    list(generator.decode(bench.wanted(generator, 4)))
    shard = parse_shard(word)
    mine = dict(list(bench.wanted(generator, bench.count).items())[shard.number - 1 :: shard.count])
    started = time.perf_counter()
    answers = sum(1 for _ in generator.decode(mine))
    say(answers=answers, seconds=time.perf_counter() - started)


def part_equal(bench: Bench) -> dict[str, Any]:
    generator = bench.generator(embedded=True)
    bench.count = min(bench.count, 256)
    prompts = bench.wanted(generator, bench.count)
    alone = {place[0]: stored.text for place, stored in generator.decode(prompts)}
    spread, _ = by_ray(bench, generator, 2)
    return {"rows": bench.count, "equal": sum(alone[name] == text for name, text in spread.items())}


def part_kill(bench: Bench) -> dict[str, Any]:
    """One of two replicas is killed half-way; `by_ray` sees to it that every answer comes once."""
    generator = bench.generator()
    undisturbed, seconds = bench.undisturbed or by_ray(bench, generator, 2)
    answers, disturbed = by_ray(bench, generator, 2, kill_after=seconds / 2)
    return {
        "seconds": {"undisturbed": seconds, "killed": disturbed}, "times": round(disturbed / seconds, 3),
        "rows": len(answers), "equal": sum(undisturbed[name] == text for name, text in answers.items()),
    }  # fmt: skip


def part_train(bench: Bench) -> dict[str, Any]:
    """One adapter by one process and by two: steady steps, and the whole training with its evaluations."""
    work, profile = _workplace(bench)
    _train(bench, work, profile, 2, model="warm")  # kernels are compiled once, not by who comes first
    records = {count: _train(bench, work, profile, count) for count in (1, 2)}
    speeds = {count: record["tokens"] / record["seconds"] for count, record in records.items()}
    steps = {count: step_seconds(bench.folder / f"cache-tuned-{count}-None") for count in (1, 2)}
    waits = {count: evaluation_seconds(bench.folder / f"cache-tuned-{count}-None") for count in (1, 2)}
    curves = {count: [point.get("loss") for point in record["curve"]] for count, record in records.items()}
    apart = max(
        abs(one - two) / abs(one) for one, two in zip(curves[1], curves[2], strict=True) if one is not None and two
    )
    return {
        "tokens_per_second": speeds, "speedup": round(speeds[2] / speeds[1], 3),
        "seconds": {count: record["seconds"] for count, record in records.items()},
        "step_seconds": {count: round(_middle(each), 4) for count, each in steps.items()},
        "steps_speedup": round(_middle(steps[1]) / _middle(steps[2]), 3), "loss_apart": round(apart, 5),
        "losses": curves, "all_step_seconds": steps, "evaluation_seconds": waits,
    }  # fmt: skip


def step_seconds(cache: Path) -> list[float]:
    """Return what each steady step took, by the clock of TensorBoard's entries.

    A step is logged when the next one has been handed to the GPU; left out are the first ones, which start everything
    up, and those beside an evaluation.
    """
    losses, evaluated = _logged(cache)
    beside = evaluated | {step + 1 for step in evaluated} | {step - 1 for step in evaluated}
    return [
        after - before for (_, before), (step, after) in pairwise(losses.items()) if step > WARM and step not in beside
    ]


def evaluation_seconds(cache: Path) -> list[float]:
    """Return what each evaluation but the last took: from its step's loss to the next one's, one step left out."""
    losses, evaluated = _logged(cache)
    step = _middle(step_seconds(cache))
    return [round(losses[one + 1] - losses[one - 1] - 2 * step, 3) for one in sorted(evaluated) if one + 1 in losses]


def _middle(seconds: list[float]) -> float:
    """Return the median, not a number where the tiny form makes no steady step."""
    return median(seconds) if seconds else math.nan


def _logged(cache: Path) -> tuple[dict[int, float], set[int]]:
    """Return when each step's loss was logged, in seconds, and which steps were followed by an evaluation."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (runs,) = cache.glob("adapters/*/runs")
    events = EventAccumulator(str(runs))
    events.Reload()
    times = {event.step: event.wall_time for event in events.Scalars("train/loss")}
    scored = "eval/task_score" in events.Tags()["scalars"]
    return times, {event.step for event in events.Scalars("eval/task_score")} if scored else set()


def part_resume(bench: Bench) -> dict[str, Any]:
    """A training begun with one process, killed and ended with two, and the other way round."""
    work, profile = _workplace(bench)
    return {
        f"{first} then {second}": _train(bench, work, profile, first, then=second)["steps"]
        for first, second in ((1, 2), (2, 1))
    }


def _workplace(bench: Bench) -> tuple[Path, str]:
    """A working folder with a profile of what is trained, and that profile's name."""
    bench.generator()
    work = bench.folder / "work"
    for name in ("tasks", "baselines"):
        shutil.copytree(ROOT / name, work / name, dirs_exist_ok=True)
    profile = "smollm2-135m" if bench.options.tiny else "shape"
    if not bench.options.tiny:
        shutil.copytree(work / "baselines" / "llama-2-7b", work / "baselines" / "shape", dirs_exist_ok=True)
        file = work / "baselines" / "shape" / "profile.yaml"
        written = yaml.safe_load(file.read_text()) | {"weights": {"folder": str(bench.checkpoint)}}
        file.write_text(yaml.safe_dump(written, sort_keys=False))
    file = work / "baselines" / profile / "tuned.yaml"
    training = yaml.safe_load(file.read_text())["train"]
    training["sft"] |= {"save_steps": 1 if bench.options.tiny else 5, "report_to": "tensorboard"}
    if bench.options.tiny:
        training["rows"] = 8
        training["sft"] |= {"max_length": 96, "gradient_accumulation_steps": 4}
    file.write_text(yaml.safe_dump({"train": training}))
    short = {**training, "sft": {**training["sft"], "max_steps": WARM}}
    if "evaluation" in training:
        short["evaluation"] = {**training["evaluation"], "every": 2}
    file.with_name("warm.yaml").write_text(yaml.safe_dump({"train": short}))
    return work, profile


def _train(
    bench: Bench, work: Path, profile: str, count: int, then: int | None = None, model: str = "tuned"
) -> dict[str, Any]:
    """Train with `count` processes; with `then`, kill it at its first checkpoint and end it with another number."""
    cache = bench.folder / f"cache-{model}-{count}-{then}"
    environment = {**os.environ, "HARNESS_CACHE": str(cache)}
    say(begins=f"{model}, {count} processes", gpu_memory=gpu_memory(bench.options.device))
    with _launched(bench, work, profile, count, environment, model) as first:
        if then is not None:
            while first.poll() is None and not list(cache.glob("**/checkpoint-*/complete")):
                time.sleep(0.2)
            if first.poll() is not None:
                raise RuntimeError(f"training ended with {first.returncode} before it could be killed")
        else:
            _succeed(first, count)
    if then is not None:
        with _launched(bench, work, profile, then, environment, model) as second:
            _succeed(second, then)
    (record,) = cache.glob("adapters/*/training.json")  # one adapter, whoever many processes made it
    found: dict[str, Any] = json.loads(record.read_text())
    return found


def _succeed(training: subprocess.Popen[str], count: int) -> None:
    if training.wait() != 0:
        raise RuntimeError(f"training with {count} processes ended with {training.returncode}")


@contextlib.contextmanager
def _launched(
    bench: Bench, work: Path, profile: str, count: int, environment: dict[str, str], model: str
) -> Iterator[subprocess.Popen[str]]:
    """A training at work; whatever it started is killed when it is left."""
    training = _launch(bench, work, profile, count, environment, model)
    try:
        yield training
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(training.pid)
            for process in (*launcher.children(recursive=True), launcher):
                process.kill()
        training.wait()


def _launch(
    bench: Bench, work: Path, profile: str, count: int, environment: dict[str, str], model: str
) -> subprocess.Popen[str]:
    # without GPUs --multi_gpu starts gloo processes; --cpu would start one process, whatever their number
    how = ["--multi_gpu"] if count > 1 else ["--cpu"] if bench.options.device == "cpu" else []
    data = [] if bench.options.rows is None else ["--data", f"html_alpaca={bench.options.rows.resolve()}"]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", *how, "--num_machines", "1", "--num_processes", str(count),
        "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "harness", "train", model, "--profile", profile,
        *data,
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=work, env=environment, text=True, stdout=sys.stderr, start_new_session=True)


def machine(device: str) -> str:
    """Names the accelerators without touching them from this process."""
    return f"{os.cpu_count()} CPUs" if device == "cpu" else _of_gpus("name")


def gpu_memory(device: str) -> str:
    """Return what is taken of each GPU's memory: of what came before nothing should be left."""
    return "" if device == "cpu" else _of_gpus("memory.used")


def _of_gpus(what: str) -> str:
    ask = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
    return ", ".join(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split("\n")[:-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a folder with Llama-2's tokenizer; not needed with --tiny")
    parser.add_argument("--rows", type=Path, help="html_alpaca's rows; not needed with --tiny")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the embedded model and a dozen prompts")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--weights", type=Path, help="a folder to keep the random weights in")
    parser.add_argument("--one-shard", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokenizer is None and not options.tiny:
        parser.error("--tokenizer is needed without --tiny")
    if options.one_shard:
        one_shard(Bench(options, options.folder), options.one_shard)
        return 0
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with what was started
    say(machine=machine(options.device))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        for part in options.parts.split(","):
            started = time.perf_counter()
            try:
                found = globals()[f"part_{part}"](bench)
            except Exception as error:  # the other parts are still worth their time
                found, failed = {"failed": f"{type(error).__name__}: {error}"[:300]}, failed + 1
            say(part=part, took=round(time.perf_counter() - started, 1), **found)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
