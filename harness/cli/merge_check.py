"""`train --merge`: a merged model, measured against the adapter that it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.model.profile import MERGED_RECORD
from harness.pipeline.config import RunConfig
from harness.progress import ProgressReporter
from harness.storage.jsonl import read_lines
from harness.storage.outputs import rewrite_output


def say_how_far_it_moved(model: str, out: Path, config: RunConfig, reporter: ProgressReporter) -> None:
    """Measure adapter and merged model on the profile's held-out tasks; print the differences and record them.

    `config` is the training's; its run compares `model` with the folder `out`.
    """
    from dataclasses import replace

    from harness.pipeline.run import run

    folder = run(replace(config, models=(model, str(out))), reporter)
    merged = out.resolve().name
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    moved = {suite: _moved(found["pairs"][f"{merged}:{model}"]) for suite, found in summary["suites"].items()}
    same, answers = _same_answers(folder, model, merged)
    record = json.loads((out / MERGED_RECORD).read_text(encoding="utf-8"))
    record |= {"run": folder.name, "same_answers": same, "answers": answers, "moved": moved}
    rewrite_output(out, MERGED_RECORD, json.dumps(record, indent=1))
    reporter.say(f"merged model: {out}; {same} of {answers} answers are those of base and adapter, to the letter")
    for suite, by_metric in moved.items():
        for metric in summary["primary"]:
            found = by_metric.get(metric)
            if found is not None and found["difference"] is not None:
                reporter.say(
                    f"  {suite}, {metric}: {found['difference']:+.3g} by merging "
                    f"(95 %: {found['low']:+.3g} to {found['high']:+.3g}, {found['n']} tasks)"
                )


def _moved(pair: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Turn adapter − merged into merged − adapter."""

    def minus(value: float | None) -> float | None:
        return None if value is None else 0.0 - value

    return {
        metric: {
            "difference": minus(found["difference"]),
            "low": minus(found["high"]),
            "high": minus(found["low"]),
            "n": found["n"],
        }
        for metric, found in pair.items()
    }


def _same_answers(folder: Path, model: str, merged: str) -> tuple[int, int]:
    answers: dict[tuple[str, str], dict[str, str]] = {}
    for row in read_lines(folder / "samples.jsonl"):
        answers.setdefault((row["suite"], row["task"]), {})[row["model"]] = row["completion"]
    return sum(found[model] == found[merged] for found in answers.values()), len(answers)
