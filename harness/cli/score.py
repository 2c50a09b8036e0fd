"""`score`: a run whose answers were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DataOption, FullOption, LimitOption, RunNameOption, SplitOption
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.pipeline.config import RunPlan
    from harness.progress import ProgressReporter


def score(
    suite: Annotated[str, typer.Argument(help="The name or folder of the suite that was answered.")],
    outputs: Annotated[
        Path, typer.Argument(metavar="OUTPUTS.jsonl", help='A line each: {"task", "completion", "model"?, "sample"?}.')
    ],
    data: DataOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    full: FullOption = False,
    name: RunNameOption = None,
) -> None:
    """Score, compare and report completions made elsewhere."""
    from harness.pipeline.config import RunConfig, resolve_given
    from harness.pipeline.data_option import parse_data_options
    from harness.pipeline.run import carry_out
    from harness.progress import ProgressReporter

    reporter = ProgressReporter()
    config = RunConfig(
        suites=(suite,),
        data=parse_data_options(data or []),
        split=tuple(split or ()),
        limit=limit,
        full=full,
        name=name,
    )
    plan = resolve_given(config, outputs)
    _say_what_is_missing(plan, outputs, reporter)
    carry_out(plan, reporter)


def _say_what_is_missing(plan: RunPlan, outputs: Path, reporter: ProgressReporter) -> None:
    from harness.generate.completions_file import answers_of, read_answers

    file = read_answers(outputs)
    if file.torn:
        reporter.say(f"{outputs}: the last line is torn and left out")
    for shown, written in file.written.items():
        if shown != written:
            reporter.say(f"{outputs}: the model {written} is called {shown} here, for a colon parts RUN from MODEL")
    (measured,) = plan.measured
    wanted = {(task.id, sample) for task in measured.tasks for sample in range(plan.config.samples)}
    for spec in plan.specs:
        answered = set(answers_of(spec.name, file))
        missing = sorted(wanted - answered)
        if len(missing) == len(wanted):
            raise UsageError(f"{outputs} answers none of the {len(measured.tasks)} measured tasks", "try --full")
        if missing:
            first = ", ".join(task for task, _ in missing[:3])
            reporter.say(f"{spec.name}: {len(missing)} of {len(wanted)} answers are missing, not measured: {first} …")
        if answered - wanted:
            reporter.say(
                f"{spec.name}: {len(answered - wanted)} answers are to tasks that are not measured: see --full"
            )
