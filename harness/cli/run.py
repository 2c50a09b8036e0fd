"""`run`: everything, from the fine-tuning to the report."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import (
    MACHINES,
    AddressOption,
    DataOption,
    FullOption,
    LimitOption,
    ProfileOption,
    QuantizationOption,
    RunNameOption,
    SplitOption,
    TrainOnOption,
    WeightsOption,
    words,
)
from harness.cluster.actors import Actors, ExecutorName, parse_actors
from harness.runs.shard import Shard, parse_shard

_ANSWERS = "How models are trained and answer"


def run(
    models: Annotated[
        str,
        typer.Option(help="Model files of the profile, profile/model paths, model and adapter folders, hub ids."),
    ] = "base,base-fewshot,tuned",
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    suites: Annotated[str | None, typer.Option(help="Names or folders of suites. Default: the profile's.")] = None,
    train_on: TrainOnOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    full: FullOption = False,
    name: RunNameOption = None,
    samples: Annotated[
        int, typer.Option(min=1, rich_help_panel=_ANSWERS, help="Completions for each task; needs --temperature.")
    ] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, rich_help_panel=_ANSWERS, help="0 is greedy.")] = 0.0,
    seeds: Annotated[
        int, typer.Option(min=1, rich_help_panel=_ANSWERS, help="Fine-tune so many times with different seeds.")
    ] = 1,
    quantization: QuantizationOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", rich_help_panel=_ANSWERS, help="Generate anew what the store already holds.")
    ] = False,
    check_batch: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=_ANSWERS,
            help="Also decode N tasks alone, to count answers that depend on the batch.",
        ),
    ] = 0,
    shard: Annotated[
        Shard | None,
        typer.Option(
            parser=parse_shard,
            metavar="I/N",
            rich_help_panel=MACHINES,
            help="Measure the I-th of N parts; `report RUN` puts the parts together.",
        ),
    ] = None,
    executor: Annotated[
        ExecutorName, typer.Option(rich_help_panel=MACHINES, help="`ray`: on the machines of a Ray cluster.")
    ] = "local",
    address: AddressOption = None,
    actors: Annotated[
        Actors | None,
        typer.Option(
            parser=parse_actors,
            metavar="NAME=N,…",
            rich_help_panel=MACHINES,
            help="Ray's workers: models, gpus and cpus of each, scorers, browsers.",
        ),
    ] = None,
) -> None:
    """Fine-tune, generate, score, compare and report.

    The same command again goes on where it was.
    """
    from harness.pipeline.config import RunConfig
    from harness.pipeline.data_option import parse_data_options
    from harness.pipeline.run import run as run_all

    run_all(
        RunConfig(
            models=words(models, "--models"),
            profile=profile,
            weights=words(weights, "--weights"),
            suites=words(suites, "--suites"),
            train_on=train_on,
            data=parse_data_options(data or []),
            split=tuple(split or ()),
            limit=limit,
            full=full,
            name=name,
            samples=samples,
            temperature=temperature,
            seeds=seeds,
            fresh=fresh,
            quantization=quantization,
            shard=shard,
            check_batch=check_batch,
            executor=executor,
            address=address,
            actors=actors or Actors(),
        )
    )
