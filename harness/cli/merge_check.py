"""`train --merge`: a merged model, measured against the adapter that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.model.profile import MERGED_RECORD
from harness.pipeline.config import RunConfig
from harness.progress import ProgressReporter
from harness.runs.pairs import Pair
from harness.runs.read import read_run
from harness.runs.run import Run
from harness.runs.samples import TaskKey
from harness.runs.summary import DifferenceEntry, SectionDifference
from harness.storage.outputs import rewrite_output


def say_how_far_it_moved(model: str, out: Path, config: RunConfig, reporter: ProgressReporter) -> None:
    """Measure adapter and merged model on the profile's held-out tasks; print the differences and record them.

    `config` is the training's; its run compares `model` with the folder `out`.
    """
    from dataclasses import replace

    from harness.pipeline.run import run

    measured = read_run(run(replace(config, models=(model, str(out))), reporter))
    pair = Pair(out.resolve().name, model)
    moved = {suite: _moved(found.pairs[pair]) for suite, found in measured.summary.suites.items()}
    same, answers = _same_answers(measured, pair)
    record = json.loads((out / MERGED_RECORD).read_text(encoding="utf-8"))
    kept = {"difference", "low", "high", "n"}
    written = {
        suite: {m: entry.model_dump(include=kept) for m, entry in found.items()} for suite, found in moved.items()
    }
    record |= {"run": measured.path.name, "same_answers": same, "answers": answers, "moved": written}
    rewrite_output(out, MERGED_RECORD, json.dumps(record, indent=1))
    reporter.say(f"merged model: {out}; {same} of {answers} answers are those of base and adapter, to the letter")
    for suite, by_metric in moved.items():
        for metric in measured.summary.primary or ():
            found = by_metric.get(metric)
            if found is not None and found.difference is not None:
                reporter.say(
                    f"  {suite}, {metric}: {found.difference:+.3g} by merging "
                    f"(95 %: {found.low:+.3g} to {found.high:+.3g}, {found.n} tasks)"
                )


def _moved(pair: Mapping[str, DifferenceEntry]) -> dict[str, SectionDifference]:
    """Turn adapter − merged into merged − adapter."""

    def minus(value: float | None) -> float | None:
        return None if value is None else 0.0 - value

    return {
        metric: SectionDifference(difference=minus(e.difference), low=minus(e.high), high=minus(e.low), n=e.n)
        for metric, e in pair.items()
    }


def _same_answers(run: Run, pair: Pair) -> tuple[int, int]:
    answers: dict[TaskKey, dict[str, str]] = {}
    for row in run.rows:
        answers.setdefault(row.of_task, {})[row.model] = row.completion
    return sum(found[pair.first] == found[pair.second] for found in answers.values()), len(answers)
