"""Holds the weights that the task chose against those of the last step: one training per seed keeps both.

    python benchmarks/dev_evaluation.py [--seeds 3] [--rows 48] [--epochs 2] [--every 3] [--development 16] [--tasks 48]
                                 [--json FILE]

Each training is `tuned-best-step` of the embedded profile with these sizes, and is evaluated every `--every` steps.
Both adapters answer the same held-out tasks of html_starter; answers are scored as in a run, with Nu and the browser.
Printed are the steps that were kept, all evaluations, and for the primary metrics the paired difference best − last
with its 95 % interval: over tasks and trainings, and over tasks for each training alone. A call that was
cut off goes on where it was. Exits with 1 where an interval over tasks and trainings lies below zero.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.compare import summarise  # noqa: E402
from harness.generate.settings import GenerationSettings  # noqa: E402
from harness.generate.transformers.generator import Generator  # noqa: E402
from harness.metrics.registry import scorer_manifest  # noqa: E402
from harness.model.identity import adapter_hashes  # noqa: E402
from harness.model.load import choose_precision, load_model  # noqa: E402
from harness.model.profile import EMBEDDED_PROFILE, base_weights, load_profile, resolve_model  # noqa: E402
from harness.model.prompt import PromptRenderer  # noqa: E402
from harness.pipeline.dev_evaluation import set_up_evaluation  # noqa: E402
from harness.render import Renderer  # noqa: E402
from harness.runs.manifest import ScorerEntry  # noqa: E402
from harness.runs.pairs import Pair  # noqa: E402
from harness.runs.samples import SampleRecord  # noqa: E402
from harness.scoring.scorer import Scorer  # noqa: E402
from harness.storage.cache import cache_folder  # noqa: E402
from harness.suite.load import find_suite, load_suite  # noqa: E402
from harness.suite.split import stratified  # noqa: E402
from harness.train.evaluation import LAST  # noqa: E402
from harness.train.job import TrainingJob  # noqa: E402
from harness.train.sft import train_adapter  # noqa: E402
from harness.types import Completion, Task  # noqa: E402

PAIR = Pair("last", "best")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("seeds", 3), ("rows", 48), ("epochs", 2), ("every", 3), ("development", 16), ("tasks", 48)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench(options)
    trainings: list[dict[str, Any]] = []
    work: list[tuple[Task, Completion]] = []
    for seed in range(options.seeds):
        facts, answers = bench.train_and_answer(seed)
        trainings.append(facts)
        work += answers
        print(json.dumps(facts), flush=True)
    rows = list(score(bench.suite.name, work))
    pairs = compared(rows)
    found = {"arguments": vars(options) | {"json": None}, "trainings": trainings, "pairs": pairs}
    print(json.dumps(pairs, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return int(any(metric["high"] is not None and metric["high"] < 0 for metric in pairs["all"].values()))


class Bench:
    """The embedded model, its suite and the settings of the trainings."""

    def __init__(self, options: argparse.Namespace) -> None:
        profile = load_profile(EMBEDDED_PROFILE, ROOT / "baselines")
        written = resolve_model("tuned-best-step", profile, ROOT / "baselines").file.train
        assert written is not None and written.evaluation is not None
        evaluation = {"every": options.every, "rows": options.development, "patience": None, "batch_size": 16}
        self.training = written.model_copy(
            update={
                "rows": options.rows,
                "sft": written.sft | {"num_train_epochs": options.epochs},
                "evaluation": written.evaluation.model_copy(update=evaluation),
            }
        )
        self.loaded = load_model(base_weights(profile), choose_precision("none", "float32"))
        self.suite = load_suite(find_suite(str(ROOT / "tasks" / profile.file.suites[0])))
        self.tasks = stratified(self.suite.held_out, options.tasks)
        renderer = PromptRenderer(profile.file.prompt, profile.file.chat, self.loaded.tokenizer)
        settings = GenerationSettings(profile.file.max_new_tokens or 384, profile.file.batch_size)
        self.generator = Generator("", self.loaded, renderer, settings)

    def train_and_answer(self, seed: int) -> tuple[dict[str, Any], list[tuple[Task, Completion]]]:
        """Train with this seed; return what happened, and the answers of the best and of the last weights."""
        training = self.training.model_copy(update={"seed": seed})
        assert training.evaluation is not None
        rows, evaluation = set_up_evaluation(
            training.evaluation, self.suite, self.generator, lambda line: print(line, flush=True)
        )
        trained = train_adapter(
            TrainingJob(self.loaded, self.generator.renderer, training, stratified(rows, training.rows), evaluation)
        )
        last = trained.folder / LAST if (trained.folder / LAST).exists() else trained.folder
        by_id = {task.id: task for task in self.tasks}
        answers = []
        for name, folder in (("best", trained.folder), ("last", last)):
            sha256 = adapter_hashes(folder).identity
            own = replace(self.generator, name=f"{name}#seed{seed}", adapter_folder=folder, adapter_sha256=sha256)
            answers += [(by_id[done.task], done) for done in own.complete(self.tasks)]
        evaluations = {point.step: dict(point.scores) for point in trained.curve if point.scores}
        facts = {"seed": seed, "steps": trained.steps, "seconds": trained.seconds, **(trained.evaluation or {})}
        return facts | {"loss": [point.loss for point in trained.curve], "evaluations": evaluations}, answers


def score(suite: str, work: Sequence[tuple[Task, Completion]]) -> Iterator[SampleRecord]:
    """Yield scored rows; pictures are not kept."""
    with Renderer(cache_dir=cache_folder("renders")) as renderer:
        for chunk in Scorer(suite, renderer, lambda _, name: name).rows(work):
            yield from chunk


def compared(rows: Sequence[SampleRecord]) -> dict[str, dict[str, Any]]:
    """Return best − last for each primary metric: under `all` over tasks and trainings, and for each training alone."""
    seeds = sorted({row.model.partition("#")[2] for row in rows})
    parts = {"all": list(rows)}
    for seed in seeds:
        own = [row for row in rows if row.model.endswith(f"#{seed}")]
        parts[seed] = [row.with_(model=row.model.partition("#")[0]) for row in own]
    return {name: _primaries(part) for name, part in parts.items()}


def _primaries(rows: Sequence[SampleRecord]) -> dict[str, Any]:
    scorers = {name: ScorerEntry.model_validate(facts) for name, facts in scorer_manifest().items()}
    summary = summarise(rows, scorers, pairs=[PAIR])
    (suite,) = summary.suites.values()
    found = {}
    for metric in summary.primary or ():
        pair, means = suite.pairs[PAIR].get(metric), suite.metrics[metric]
        if pair is not None:
            kept = pair.model_dump(include={"difference", "low", "high", "p", "n"})
            found[metric] = {name: means[name].mean for name in PAIR} | kept
    return found


if __name__ == "__main__":
    sys.exit(main())
